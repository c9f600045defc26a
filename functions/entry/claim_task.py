"""claim_task: a worker elsewhere takes a task by HTTP."""

from math import ceil
from typing import Any

from functions.core.answers import Claimed, ClaimRefusal
from functions.core.policy import Watch
from functions.entry import auth
from functions.entry.app import App
from functions.entry.fields import task_id_of, token_of, watch_of
from functions.entry.http import Response, body, reply, text
from functions.errors import BadRequestError
from functions.worker.claim import claim

MAX_KINDS = 100
"""That one claim may name."""


def respond(app: App, request: Any) -> Response:
    """POST {worker_id, kinds?, task_id?, token?, watch?}: 200 with the task, or with `"task": null`
    when none is due.

    With a `task_id` also 404, and 409 held, early, ended, resting or elsewhere (not of `kinds`).
    """
    auth.machine(app, request)
    fields = body(request)
    watch = watch_of(app.policy, fields)
    task_id = None if fields.get("task_id") is None else task_id_of(watch, fields["task_id"])
    worker = text(fields, "worker_id")
    if not worker:
        raise BadRequestError(
            "`worker_id` is missing. Send a name by which a person finds this worker."
        )
    token = None if fields.get("token") is None else token_of(fields)
    answer = claim(
        app.store, watch, task_id, _kinds(fields.get("kinds")), worker=worker, token=token
    )
    if isinstance(answer, Claimed):
        return reply({"task": _task(app, watch, answer)})
    wait = {"Retry-After": str(ceil(answer.retry_after))} if answer.retry_after else {}
    if task_id is None:
        held_up = {} if answer.verdict is ClaimRefusal.NONE else {"because": answer.verdict}
        return reply({"task": None, **held_up}, 200, **wait)
    if answer.verdict is ClaimRefusal.MISSING:
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    raise BadRequestError(
        f"The task is not to be had: {answer.verdict}.",
        status=409,
        code=answer.verdict,
        headers=wait,
        task_id=task_id,
        state=answer.state,
    )


def _kinds(value: Any) -> list[str] | None:
    if value is None:
        return None
    is_list = isinstance(value, list) and 0 < len(value) <= MAX_KINDS
    if not is_list or not all(isinstance(kind, str) and len(kind) <= 200 for kind in value):
        raise BadRequestError(f"`kinds` must be a list of 1 to {MAX_KINDS} names of kinds.")
    return list(value)


def _task(app: App, watch: Watch, answer: Claimed) -> dict[str, Any]:
    """All that a worker elsewhere needs. Times are seconds from now."""
    rule = watch.rule(answer.kind)
    return {
        "task_id": answer.task_id,
        "kind": answer.kind,
        "input": answer.input,
        "token": answer.token,
        "checkpoint": answer.checkpoint,
        "watch": watch.name,
        "attempt": answer.number,
        "attempts": rule.attempts,
        "lease": rule.lease,
        "beat_every": app.policy.beat,
        "deadline": rule.run_for,
    }
