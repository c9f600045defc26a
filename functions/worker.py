"""worker: receives a push and runs the task in the guard. The answer tells the queue the truth:
2xx only when the task is settled or safely pending again."""

import base64
import json
import traceback
from typing import Any

from functions import auth, events, shutdown, trace
from functions.errors import BadRequestError, PolicyError, StoreError
from functions.guard import guard
from functions.ids import task_id_of, watch_of
from functions.settings import settings
from functions.store import Answer, policy, store
from functions.web import Response, body, reply

HELD = 409
AGAIN = 503


def respond(request: Any) -> Response:
    """POST {task_id, watch?}: 200 settled, 404 unknown, 409 held by a live attempt (come again), 503 come again."""
    auth.machine(request)
    answer = _run(body(request))
    status = status_of(answer)
    shown = {name: answer.get(name) for name in ("task_id", "verdict", "state", "reason")}
    if status == 404:
        raise BadRequestError(f"There is no task {shown['task_id']}.", status=404, code="not_found")
    if status == 200:
        return reply(shown)
    error = {"code": answer["verdict"], "message": "The task is not at its end. Deliver it again."}
    return reply(shown | {"error": error}, status, Retry_After=str(int(answer.get("retry_after") or 1) + 1))


def receive(event: Any) -> None:
    """The same for a CloudEvent of Pub/Sub. Returns when the message is done with; raises to have it delivered again.

    A message that names no task is done with: no delivery mends it, and the sweep pushes a task that waits.
    """
    from flask import has_request_context, request

    called = has_request_context()
    headers: Any = request.headers if called else {}
    token = trace.current.set(trace.of(headers, settings().project))
    try:
        if called:
            _admit(request)
        _receive(event)
    finally:
        trace.current.reset(token)


def _admit(request: Any) -> None:
    """A push that may not call is answered by its status, and so delivered again."""
    from flask import abort

    try:
        auth.machine(request)
    except BadRequestError as error:
        events.emit(events.REQUEST_REFUSED, entry="worker_event", status=error.status, reason=error.code)
        abort(error.status)
    except PolicyError as error:
        events.emit(events.REQUEST_FAILED, entry="worker_event", error=str(error), detail=None)
        raise RedeliverError("the configuration cannot be used") from None


def _receive(event: Any) -> None:
    try:
        answer = _run(_message(event))
    except BadRequestError as error:
        events.emit(events.REQUEST_FAILED, entry="worker_event", error=error.message, detail=error.code)
        return
    except Exception as error:  # noqa: BLE001 - the log gets an event, as for the other entry points
        expected = isinstance(error, StoreError | PolicyError)
        text, detail = (str(error), None) if expected else (repr(error), traceback.format_exc())
        events.emit(events.REQUEST_FAILED, entry="worker_event", error=text, detail=detail)
        raise RedeliverError("the task could not be run") from None
    if status_of(answer) in {HELD, AGAIN}:
        raise RedeliverError(f"task {answer['task_id']}: {answer['verdict']}")


def _message(event: Any) -> Any:
    try:
        return json.loads(base64.b64decode(event.data["message"]["data"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise BadRequestError('The message must hold {"task_id": "..."}.') from None


class RedeliverError(Exception):
    """The message must come again: a live attempt holds the task, or its end could not be written."""


def status_of(answer: Answer) -> int:
    match answer["verdict"]:
        case "settled" if answer.get("reason") == "shutdown" or answer.get("pushed") is False:
            return AGAIN
        case "settled" | "lost" | "ended" | "resting":
            return 200
        case "missing":
            return 404
        case "held" | "early":
            return HELD
    return AGAIN


def _run(found: Any) -> Answer:
    if not isinstance(found, dict):
        raise BadRequestError('Send {"task_id": "..."}.')
    watch = watch_of(policy(), found)
    task_id = task_id_of(watch, found.get("task_id"))
    if shutdown.requested.is_set():  # a claim would only be released again
        return {"task_id": task_id, "verdict": "shutdown"}
    return {"task_id": task_id} | guard(store(), policy(), watch, task_id)
