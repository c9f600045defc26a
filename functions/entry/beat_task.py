"""beat_task: a worker elsewhere says that it lives, how far it is, and what it has finished. The
heartbeats of our own workers are sent by worker/guard.py."""

from typing import Any

from functions.core import events
from functions.core.answers import Held, Lost
from functions.entry import auth
from functions.entry.app import App
from functions.entry.complete_task import lease_lost
from functions.entry.fields import task_id_of, token_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError

MAX_CHECKPOINTS = 20
"""In one call: each is a write of its own."""


def respond(app: App, request: Any) -> Response:
    """POST {task_id, token, progress?, checkpoint?: {name: data}, watch?}: 200 held, or 409 lost
    with the reason."""
    auth.machine(app, request)
    fields = body(request)
    watch = watch_of(app.policy, fields)
    task_id, token = task_id_of(watch, fields.get("task_id")), token_of(fields)
    progress, steps = _object(fields, "progress"), _object(fields, "checkpoint") or {}
    if len(steps) > MAX_CHECKPOINTS:
        raise BadRequestError(f"`checkpoint` may hold {MAX_CHECKPOINTS} steps at most.")
    answer: Held | Lost = Held()
    for name, data in steps.items():
        answer = app.store.checkpoint(watch, task_id, token, name, data)
        if isinstance(answer, Lost):
            break
    if isinstance(answer, Held) and (progress or not steps):
        answer = app.store.beat(watch, task_id, token, progress)
    if isinstance(answer, Lost):
        about = {
            "watch": watch.name,
            "task_id": task_id,
            "wanted": "checkpoint" if steps else "beat",
        }
        events.emit(events.LEASE_LOST, **vars(answer) | about)
        raise lease_lost(task_id, answer)
    return reply({"verdict": answer.verdict})


def _object(fields: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadRequestError(f"`{name}` must be a JSON object.")
    return value
