"""fail_task: a worker elsewhere says that its work did not succeed, and whether another try may."""

from typing import Any

from functions.core.states import Reason, SettleAs
from functions.entry import auth
from functions.entry.app import App
from functions.entry.complete_task import end_attempt
from functions.entry.http import Response, body, text
from functions.errors import BadRequestError
from functions.worker.settle import ERROR_CHARACTERS, AttemptEnd


def respond(app: App, request: Any) -> Response:
    """POST {task_id, token, error, detail?, retry?, after?, watch?}: 200 {task_id, state: failed,
    or pending again}.

    `error` is for the user, `detail` for the operator. `retry` (default false) asks for another
    try while the rule allows one: after `after` seconds, or by the rule's backoff. 409 when the
    attempt no longer holds the task."""
    auth.machine(app, request)
    fields = body(request)
    error, retry = text(fields, "error", longest=ERROR_CHARACTERS), fields.get("retry", False)
    if not error:
        raise BadRequestError("`error` is missing. Send a sentence that the user can read.")
    if not isinstance(retry, bool):
        raise BadRequestError("`retry` must be true or false.")
    detail, after = text(fields, "detail", longest=ERROR_CHARACTERS), _after(fields.get("after"))
    if retry:
        return end_attempt(
            app, fields, AttemptEnd(SettleAs.RETRY, Reason.TRANSIENT, error, detail, after)
        )
    return end_attempt(app, fields, AttemptEnd(SettleAs.FAIL, Reason.HANDLER_ERROR, error, detail))


def _after(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86400:
        raise BadRequestError("`after` must be 0 to 86400 seconds.")
    return float(value)
