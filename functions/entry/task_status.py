"""task_status: answers a poll for one task. If the task is overdue it is settled first, so that a
poll rescues it even when no scheduler runs."""

from typing import Any

from functions.core.answers import LastAttempt
from functions.core.dispatch import pushes
from functions.core.report import report
from functions.entry import auth
from functions.entry.app import App
from functions.entry.fields import task_id_of, watch_of
from functions.entry.http import Response, reply
from functions.errors import BadRequestError


def respond(app: App, request: Any) -> Response:
    """GET ?task_id=...: 200 with the task, 404 when there is none, or none of this user."""
    user = auth.user(app, request)
    query = request.args.to_dict()
    watch = watch_of(app.policy, query)
    task_id = task_id_of(watch, query.get("task_id") or request.path.strip("/"))
    answer = app.store.status(watch, task_id, owner=user, pushes=pushes(app.dispatcher))
    if answer is None:
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    report(app.dispatcher, watch, answer.rescued, by="status")
    task = {
        "task_id": answer.task_id,
        "kind": answer.kind,
        "state": answer.state,
        "result": answer.result,
        "error": answer.error,
        "reason": answer.reason,
        "due_in": answer.due_in,
        "attempt": _attempt(answer.attempt),
    }
    return reply(task, Cache_Control="no-store")


def _attempt(attempt: LastAttempt | None) -> dict[str, Any] | None:
    """What a user may know of the attempt: not the worker, not the technical detail."""
    if attempt is None:
        return None
    return {
        "number": attempt.number,
        "of": attempt.of,
        "progress": attempt.progress,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "started_at": attempt.started_at,
    }
