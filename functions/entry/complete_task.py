"""complete_task: a worker elsewhere has done its work, and says so by HTTP."""

from typing import Any, assert_never

from functions.core.answers import Lost, Settled
from functions.core.states import SettleAs
from functions.entry import auth
from functions.entry.app import App
from functions.entry.fields import task_id_of, token_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError
from functions.store import VERB_TIMEOUT_SECONDS
from functions.worker.settle import AttemptEnd, RemoteAttempt, settle


def respond(app: App, request: Any) -> Response:
    """POST {task_id, token, result?, watch?}: 200 {task_id, state}; 409 when the attempt no longer
    holds the task."""
    auth.machine(app, request)
    fields = body(request)
    return end_attempt(app, fields, AttemptEnd(SettleAs.COMPLETE, result=fields.get("result")))


def end_attempt(app: App, fields: dict[str, Any], end: AttemptEnd) -> Response:
    """Ends the attempt of a worker elsewhere. The answer is the same however often it asks."""
    watch = watch_of(app.policy, fields)
    attempt = RemoteAttempt(task_id_of(watch, fields.get("task_id")), token_of(fields))
    answer = settle(app.store, app.dispatcher, watch, attempt, end, timeout=VERB_TIMEOUT_SECONDS)
    match answer:
        case Settled():
            return reply(
                {
                    "task_id": attempt.task_id,
                    "state": answer.state,
                    "reason": answer.reason,
                    "retry_after": answer.retry_after,
                }
            )
        case Lost():
            raise lease_lost(attempt.task_id, answer)
        case _:
            assert_never(answer)


def lease_lost(task_id: str, answer: Lost) -> BadRequestError:
    """409: the worker must stop at once, and nothing that it still writes counts."""
    why = answer.reason or answer.outcome or "the token is not known"
    text = f"This attempt does not hold the task any more: {why}. Stop the work."
    return BadRequestError(text, status=409, code="lost", task_id=task_id, reason=answer.reason)
