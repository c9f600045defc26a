"""A bare function, to compare with."""


def hello(request):
    return "hello"


def nothing(ctx, task_input):
    return {"done": True}
