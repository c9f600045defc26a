"""sweep: the scheduled run that settles all that is overdue, batch by batch, inside a time budget."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

from functions.core import events
from functions.core.dispatch import push, pushes
from functions.core.policy import Policy, Watch
from functions.core.report import report
from functions.core.settings import settings
from functions.errors import StoreError
from functions.store import Answer, Store
from functions.sweep.notify import notify


@dataclass
class Counts:
    """What a sweep did, by task."""

    failed: int = 0
    requeued: int = 0
    redispatched: int = 0
    suspended: int = 0
    unsweepable: int = 0
    orphaned: int = 0
    pruned: int = 0
    oldest_overdue_seconds: float = 0.0
    oldest_pending_seconds: float = 0.0
    complete: bool = True
    skip: list[str] = field(default_factory=list, repr=False)
    lost: list[Answer] = field(default_factory=list, repr=False)
    """Attempts whose worker stopped without a word."""
    views: dict[str, Answer] = field(default_factory=dict, repr=False)
    """The overview of each watch."""

    def answer(self) -> Answer:
        """Not by asdict: it would copy all of `lost`."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.repr}


def sweep(store: Store, policy: Policy, *, key: str | None = None, by: str = "scheduler") -> Answer:
    """One run over all watches. Verdict ok, error, duplicate (this key was swept) or running
    (another run is at it).

    Raises StoreError only when the run could not even begin.
    """
    try:
        begun = store.sweep_begin(key, by, policy.sweep_budget)
    except StoreError as error:
        _say("error", {"sweep_id": None, "error": str(error), "seconds": 0.0, **Counts().answer()})
        raise
    if begun["verdict"] != "begun":
        events.emit(events.SWEEP_SKIPPED, verdict=begun["verdict"])
        return begun
    started, counts, errors = time.monotonic(), Counts(), []
    for watch in policy.watches.values():  # one watch that fails must not stop the others
        try:
            _sweep_watch(
                store, policy, watch, begun["sweep_id"], counts, started + policy.sweep_budget
            )
        except StoreError as problem:
            errors.append(f"{watch.name}: {problem}")
    notify(store, policy, started + policy.sweep_budget)
    try:
        counts.pruned = store.prune(policy.retention)
    except StoreError as problem:
        errors.append(str(problem))
    answer = _end(
        store, begun["sweep_id"], counts, "; ".join(errors) or None, time.monotonic() - started
    )
    if settings().metrics and settings().project:
        from functions.sweep.after_sweep import afterwards

        afterwards(
            store,
            policy,
            begun["sweep_id"],
            counts.views,
            counts.lost,
            until=started + policy.sweep_budget,
        )
    return answer


def _sweep_watch(
    store: Store, policy: Policy, watch: Watch, sweep_id: int, counts: Counts, until: float
) -> None:
    suspended = store.suspend(watch, policy)
    if suspended:
        counts.suspended += suspended
        events.emit(events.SWEEP_SUSPENDED, watch=watch.name, count=suspended)
    _push_again(store, policy, watch, counts, until)
    counts.skip.clear()
    for batch in _batches(store, watch, policy.sweep_batch, sweep_id, counts, until):
        _count(watch, batch, counts)
        report(watch, batch["rescued"], by="sweep")
    counts.orphaned += store.orphans(watch, sweep_id)
    counts.views[watch.name] = store.overview(watch)
    waits = [
        float(one["oldest"] or 0)
        for one in counts.views[watch.name]["open"]
        if one["state"] == "pending"
    ]
    counts.oldest_pending_seconds = max([counts.oldest_pending_seconds, *waits])


def _push_again(store: Store, policy: Policy, watch: Watch, counts: Counts, until: float) -> None:
    """Sends lost pushes again. Before anything is failed: after a long silence of the scheduler
    each gets its chance."""
    while pushes() and time.monotonic() < until:
        lost = store.redispatch(watch, policy.sweep_batch)
        for task in lost:
            if not push(watch.name, task["task_id"], -task["times"]):
                return  # the queue is away: the others wait for the next time too
            events.emit(events.TASK_REDISPATCHED, watch=watch.name, **task)
            counts.redispatched += 1
        if len(lost) < policy.sweep_batch:
            return


def _batches(
    store: Store, watch: Watch, limit: int, sweep_id: int, counts: Counts, until: float
) -> Iterator[Answer]:
    """Batches until one is not full. Rows that cannot be settled are skipped, so that they do not
    hide the others. The database settles the next batch while this one's events are written."""

    def ask() -> Answer:
        batch = store.sweep(watch, limit, sweep_id=sweep_id, skip=list(counts.skip))
        counts.skip += [task["task_id"] for task in batch["unsweepable"]]
        return batch

    if time.monotonic() >= until:
        counts.complete = False
        return
    batch = ask()
    with ThreadPoolExecutor(1) as ahead:
        while batch["more"] and time.monotonic() < until:
            coming = ahead.submit(ask)
            yield batch
            batch = coming.result()
    counts.complete &= not batch["more"]
    yield batch


def _count(watch: Watch, batch: dict[str, Any], counts: Counts) -> None:
    for task in batch["rescued"]:
        counts.requeued += task["state"] == "pending"
        counts.failed += task["state"] == "failed"
        counts.oldest_overdue_seconds = max(counts.oldest_overdue_seconds, task["late"])
        if task["cause"] == "lease_lost" and task["state"] != "overtaken":
            counts.lost.append({"watch": watch.name, **task})
    for task in batch["unsweepable"]:
        counts.unsweepable += 1
        events.emit(events.TASK_UNSWEEPABLE, watch=watch.name, **task)


def _end(store: Store, sweep_id: int, counts: Counts, error: str | None, seconds: float) -> Answer:
    answer = counts.answer() | {"sweep_id": sweep_id, "seconds": round(seconds, 3), "error": error}
    outcome = "error" if error else "ok"
    _say(outcome, answer)
    try:
        store.sweep_end(sweep_id, ok=error is None, counts=counts.answer(), error=error)
    except StoreError as problem:
        return answer | {"verdict": "error", "error": str(problem)}
    return answer | {"verdict": outcome}


def _say(outcome: str, answer: Answer) -> None:
    """Also for a run that failed or could not begin: the alert on a silent sweep must not fire for
    an unhealthy one."""
    events.emit(
        events.SWEEP_FINISHED,
        level=events.ERROR if outcome == "error" else None,
        outcome=outcome,
        **answer,
    )
