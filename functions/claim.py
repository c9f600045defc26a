"""claim: makes a worker the holder of a task, or says why not. The guard's, and by HTTP that of workers elsewhere."""

import time
from math import ceil
from typing import Any

from functions import auth, events
from functions.errors import BadRequestError
from functions.ids import task_id_of, token_of, watch_of
from functions.instance import instance
from functions.policy import Watch
from functions.report import report
from functions.store import Answer, Store, policy, store
from functions.web import Response, body, reply, text

SOON = 5.0
"""A push that comes this many seconds early is waited for: the queue's clock is not the database's."""


def respond(request: Any) -> Response:
    """POST {worker_id, kinds?, task_id?, token?, watch?}: 200 with the task, or with `"task": null` when none is due.

    For one given task also 404, and 409 held, early, ended or resting.
    """
    auth.machine(request)
    found = body(request)
    watch = watch_of(policy(), found)
    task_id = None if found.get("task_id") is None else task_id_of(watch, found["task_id"])
    worker = text(found, "worker_id")
    if not worker:
        raise BadRequestError("`worker_id` is missing. Send a name by which a person finds this worker.")
    token = None if found.get("token") is None else token_of(found)
    answer = claim(store(), watch, task_id, _kinds(found.get("kinds")), worker=worker, token=token)
    if answer["verdict"] in {"claimed", "none"}:
        return reply({"task": _task(watch, answer) if answer["verdict"] == "claimed" else None})
    if answer["verdict"] == "missing":
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    wait = {"Retry-After": str(ceil(answer["retry_after"]))} if answer.get("retry_after") else {}
    raise BadRequestError(
        f"The task is not to be had: {answer['verdict']}.", status=409, code=answer["verdict"], headers=wait,
        task_id=task_id, state=answer["state"],
    )  # fmt: skip


def claim(
    store: Store,
    watch: Watch,
    task_id: str | None,
    kinds: list[str] | None = None,
    *,
    worker: str | None = None,
    token: str | None = None,
) -> Answer:
    """Verdict claimed, held, early, ended, resting, missing or none. Raises StoreError.

    `worker` is this one, unless the worker is elsewhere. `token` repeats a claim whose answer was lost.
    """
    worker = worker or instance()
    answer = store.claim(watch, task_id, worker, kinds, token)
    if answer["verdict"] == "early" and answer["retry_after"] <= SOON:
        time.sleep(answer["retry_after"])
        answer = store.claim(watch, task_id, worker, kinds, token)
    report(watch, answer.get("rescued") or [], by="claim")
    _say(watch, task_id, worker, answer)
    return answer


def _kinds(value: Any) -> list[str] | None:
    wanted = value is None or (isinstance(value, list) and 0 < len(value) <= 100)
    if not wanted or not all(isinstance(one, str) and len(one) <= 200 for one in value or []):
        raise BadRequestError("`kinds` must be a list of 1 to 100 names of kinds.")
    return value


def _task(watch: Watch, answer: Answer) -> dict[str, Any]:
    """All that a worker elsewhere needs. Times are seconds from now."""
    rule = watch.rule(answer["kind"])
    return {name: answer[name] for name in ("task_id", "kind", "input", "token", "checkpoint")} | {
        "watch": watch.name, "attempt": answer["number"], "attempts": rule.attempts, "lease": rule.lease,
        "beat_every": policy().beat, "deadline": rule.run_for,
    }  # fmt: skip


def _say(watch: Watch, task_id: str | None, worker: str, answer: dict[str, Any]) -> None:
    known = {"watch": watch.name, "task_id": task_id, **answer}
    if answer["verdict"] == "claimed":
        events.emit(events.TASK_CLAIMED, worker=worker, **known)
    elif answer["verdict"] != "none":
        events.emit(events.CLAIM_REFUSED, **known)
