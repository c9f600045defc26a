"""Handlers that log, in a module that is loaded in no time: a child loads it before it works."""


def logs(ctx, task_input):
    ctx.logger.warning("half of %s", "it", extra={"labels": {"step": "one"}})
