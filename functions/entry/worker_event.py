"""worker_event: the same as worker, for a push of Pub/Sub.

Eventarc sends a CloudEvent, which is a request of HTTP, and is read here as one: what the framework
does with a body that is no event (some end in a 500, and so come again for days) is not ours."""

import base64
import json
from typing import Any

from functions.core import events
from functions.entry import auth
from functions.entry.app import App
from functions.entry.http import Response, body, reply
from functions.entry.worker import AGAIN, HELD, run, run_task, status_of
from functions.errors import BadRequestError


def respond(app: App, request: Any) -> Response:
    """200 when the message is done with; 503 has it delivered again: a live attempt holds the task,
    or its end is not written.

    A message that names no task is done with: it would name none the next time either, and the
    sweep pushes a task that waits."""
    auth.machine(app, request)
    try:
        task_id, outcome = run(app, _message(body(request)))
    except BadRequestError as error:
        if error.status == 408:  # its body was late
            raise
        events.emit(
            events.REQUEST_FAILED, entry="worker_event", error=error.message, detail=error.code
        )
        return reply({"verdict": error.code})
    again = status_of(outcome) in {HELD, AGAIN}
    answer = {"task_id": run_task(outcome) or task_id, "verdict": outcome.verdict}
    return reply(answer, 503 if again else 200)


def _message(event: dict[str, Any]) -> Any:
    """What the message holds. The event is in the headers, or (structured) around the data."""
    try:
        delivery = event["data"] if "specversion" in event else event
        return json.loads(base64.b64decode(delivery["message"]["data"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise BadRequestError('The message must hold {"task_id": "..."}.') from None
