"""settle: the one final write of an attempt, however it ended; repeated within the time that is
left."""

import time
from collections.abc import Callable
from typing import Any, assert_never

from functions.core import events
from functions.core.answers import Claimed, Lost, Settled
from functions.core.dispatch import Dispatcher, push
from functions.core.policy import Watch
from functions.core.record import Record, replace
from functions.core.sqlstates import Meaning, meaning_of
from functions.core.states import Reason, SettleAs, State
from functions.errors import StoreError
from functions.store import Store

ERROR_CHARACTERS = 8000
"""So much of an error's text is kept."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""Until a configuration that is wrong is tried again, doubled each time: a password may be changed
just now, or a migration under way."""


class AttemptEnd(Record):
    """How the work ended. `error` is for the user, `detail` for the operator; `after`: seconds
    until the next try."""

    settle_as: SettleAs
    reason: str | None = None
    error: str | None = None
    detail: str | None = None
    after: float | None = None
    result: Any = None


def unreadable_input() -> AttemptEnd:
    """Of a task that nobody can do here: it is not tried again, since each worker that takes it
    would meet the same."""
    detail = "Its input or checkpoint is nested too deeply, or has a number with too many digits."
    return AttemptEnd(SettleAs.FAIL, Reason.HANDLER_ERROR, "The input cannot be read.", detail)


class RemoteAttempt(Record):
    """What a worker elsewhere says of the attempt that it holds."""

    task_id: str
    token: str


def settle(
    store: Store,
    dispatcher: Dispatcher,
    watch: Watch,
    attempt: Claimed | RemoteAttempt,
    end: AttemptEnd | Lost,
    *,
    timeout: float,
    seconds: float | None = None,
    wait: Callable[[float], object] = time.sleep,
    by: str | None = None,
) -> Settled | Lost:
    """Writes the end and its event, and pushes a task that is pending again. `seconds` is how long
    the work took (None: as the ledger has it), `timeout` how long the write may, `by` who ends it
    (None: the guard, or the worker elsewhere). `wait` waits between two tries of it, and may keep
    the lease meanwhile.

    Only an error about the row says that the result cannot be stored, which fails the task. After
    any other the write is tried until the time is over.

    Raises StoreError when the end could not be written: the sweep will end the attempt."""
    worker = "remote" if isinstance(attempt, RemoteAttempt) else "guard"
    about = {"watch": watch.name, "by": by or worker, **vars(attempt)}
    if isinstance(end, Lost):
        events.emit(events.LEASE_LOST, **about | {"wanted": "beat", "reason": end.reason})
        return replace(end, task_id=attempt.task_id)
    until = time.monotonic() + timeout
    try:
        answer = _write(store, watch, attempt, end, until, about, wait)
    except StoreError as error:
        if end.settle_as is not SettleAs.COMPLETE or not is_about_the_row(error):
            raise
        end = _result_refused(error)
        answer = _write(store, watch, attempt, end, until, about, wait)
    answer = replace(answer, task_id=attempt.task_id)
    about |= vars(answer) | {"cause": end.reason, "detail": end.detail, "wanted": end.settle_as}
    match answer:
        case Lost():
            events.emit(events.LEASE_LOST, **about)
            return answer
        case Settled():
            took = round(answer.took if seconds is None else seconds, 3)
            return _report(dispatcher, watch, attempt, answer, about | {"seconds": took})
        case _:
            assert_never(answer)


def _write(
    store: Store,
    watch: Watch,
    attempt: Claimed | RemoteAttempt,
    end: AttemptEnd,
    until: float,
    about: dict[str, Any],
    wait: Callable[[float], object],
) -> Settled | Lost:
    """Raises StoreError. A configuration that is wrong is told at once, and tried again."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return store.settle(
                watch,
                attempt.task_id,
                attempt.token,
                end.settle_as,
                result=end.result,
                reason=end.reason,
                error=_storable(end.error),
                detail=_storable(end.detail),
                after=_at_most_a_day(end.after),
                timeout=until - time.monotonic(),
            )
        except StoreError as error:
            if end.settle_as is SettleAs.COMPLETE and is_about_the_row(error):
                raise
            failure = {"wanted": end.settle_as, "error": str(error)}
            events.emit(events.SETTLE_FAILED, **about | failure)
            is_over = time.monotonic() + pause >= until
            if error.retryable or is_over or is_about_the_row(error):
                raise
        wait(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def is_about_the_row(error: StoreError) -> bool:
    return not error.retryable and meaning_of(error.code) is Meaning.ROW


def _result_refused(error: StoreError) -> AttemptEnd:
    """The database refuses the result itself (a CHECK, a hook, a NUL): the task fails."""
    return AttemptEnd(
        SettleAs.FAIL,
        Reason.HANDLER_ERROR,
        "The result could not be stored.",
        f"{error.code}: {error}",
    )


def _report(
    dispatcher: Dispatcher,
    watch: Watch,
    attempt: Claimed | RemoteAttempt,
    answer: Settled,
    about: dict[str, Any],
) -> Settled:
    if answer.repeat and isinstance(attempt, RemoteAttempt):
        return answer  # reported when it was written; a worker elsewhere may ask for long
    if answer.state is State.PENDING:
        events.emit(events.TASK_REQUEUED, **about)
        if not watch.is_pushed(answer.kind):
            return answer
        delay = answer.retry_after or 0.0
        pushed = push(dispatcher, watch.name, attempt.task_id, answer.number + 1, delay)
        return Settled(**vars(answer) | {"pushed": pushed})
    level = events.WARNING if answer.state is State.FAILED else None
    events.emit(events.TASK_FINISHED, level=level, **about)
    return answer


def _storable(text: str | None) -> str | None:
    """What PostgreSQL can store, and no more of it than a person reads."""
    if not text:
        return None
    return text.replace("\x00", "\\0").encode(errors="replace").decode()[:ERROR_CHARACTERS]


def _at_most_a_day(after: float | None) -> float | None:
    """Not less than 0 seconds either. In this order of the two bounds NaN becomes 0."""
    return None if after is None else min(max(0.0, after), 86400.0)
