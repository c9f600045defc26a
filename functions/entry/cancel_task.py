"""cancel_task: a user ends a task of their own. A worker that runs it learns by its next heartbeat
that it has lost its lease."""

from typing import Any

from functions.core import events
from functions.core.answers import Cancelled
from functions.core.states import State
from functions.entry import auth
from functions.entry.app import App
from functions.entry.fields import task_id_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError


def respond(app: App, request: Any) -> Response:
    """POST {task_id, watch?}: 200 {task_id, state}, also when it was cancelled before; 409 ended
    otherwise; 404."""
    user, fields = auth.user(app, request), body(request)
    watch = watch_of(app.policy, fields)
    task_id = task_id_of(watch, fields.get("task_id"))
    answer = app.store.cancel(watch, task_id, owner=user)
    if answer is None:
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    if isinstance(answer, Cancelled):
        about = {"watch": watch.name, "by": "cancel", "cause": None}
        events.emit(events.TASK_FINISHED, **vars(answer) | about)
    elif answer.state is not State.CANCELLED:
        text = f"The task has ended already: it is {answer.state}."
        raise BadRequestError(text, status=409, code="ended", task_id=task_id, state=answer.state)
    return reply({"task_id": task_id, "state": answer.state})
