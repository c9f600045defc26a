"""The handlers of the tests of entry points."""

import time

from functions.errors import Fail, Retry


def returns(ctx, task_input):
    return {"attempt": ctx.attempt, "picture": "a.png"}


def asks_again(ctx, task_input):
    raise Retry("The provider is busy.", detail="too many requests of ours", after=60)


def gives_up(ctx, task_input):
    raise Fail("The picture cannot be drawn.", detail="the provider said 400")


def breaks(ctx, task_input):
    ctx.progress(0.5, "half of it")
    raise ValueError("a bug in the handler")


def works_on(ctx, task_input):
    while not ctx.cancelled():
        time.sleep(0.01)


HANDLERS = (returns, asks_again, gives_up, breaks, works_on)
