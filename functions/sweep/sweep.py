"""The scheduled run that settles all that is overdue, batch by batch, inside a time budget."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from functions.core import events
from functions.core.answers import Batch, Overview, Rescued, RescuedState, SweepNotBegun
from functions.core.dispatch import Dispatcher, push, pushes
from functions.core.policy import Policy, Watch
from functions.core.record import Record
from functions.core.report import report
from functions.core.settings import Settings
from functions.core.states import Reason, State
from functions.errors import StoreError
from functions.store import Store
from functions.sweep.notify import notify


@dataclass
class Counts:
    """What a sweep did, by task, and how late the oldest task is that is overdue or waits: None
    where a watch could not be read."""

    failed: int = 0
    requeued: int = 0
    redispatched: int = 0
    suspended: int = 0
    unsweepable: int = 0
    orphaned: int = 0
    pruned: int = 0
    oldest_overdue_seconds: float | None = None
    oldest_pending_seconds: float | None = None
    complete: bool = True
    ended_late: float = field(default=0.0, repr=False)
    """How late the latest task was that this sweep ended, in seconds."""
    skip: list[str] = field(default_factory=list, repr=False)
    dead_workers: list[tuple[str, Rescued]] = field(default_factory=list, repr=False)
    """Attempts whose worker stopped without a word, with the names of their watches."""
    views: dict[str, Overview] = field(default_factory=dict, repr=False)
    """The overview of each watch."""

    def answer(self) -> dict[str, Any]:
        """Not by asdict: it would copy all of `dead_workers`."""
        return {count.name: getattr(self, count.name) for count in fields(self) if count.repr}


class SweepReport(Record):
    """A run that has ended: the Counts, and the seconds it took."""

    failed: int
    requeued: int
    redispatched: int
    suspended: int
    unsweepable: int
    orphaned: int
    pruned: int
    oldest_overdue_seconds: float | None
    oldest_pending_seconds: float | None
    complete: bool
    sweep_id: int
    seconds: float
    error: str | None
    verdict: Literal["ok", "error"]


def sweep(
    store: Store,
    policy: Policy,
    dispatcher: Dispatcher,
    settings: Settings,
    *,
    key: str | None = None,
    by: str = "scheduler",
) -> SweepReport | SweepNotBegun:
    """One run over all watches.

    Raises StoreError only when the run could not even begin.
    """
    try:
        begun = store.sweep_begin(key, by, policy.sweep_budget)
    except StoreError as error:
        _say(
            "error",
            {
                "sweep_id": None,
                "error": str(error),
                "seconds": 0.0,
                **Counts(complete=False).answer(),
            },
        )
        raise
    if isinstance(begun, SweepNotBegun):
        events.emit(events.SWEEP_SKIPPED, verdict=begun.verdict)
        return begun
    started, counts, errors = time.monotonic(), Counts(), []
    until = started + policy.sweep_budget
    for watch in policy.watches.values():  # one watch that fails must not stop the others
        try:
            _sweep_watch(store, policy, dispatcher, watch, begun.sweep_id, counts, until)
        except StoreError as problem:
            errors.append(f"{watch.name}: {problem}")
    notify(store, policy, settings, until)
    try:
        counts.pruned = store.prune(policy.retention)
    except StoreError as problem:
        errors.append(str(problem))
    _measure(policy, counts)
    answer = _end(
        store, begun.sweep_id, counts, "; ".join(errors) or None, time.monotonic() - started
    )
    if settings.metrics and settings.project:
        from functions.sweep.after_sweep import afterwards

        afterwards(
            store,
            policy,
            settings.project,
            begun.sweep_id,
            counts.views,
            counts.dead_workers,
            until=until,
        )
    return answer


def _sweep_watch(
    store: Store,
    policy: Policy,
    dispatcher: Dispatcher,
    watch: Watch,
    sweep_id: int,
    counts: Counts,
    until: float,
) -> None:
    suspended = store.suspend(watch, policy)
    if suspended:
        counts.suspended += suspended
        events.emit(events.SWEEP_SUSPENDED, watch=watch.name, count=suspended)
    _push_again(store, policy, dispatcher, watch, counts, until)
    counts.skip.clear()
    for batch in _batches(store, watch, policy.sweep_batch, sweep_id, counts, until):
        _count(watch, batch, counts)
        report(dispatcher, watch, batch.rescued, by="sweep")
    counts.orphaned += store.orphans(watch, sweep_id)
    counts.views[watch.name] = store.overview(watch)


def _push_again(
    store: Store, policy: Policy, dispatcher: Dispatcher, watch: Watch, counts: Counts, until: float
) -> None:
    """Sends lost pushes again. It runs before the sweep fails anything: after an outage of the
    scheduler a task gets one more push before `pending_for` ends it."""
    while pushes(dispatcher) and time.monotonic() < until:
        quiet = store.redispatch(watch, policy.sweep_batch)
        for task in quiet:
            if not push(dispatcher, watch.name, task.task_id, -task.times):
                return  # the queue does not answer: the others wait for the next time too
            events.emit(events.TASK_REDISPATCHED, watch=watch.name, **vars(task))
            counts.redispatched += 1
        if len(quiet) < policy.sweep_batch:
            return


def _batches(
    store: Store, watch: Watch, limit: int, sweep_id: int, counts: Counts, until: float
) -> Iterator[Batch]:
    """Batches until one is not full. Rows that cannot be settled are skipped, so that they do not
    hide the others. The database settles the next batch while this one's events are written."""

    def ask() -> Batch:
        batch = store.sweep(watch, limit, sweep_id=sweep_id, skip=list(counts.skip))
        counts.skip += [task.task_id for task in batch.unsweepable]
        return batch

    if time.monotonic() >= until:
        counts.complete = False
        return
    batch = ask()
    with ThreadPoolExecutor(1) as ahead:
        while batch.more and time.monotonic() < until:
            coming = ahead.submit(ask)
            yield batch
            batch = coming.result()
    counts.complete &= not batch.more
    yield batch


def _count(watch: Watch, batch: Batch, counts: Counts) -> None:
    for task in batch.rescued:
        counts.requeued += task.state is RescuedState.PENDING
        counts.failed += task.state is RescuedState.FAILED
        counts.ended_late = max(counts.ended_late, task.late)
        if task.cause == Reason.LEASE_LOST and task.state is not RescuedState.OVERTAKEN:
            counts.dead_workers.append((watch.name, task))
    for row in batch.unsweepable:
        counts.unsweepable += 1
        events.emit(events.TASK_UNSWEEPABLE, watch=watch.name, **vars(row))


def _measure(policy: Policy, counts: Counts) -> None:
    """What is late when the sweep is done, whether it could end it or not: a row that somebody
    holds is passed over by each sweep. A zero says that every watch was read and nothing is."""
    views = counts.views.values()
    overdue = [counts.ended_late, *(float(view.overdue.oldest or 0) for view in views)]
    waits = [0.0, *(wait for view in views for wait in _waits(view))]
    every_watch_read = len(counts.views) == len(policy.watches)
    counts.complete &= every_watch_read
    if every_watch_read or max(overdue) > 0:
        counts.oldest_overdue_seconds = max(overdue)
    if every_watch_read or max(waits) > 0:
        counts.oldest_pending_seconds = max(waits)


def _waits(view: Overview) -> list[float]:
    """For how many seconds the oldest task of each kind waits."""
    return [float(tasks.oldest or 0) for tasks in view.open if tasks.state is State.PENDING]


def _end(
    store: Store, sweep_id: int, counts: Counts, error: str | None, seconds: float
) -> SweepReport:
    verdict: Literal["ok", "error"] = "error" if error else "ok"
    run: dict[str, Any] = {"sweep_id": sweep_id, "seconds": round(seconds, 3), "error": error}
    done = SweepReport(**counts.answer(), **run, verdict=verdict)
    _say(verdict, vars(done))
    try:
        store.sweep_end(sweep_id, ok=error is None, counts=counts.answer(), error=error)
    except StoreError as problem:
        return SweepReport(**vars(done) | {"error": str(problem), "verdict": "error"})
    return done


def _say(outcome: str, answer: dict[str, Any]) -> None:
    """Also for a run that failed or could not begin: the alert on a silent sweep must not fire for
    an unhealthy one."""
    events.emit(
        events.SWEEP_FINISHED,
        level=events.ERROR if outcome == "error" else None,
        outcome=outcome,
        **answer,
    )
