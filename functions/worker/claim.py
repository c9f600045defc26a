"""claim: makes a worker the holder of a task, or says why not."""

import time
from functools import partial
from typing import assert_never

from functions.core import events, trace
from functions.core.answers import Claimed, ClaimRefusal, NotClaimed, Settled
from functions.core.dispatch import NoDispatch
from functions.core.policy import Watch
from functions.core.report import report
from functions.store import Store

NOTHING_TO_DO = {ClaimRefusal.NONE, ClaimRefusal.PAUSED, ClaimRefusal.LIMITED}
"""The refusals of a claim of any task."""
EARLY_SECONDS = 5.0
"""A push that comes so much too early waits: the queue's clock is not the database's."""

SETTLE_SECONDS = 10.0
"""The end of a task that cannot be read may take so long to write."""


def claim(
    store: Store,
    watch: Watch,
    task_id: str | None,
    kinds: list[str] | None = None,
    *,
    worker: str,
    token: str | None = None,
    chooses: bool = False,
) -> Claimed | NotClaimed:
    """Claims a task, or the next one. Raises StoreError.

    `worker` is the name of who claims. `token` repeats a claim whose answer never came. With
    `chooses` the task only says that there is work: the most urgent one that may start is taken."""
    request = trace.current.get()
    trace_id = request.id if request else None
    ask = partial(
        store.claim, watch, task_id, worker, kinds, token, chooses=chooses, trace=trace_id
    )
    answer = ask()
    if isinstance(answer, NotClaimed) and _is_soon(answer):
        time.sleep(answer.retry_after or 0.0)
        answer = ask()
    report(None, watch, answer.rescued or [], by="claim")
    match answer:
        case Claimed():
            events.emit(events.TASK_CLAIMED, watch=watch.name, worker=worker, **vars(answer))
            if not answer.is_readable:
                return _fail(store, watch, answer)
        case NotClaimed():
            if task_id or answer.verdict not in NOTHING_TO_DO:
                named = {"watch": watch.name, "task_id": answer.task_id or task_id}
                events.emit(events.CLAIM_REFUSED, **vars(answer) | named)
        case _:
            assert_never(answer)
    return answer


def _is_soon(answer: NotClaimed) -> bool:
    return answer.verdict is ClaimRefusal.EARLY and (answer.retry_after or 0.0) <= EARLY_SECONDS


def _fail(store: Store, watch: Watch, claimed: Claimed) -> NotClaimed:
    """Ends a task that nobody can do here."""
    from functions.worker.settle import settle, unreadable_input

    end = unreadable_input()
    settled = settle(store, NoDispatch(), watch, claimed, end, timeout=SETTLE_SECONDS, seconds=0.0)
    state = settled.state if isinstance(settled, Settled) else None
    return NotClaimed(
        verdict=ClaimRefusal.ENDED, task_id=claimed.task_id, kind=claimed.kind, state=state
    )
