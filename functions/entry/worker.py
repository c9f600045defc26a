"""worker: receives a push and runs the task in the guard. The answer tells the queue the truth:
2xx only when the task is settled or safely pending again."""

from typing import Any, Literal, assert_never

from functions.core.answers import ClaimRefusal, Lost, NotClaimed, Settled
from functions.core.record import Record
from functions.core.states import Reason, State
from functions.entry import auth
from functions.entry.app import App
from functions.entry.fields import task_id_of, watch_of
from functions.entry.http import Response, body, reply
from functions.errors import BadRequestError
from functions.worker import shutdown
from functions.worker.guard import Unwritten, guard
from functions.worker.kinds import kinds_here

HELD = 409
AGAIN = 503


class ShuttingDown(Record):
    """No claim was made: it would only be released again."""

    verdict: Literal["shutdown"] = "shutdown"


RunAnswer = NotClaimed | Settled | Lost | Unwritten | ShuttingDown


def respond(app: App, request: Any) -> Response:
    """POST {task_id, watch?}: 200 settled, 404 unknown, 409 held by a live attempt (come again),
    503 come again."""
    auth.machine(app, request)
    task_id, answer = run(app, body(request))
    status = status_of(answer)
    if status == 404:
        raise BadRequestError(f"There is no task {task_id}.", status=404, code="not_found")
    shown = {
        "task_id": task_id,
        "verdict": answer.verdict,
        "state": answer.state if isinstance(answer, NotClaimed | Settled) else None,
        "reason": answer.reason if isinstance(answer, Settled | Lost) else None,
    }
    if status == 200:
        return reply(shown)
    wait = answer.retry_after if isinstance(answer, NotClaimed | Settled) else None
    error = {"code": answer.verdict, "message": "The task is not at its end. Deliver it again."}
    return reply(shown | {"error": error}, status, Retry_After=str(int(wait or 1) + 1))


def status_of(answer: RunAnswer) -> int:
    match answer:
        case Settled():
            elsewhere = answer.reason in {Reason.SHUTDOWN, Reason.NO_HANDLER}
            settled = not elsewhere and answer.pushed is not False
            return 200 if settled or answer.state is not State.PENDING else AGAIN
        case Lost():
            return 200
        case Unwritten() | ShuttingDown():
            return AGAIN
        case NotClaimed():
            return _STATUS_OF_REFUSAL[answer.verdict]
        case _:
            assert_never(answer)


_STATUS_OF_REFUSAL = {
    ClaimRefusal.HELD: HELD,
    ClaimRefusal.EARLY: HELD,
    ClaimRefusal.ENDED: 200,
    ClaimRefusal.RESTING: 200,
    ClaimRefusal.MISSING: 404,
    ClaimRefusal.ELSEWHERE: AGAIN,
    ClaimRefusal.NONE: AGAIN,
}


def run(app: App, message: Any) -> tuple[str, RunAnswer]:
    """Runs the task that the message names. Returns its id and how it went. Raises
    BadRequestError for a message that names none, and StoreError."""
    if not isinstance(message, dict):
        raise BadRequestError('Send {"task_id": "..."}.')
    watch = watch_of(app.policy, message)
    task_id = task_id_of(watch, message.get("task_id"))
    if shutdown.requested.is_set():
        return task_id, ShuttingDown()
    kinds = kinds_here(watch)
    return task_id, guard(
        app.store, app.policy, app.dispatcher, watch, task_id, kinds, worker=app.worker
    )
