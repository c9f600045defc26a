"""claim_task: a worker elsewhere takes a task by HTTP."""

from math import ceil
from typing import Any

from functions.core.answers import Claimed, ClaimRefusal
from functions.core.policy import Watch, policy
from functions.entry import auth
from functions.entry.fields import task_id_of, token_of, watch_of
from functions.entry.http import Response, body, reply, text
from functions.errors import BadRequestError
from functions.store import store
from functions.worker.claim import claim


def respond(request: Any) -> Response:
    """POST {worker_id, kinds?, task_id?, token?, watch?}: 200 with the task, or with `"task": null`
    when none is due.

    For one given task also 404, and 409 held, early, ended or resting.
    """
    auth.machine(request)
    found = body(request)
    watch = watch_of(policy(), found)
    task_id = None if found.get("task_id") is None else task_id_of(watch, found["task_id"])
    worker = text(found, "worker_id")
    if not worker:
        raise BadRequestError(
            "`worker_id` is missing. Send a name by which a person finds this worker."
        )
    token = None if found.get("token") is None else token_of(found)
    answer = claim(store(), watch, task_id, _kinds(found.get("kinds")), worker=worker, token=token)
    if isinstance(answer, Claimed):
        return reply({"task": _task(watch, answer)})
    if answer.verdict is ClaimRefusal.NONE:
        return reply({"task": None})
    if answer.verdict is ClaimRefusal.MISSING:
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    wait = {"Retry-After": str(ceil(answer.retry_after))} if answer.retry_after else {}
    raise BadRequestError(
        f"The task is not to be had: {answer.verdict}.",
        status=409,
        code=answer.verdict,
        headers=wait,
        task_id=task_id,
        state=answer.state,
    )


def _kinds(value: Any) -> list[str] | None:
    wanted = value is None or (isinstance(value, list) and 0 < len(value) <= 100)
    if not wanted or not all(isinstance(one, str) and len(one) <= 200 for one in value or []):
        raise BadRequestError("`kinds` must be a list of 1 to 100 names of kinds.")
    return value


def _task(watch: Watch, answer: Claimed) -> dict[str, Any]:
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
        "beat_every": policy().beat,
        "deadline": rule.run_for,
    }
