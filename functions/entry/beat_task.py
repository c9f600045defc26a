"""beat: a worker elsewhere says that it lives, how far it is, and what it has finished. The guard's
own beat is in guard.py."""

from typing import Any

from functions.core import events
from functions.core.answers import Held, Lost
from functions.core.policy import policy
from functions.entry import auth
from functions.entry.complete_task import lease_lost
from functions.entry.fields import task_id_of, token_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError
from functions.store import store

MOST = 20
"""Checkpoints in one call: each is a write of its own."""


def respond(request: Any) -> Response:
    """POST {task_id, token, progress?, checkpoint?: {name: data}, watch?}: 200 held, or 409 lost
    with the reason."""
    auth.machine(request)
    found = body(request)
    watch = watch_of(policy(), found)
    task_id, token = task_id_of(watch, found.get("task_id")), token_of(found)
    progress, steps = _object(found, "progress"), _object(found, "checkpoint") or {}
    if len(steps) > MOST:
        raise BadRequestError(f"`checkpoint` may hold {MOST} steps at most.")
    answer: Held | Lost = Held()
    for name, data in steps.items():
        answer = store().checkpoint(watch, task_id, token, name, data)
        if isinstance(answer, Lost):
            break
    if isinstance(answer, Held) and (progress or not steps):
        answer = store().beat(watch, task_id, token, progress)
    if isinstance(answer, Lost):
        wanted = "checkpoint" if steps else "beat"
        about = {"watch": watch.name, "task_id": task_id, "wanted": wanted}
        events.emit(events.LEASE_LOST, **vars(answer) | about)
        raise lease_lost(task_id, answer)
    return reply({"verdict": answer.verdict})


def _object(found: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = found.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadRequestError(f"`{name}` must be a JSON object.")
    return value
