"""status: answers a poll for one task, and heals that task if it is overdue, whether or not the
scheduler lives."""

from typing import Any

from functions.core.policy import policy
from functions.core.report import report
from functions.entry import auth
from functions.entry.fields import task_id_of, watch_of
from functions.entry.http import Response, reply
from functions.errors import BadRequestError
from functions.store import store

SHOWN = ("task_id", "kind", "state", "result", "error", "reason", "due_in")


def respond(request: Any) -> Response:
    """GET ?task_id=...: 200 with the task, 404 when there is none, or none of this user."""
    user = auth.user(request)
    named = request.args.to_dict()
    watch = watch_of(policy(), named)
    task_id = task_id_of(watch, named.get("task_id") or request.path.strip("/"))
    answer = store().status(watch, task_id, owner=user)
    if answer["verdict"] == "missing":
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    report(watch, answer["rescued"], by="status")
    return reply(
        {name: answer[name] for name in SHOWN} | {"attempt": _attempt(answer["attempt"])},
        Cache_Control="no-store",
    )


def _attempt(attempt: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a user may know of the attempt: not the worker, not the technical detail."""
    return attempt and {
        name: attempt[name]
        for name in ("number", "of", "progress", "outcome", "reason", "started_at")
    }
