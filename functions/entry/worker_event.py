"""worker_event: the same as worker, for a push of Pub/Sub."""

import base64
import json
import traceback
from typing import Any

from werkzeug.exceptions import InternalServerError

from functions.core import events, trace
from functions.entry import auth
from functions.entry.app import App
from functions.entry.worker import AGAIN, HELD, run, status_of
from functions.errors import BadRequestError, PolicyError, StoreError


class RedeliverError(InternalServerError):
    """The message must come again: a live attempt holds the task, or its end is not written. As an
    answer of HTTP, so that Flask does not print a traceback of it, line by line."""


def receive(app: App, event: Any) -> None:
    """Returns when the message is done with; raises to have it delivered again.

    A message that names no task is done with: it would name none the next time either, and the
    sweep pushes a task that waits."""
    from flask import has_request_context, request

    called = has_request_context()
    headers: Any = request.headers if called else {}
    token = trace.current.set(trace.of(headers, app.settings.project))
    try:
        if called:
            _admit(app, request)
        _receive(app, event)
    finally:
        trace.current.reset(token)


def _admit(app: App, request: Any) -> None:
    """A push that may not call is answered by its status, and so delivered again."""
    from flask import abort

    try:
        auth.machine(app, request)
    except BadRequestError as error:
        events.emit(
            events.REQUEST_REFUSED, entry="worker_event", status=error.status, reason=error.code
        )
        abort(error.status)
    except PolicyError as error:
        events.emit(events.REQUEST_FAILED, entry="worker_event", error=str(error), detail=None)
        raise RedeliverError("the configuration cannot be used") from None


def _receive(app: App, event: Any) -> None:
    try:
        task_id, answer = run(app, _message(event))
    except BadRequestError as error:
        events.emit(
            events.REQUEST_FAILED, entry="worker_event", error=error.message, detail=error.code
        )
        return
    except Exception as error:  # noqa: BLE001 - the log gets an event, as for the others
        expected = isinstance(error, StoreError | PolicyError)
        events.emit(
            events.REQUEST_FAILED,
            entry="worker_event",
            error=str(error) if expected else repr(error),
            detail=None if expected else traceback.format_exc(),
        )
        raise RedeliverError("the task could not be run") from None
    if status_of(answer) in {HELD, AGAIN}:
        raise RedeliverError(f"task {task_id}: {answer.verdict}")


def _message(event: Any) -> Any:
    try:
        return json.loads(base64.b64decode(event.data["message"]["data"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise BadRequestError('The message must hold {"task_id": "..."}.') from None
