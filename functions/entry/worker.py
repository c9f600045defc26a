"""worker: receives a push and runs a task in the guard: the most urgent one that may start, since a
push says only that there is work. A rule with `dispatch: named` has the task run that was pushed.
The answer tells the queue the truth: 2xx only when the task is settled or safely pending again."""

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
    """POST {task_id, watch?}: 200 settled, 404 unknown, 409 held by a live attempt, early, paused
    or at a limit (come again), 503 come again. `task_id` of the answer is the task that was run,
    and `pushed` the one of the push, where that is another."""
    auth.machine(app, request)
    pushed, answer = run(app, body(request))
    status = status_of(answer)
    if status == 404:
        raise BadRequestError(f"There is no task {pushed}.", status=404, code="not_found")
    task_id = run_task(answer) or pushed
    shown = {
        "task_id": task_id,
        **({} if task_id == pushed else {"pushed": pushed}),
        "verdict": answer.verdict,
        "state": answer.state if isinstance(answer, NotClaimed | Settled) else None,
        "reason": answer.reason if isinstance(answer, Settled | Lost) else None,
    }
    if status == 200:
        return reply(shown)
    wait = answer.retry_after if isinstance(answer, NotClaimed | Settled) else None
    error = {"code": answer.verdict, "message": "The task is not at its end. Deliver it again."}
    return reply(shown | {"error": error}, status, Retry_After=str(int(wait or 1) + 1))


def run_task(answer: RunAnswer) -> str | None:
    """The task that was run, if any."""
    return answer.task_id if isinstance(answer, Settled | Lost) else None


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
    ClaimRefusal.PAUSED: HELD,
    ClaimRefusal.LIMITED: HELD,
    ClaimRefusal.ENDED: 200,
    ClaimRefusal.RESTING: 200,
    ClaimRefusal.MISSING: 404,
    ClaimRefusal.ELSEWHERE: AGAIN,
    ClaimRefusal.NONE: AGAIN,
}


def run(app: App, message: Any) -> tuple[str, RunAnswer]:
    """Runs a task for the message. Returns the id that it names and how it went. Raises
    BadRequestError for a message that names none, and StoreError."""
    if not isinstance(message, dict):
        raise BadRequestError('Send {"task_id": "..."}.')
    watch = watch_of(app.policy, message)
    task_id = task_id_of(watch, message.get("task_id"))
    if shutdown.requested.is_set():
        return task_id, ShuttingDown()
    kinds = kinds_here(watch)
    return task_id, guard(
        app.store,
        app.policy,
        app.dispatcher,
        watch,
        task_id,
        kinds,
        worker=app.worker,
        chooses=True,
    )
