"""YOUR CODE goes here: a module for each kind of task, named as it. `image` and `selection` are
samples.

    # functions/handlers/thumbnail.py
    def handle(ctx: Context, task_input: dict[str, Any]) -> dict[str, Any]:
        upload = ctx.done("uploaded") or send_it(task_input["url"], timeout=min(9, ctx.remaining()))
        ctx.checkpoint("uploaded", upload)  # from here on, no later attempt repeats it
        ctx.progress(0.5, "uploaded")
        return {"thumbnail": shrink(upload)}  # JSON in, JSON out

Returning completes the task. `raise Retry("The service is busy.", after=30)` tries it again while
attempts are left, `raise Fail("The prompt is empty.")` ends it now. Both texts are shown to the
user, `detail=` is for the operator. Any other exception ends it as the rule of its watch says.

A handler runs in a child process that is killed at the deadline, so it can end at any line:
checkpoint after each step that costs money, send the task's id as idempotency key, and give every
request a time limit."""
