"""rescue: a line of the platform's log says that a worker is gone. Its attempts end at once, with
the cause that the line tells; their leases need not run out.

A log sink sends the line through Pub/Sub (infra/rescue.tf). It may come twice, late, or be about
anything: what is not held by that very instance since before the line is not touched, and the
token of each attempt fences its end, as for any worker."""

import base64
import json
from typing import Any

from functions.core.states import Reason, SettleAs
from functions.entry import auth
from functions.entry.app import App
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError
from functions.sweep.platform_line import Death, death_of
from functions.worker.settle import AttemptEnd, RemoteAttempt, settle

SETTLE_SECONDS = 8.0
"""For the end of one attempt. What is not written comes again with the message."""


def respond(app: App, request: Any) -> Response:
    """POST of Pub/Sub: 200 with how many attempts ended. Any other answer brings the line again."""
    auth.machine(app, request)
    death = _death(app, body(request))
    return reply({"ended": _end(app, death) if death else 0})


def _death(app: App, fields: dict[str, Any]) -> Death | None:
    """Raises BadRequestError for a message that holds no line of a log."""
    try:
        entry = json.loads(base64.b64decode(fields["message"]["data"]))
        return death_of(entry, app.policy.timeout)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise BadRequestError("The message must hold a LogEntry of Cloud Logging.") from None


def _end(app: App, death: Death) -> int:
    is_shutdown = death.cause is Reason.SHUTDOWN
    end = AttemptEnd(
        SettleAs.RELEASE if is_shutdown else SettleAs.RETRY,
        death.cause,
        detail=f"Cloud Run's log at {death.at:%H:%M:%S} UTC: {death.text}",
    )
    ended = 0
    for task in app.store.held_by(death.worker, death.at.isoformat(), death.age):
        watch = app.policy.watches.get(task.watch)
        if watch is None:  # of another installation in this database
            continue
        attempt = RemoteAttempt(task_id=task.task_id, token=task.token)
        settle(
            app.store, app.dispatcher, watch, attempt, end, timeout=SETTLE_SECONDS, by="platform"
        )
        ended += 1
    return ended
