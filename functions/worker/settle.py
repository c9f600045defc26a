"""settle: the one final write of an attempt, however it ended; repeated within the time that is
left."""

from dataclasses import dataclass
from typing import Any

from functions.core import events
from functions.core.dispatch import push
from functions.core.policy import Watch
from functions.core.states import Reason
from functions.errors import StoreError
from functions.store import Answer, Store

LONGEST = 8000
"""Characters of an error's text that are kept."""


@dataclass(frozen=True)
class Ending:
    """How the work ended. `outcome` is complete, fail, retry, release, or lost (another attempt
    holds the task)."""

    outcome: str
    reason: str | None = None
    error: str | None = None
    detail: str | None = None
    after: float | None = None
    result: Any = None


def complete(
    store: Store,
    watch: Watch,
    claimed: Answer,
    ending: Ending,
    *,
    limit: float,
    seconds: float | None = None,
    by: str = "guard",
) -> Answer:
    """Settles, says so, and pushes a task that is pending again. `seconds` is how long the work
    took (None: as the ledger has it), `limit` how long the write may. Verdict settled, lost, or
    unwritten (the sweep will end the task)."""
    known = {"watch": watch.name, "by": by, **claimed}
    if ending.outcome == "lost":
        events.emit(events.LEASE_LOST, **known | {"wanted": "beat", "reason": ending.reason})
        return {"verdict": "lost"}
    try:
        answer = store.settle(
            watch,
            claimed["task_id"],
            claimed["token"],
            ending.outcome,
            result=ending.result,
            reason=ending.reason,
            error=_clean(ending.error),
            detail=_clean(ending.detail),
            after=_bounded(ending.after),
            limit=limit,
        )
    except StoreError as error:
        if not error.retryable and ending.outcome == "complete":
            return _as_failure(store, watch, claimed, error, seconds=seconds, limit=limit, by=by)
        events.emit(events.SETTLE_FAILED, **known | {"wanted": ending.outcome, "error": str(error)})
        if by == "remote":  # it is told, and asks again
            raise
        return {"verdict": "unwritten"}
    took = answer.get("took") if seconds is None else seconds
    said = {"cause": ending.reason, "detail": ending.detail, "wanted": ending.outcome}
    return _say(watch, known | answer | said | {"seconds": took and round(took, 3)}, answer)


def _as_failure(
    store: Store, watch: Watch, claimed: Answer, error: StoreError, **more: Any
) -> Answer:
    """The database refuses the result itself (a CHECK, a hook, a NUL in the text): the task fails
    with that reason."""
    ending = Ending(
        "fail", Reason.HANDLER_ERROR, "The result could not be stored.", f"{error.code}: {error}"
    )
    return complete(store, watch, claimed, ending, **more)


def _say(watch: Watch, known: dict[str, Any], answer: Answer) -> Answer:
    if answer["verdict"] == "lost":
        events.emit(events.LEASE_LOST, **known)
        return answer
    if (
        answer.get("repeat") and known["by"] == "remote"
    ):  # said when it was written; callers may go on for long
        return answer
    if answer["state"] == "pending":
        events.emit(events.TASK_REQUEUED, **known)
        pushed = push(
            watch.name, known["task_id"], answer["number"] + 1, answer["retry_after"] or 0.0
        )
        return answer | {"pushed": pushed}
    events.emit(
        events.TASK_FINISHED, level=events.WARNING if answer["state"] == "failed" else None, **known
    )
    return answer


def _clean(text: str | None) -> str | None:
    """What PostgreSQL can store, and no more of it than a person reads."""
    return text.replace("\x00", "\\0").encode(errors="replace").decode()[:LONGEST] if text else None


def _bounded(after: float | None) -> float | None:
    """A delay that a handler asks for: from now to a day."""
    return None if after is None else min(max(0.0, after), 86400.0)  # in this order NaN becomes 0
