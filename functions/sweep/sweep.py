"""The scheduled run that settles all that is overdue, batch by batch, inside a time budget."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal

from functions.core import events
from functions.core.answers import (
    Batch,
    Lapsed,
    OpenCount,
    OpenWork,
    QuietTask,
    Rescued,
    RescuedState,
    SweepNotBegun,
)
from functions.core.dispatch import Dispatcher, Push, push_all, pushes, still_queued
from functions.core.policy import Policy, Watch
from functions.core.record import Record
from functions.core.report import pushes_of, report, tell_pause
from functions.core.settings import Settings
from functions.core.states import Reason, State
from functions.errors import StoreError
from functions.store import Store
from functions.store.verbs import CANCELLED, NO_SUCH_FUNCTION
from functions.sweep import clock
from functions.sweep.notify import notify
from functions.sweep.time_share import HEARD_SECONDS, HEARD_SHARE, within

SHARES = {
    "settle": 0.5,
    "push": 0.62,
    "notify": 0.8,
    "clean": 0.83,
    "pauses": 0.84,
    "prune": 0.88,
    "overview": 0.94,
}
"""The part of the budget at which each step ends at the latest; the next one has the time between.
What follows the run has the rest."""
FORGOTTEN_SECONDS = 86_400.0
"""A pause without an end is told when it is so old."""
LEAST_BATCH_SECONDS = LEAST_STEP_SECONDS = 1.0
"""So long a batch, and each other step, may take in any case."""
STAY_SHARE = 0.9
"""Of the budget: so long a run stays at most for those that got one more lease."""
MAX_LOST_PUSHES = 200
"""Pushes that are marked as sent again at once; those of them for which no time is left wait for
the next `redispatch_after`."""


class Counts:
    """What a sweep did, by task, and how late the oldest task is that is overdue or waits: None
    where a watch could not be read."""

    def __init__(self, *, complete: bool = True) -> None:
        self.failed = 0
        self.requeued = 0
        self.redispatched = 0
        self.suspended = 0
        self.unsweepable = 0
        self.orphaned = 0
        self.pruned = 0
        self.oldest_overdue_seconds: float | None = None
        self.oldest_pending_seconds: float | None = None
        self.complete = complete
        self.ended_late = 0.0
        """How late the latest task was that this sweep ended, in seconds."""
        self.dead_workers: list[tuple[str, Rescued]] = []
        """Attempts whose worker stopped without a word, with the names of their watches."""
        self.views: dict[str, OpenWork] = {}
        """What is open in each watch."""

    def answer(self) -> dict[str, Any]:
        """What of it is part of a SweepReport."""
        return {
            name: count for name, count in vars(self).items() if name in SweepReport.field_types
        }


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
        begun = store.sweep_begin(key, by, policy.sweep_budget, policy.own_part)
    except Exception as error:
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
    run = _Run(store, policy, dispatcher, settings, begun.sweep_id)
    try:
        if begun.at is not None:
            run.keep_time(begun.at)
        run.go()
    except BaseException as error:
        run.fail("sweep", error)
        run.end()
        if not isinstance(error, Exception):
            raise
    answer = run.answer or run.end()
    if settings.sweep_ping_url and answer.verdict == "ok":
        from functions.sweep.ping import ping

        ping(settings.sweep_ping_url, run.started + policy.sweep_budget)
    if settings.metrics and settings.project:
        from functions.sweep.after_sweep import afterwards

        afterwards(
            store,
            policy,
            settings.project,
            begun.sweep_id,
            run.counts.views,
            run.counts.dead_workers,
            until=run.started + policy.sweep_budget,
        )
    return answer


class _Run:
    """A run that has begun. It settles first; each other step has a share of the time, and may fail
    or be slow without the others."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        dispatcher: Dispatcher,
        settings: Settings,
        sweep_id: int,
    ) -> None:
        self.store, self.policy, self.dispatcher = store, policy, dispatcher
        self.settings, self.sweep_id = settings, sweep_id
        self.started = time.monotonic()
        self.counts = Counts()
        self.errors: list[str] = []
        self.answer: SweepReport | None = None
        self.unfinished: list[Watch] = []
        """Watches in which more may be overdue."""
        self.unsure: dict[str, list[str]] = {}
        """By watch: tasks whose worker may be alive, since nobody was heard. They come last."""
        self.suspended: dict[str, float] = {}
        """By watch: until when (time.monotonic) attempts have the one more lease of this run."""
        self.pushes: list[Push] = []
        """Of the tasks that were put back."""
        self.sizes: dict[str, BatchSize] = {}
        names = list(policy.watches)
        first = sweep_id % len(names)
        self.watches = [policy.watches[name] for name in names[first:] + names[:first]]
        """Each run begins with another one, so that a slow one does not always come first."""

    def keep_time(self, at: float) -> None:
        """Before anything is settled: a clock that was set ends nothing. Where that cannot be
        written, this run ends nothing either, and the next one finds the jump again. `at`: the
        database's clock at the begin."""
        if seconds := clock.jump(self.store, at):
            count = self.store.clock_jumped(self.sweep_id, seconds)
            self.counts.suspended += count
            events.emit(events.CLOCK_JUMPED, seconds=round(seconds, 3), count=count)
        clock.keep(self.store, at)

    def go(self) -> None:
        for watch, until in self._shared(self.watches, self._until("settle")):
            if self._guarded(watch, self._suspend):
                self._guarded(watch, self._settle, until)
            else:
                self.unfinished.append(watch)
        for name, step in {
            "push": self._push,
            "notify": lambda until: notify(self.store, self.policy, self.settings, until),
            "clean": self._clean,
            "pauses": self._pauses,
            "prune": self._prune,
            "overview": self._overview,
        }.items():
            until = max(self._until(name), time.monotonic() + LEAST_STEP_SECONDS)
            if error := within(until, step):
                self.errors.append(f"{name}: {error}")
        self._settle_unsure()
        self._settle_suspended()
        self._settle_again(self.unfinished)

    def _settle_unsure(self) -> None:
        watches = [watch for watch in self.watches if self.unsure.pop(watch.name, None)]
        if watches:
            wait = min(HEARD_SECONDS, HEARD_SHARE * self.policy.sweep_budget)
            time.sleep(max(0.0, self.started + wait - time.monotonic()))
            self._settle_again(watches)

    def _settle_suspended(self) -> None:
        """Whose one more lease ends while this run has time: the next run may be a minute away."""
        latest = self.started + STAY_SHARE * self.policy.sweep_budget - LEAST_BATCH_SECONDS
        for watch in self.watches:
            until = self.suspended.get(watch.name, float("inf"))
            if until < latest:
                time.sleep(max(0.0, until - time.monotonic()))
                self._settle_again([watch])

    def _settle_again(self, watches: list[Watch]) -> None:
        """With the time that nothing else has taken."""
        self.unfinished = [watch for watch in self.unfinished if watch not in watches]
        self.pushes = []
        for watch, until in self._shared(watches, self._until("overview")):
            self._guarded(watch, self._settle, until)
        if pushes(self.dispatcher) and self.pushes:
            until = self.started + self.policy.sweep_budget
            within(until, lambda end: push_all(self.dispatcher, self.pushes, end))

    def fail(self, part: str, error: BaseException) -> None:
        text = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        self.errors.append(f"{part}: {text}")

    def end(self) -> SweepReport:
        self.counts.complete = not self.unfinished
        _measure(self.policy, self.counts)
        seconds = time.monotonic() - self.started
        errors = "; ".join(self.errors) or None
        self.answer = _end(self.store, self.sweep_id, self.counts, errors, seconds)
        return self.answer

    def _until(self, step: str) -> float:
        return self.started + SHARES[step] * self.policy.sweep_budget

    def _shared(self, watches: list[Watch], until: float) -> Iterator[tuple[Watch, float]]:
        """Each watch, with the end of its part of the time that is left."""
        for number, watch in enumerate(watches):
            now = time.monotonic()
            yield watch, now + (until - now) / (len(watches) - number)

    def _guarded(self, watch: Watch, step: Callable[..., None], *arguments: float) -> bool:
        """One watch that fails does not stop the others."""
        try:
            step(watch, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and says so
            self.fail(watch.name, error)
            return False
        return True

    def _suspend(self, watch: Watch) -> None:
        try:
            lapsed = self.store.lapsed(watch, self.policy)
        except StoreError as error:
            if _is_weather(error):
                raise
            lapsed = Lapsed(suspended=self.store.suspend(watch, self.policy), left=0.0, unsure=[])
            if error.code not in NO_SUCH_FUNCTION:
                self.fail(watch.name, error)
        self.unsure[watch.name] = lapsed.unsure
        if lapsed.suspended:
            self.suspended[watch.name] = time.monotonic() + lapsed.left
            self.counts.suspended += lapsed.suspended
            events.emit(events.SWEEP_SUSPENDED, watch=watch.name, count=lapsed.suspended)

    def _settle(self, watch: Watch, until: float) -> None:
        self.unfinished.append(watch)
        for batch in self._batches(watch, until):
            _count(watch, batch, self.counts)
            report(None, watch, batch.rescued, by="sweep")
            self.pushes += pushes_of(watch, batch.rescued)
            if not batch.more:
                self.unfinished.remove(watch)

    def _batches(self, watch: Watch, until: float) -> Iterator[Batch]:
        """Batches until one is not full, or the time is over. The database settles the next batch
        while this one's events are written."""
        with ThreadPoolExecutor(1) as ahead:
            batch = self._batch(watch, until)
            while batch and batch.more:
                coming = ahead.submit(self._batch, watch, until)
                yield batch
                batch = coming.result()
            if batch:
                yield batch

    def _batch(self, watch: Watch, until: float) -> Batch | None:
        """The next batch; None when the time is over. One that fails is tried again at half of its
        size. Where a single task fails, whatever the error, it is passed over and reported."""
        size = self.sizes.setdefault(watch.name, BatchSize(self.policy.sweep_batch))
        name = str(uuid.uuid4())
        while (left := until - time.monotonic()) > 0:
            timeout = max(LEAST_BATCH_SECONDS, left / 3)
            try:
                batch = self.store.sweep(
                    watch,
                    size.rows,
                    sweep_id=self.sweep_id,
                    batch=name,
                    skip=self.unsure.get(watch.name),
                    pushes=pushes(self.dispatcher),
                    timeout=timeout,
                )
            except StoreError as error:
                if not error.retryable:
                    raise
                if size.rows > 1:
                    size.halve(len(self.store.preview(watch, size.rows)))
                    continue
                row = self.store.pass_over(
                    watch, self.sweep_id, error.code, str(error), LEAST_BATCH_SECONDS
                )
                if row is None:
                    raise
                del self.sizes[watch.name]
                return Batch([], [row], more=True)
            size.grow()
            return batch
        return None

    def _push(self, until: float) -> None:
        """Pushes what was put back, then sends lost pushes again."""
        if not pushes(self.dispatcher):
            return
        accepted = push_all(self.dispatcher, self.pushes, until)
        if not all(accepted):
            return  # the queue does not answer: what is left waits for the next run
        for watch, end in self._shared(self.watches, until):
            self._guarded(watch, self._push_again, end)

    def _push_again(self, watch: Watch, until: float) -> None:
        limit = min(self.policy.sweep_batch, MAX_LOST_PUSHES)
        while time.monotonic() < until:
            answered = self.store.redispatch(watch, limit)
            quiet = self._not_queued(watch, answered, until)
            lost = [Push(watch.name, task.task_id, -task.times) for task in quiet]
            accepted = push_all(self.dispatcher, lost, until)
            for task, is_accepted in zip(quiet, accepted, strict=True):
                if is_accepted:
                    events.emit(events.TASK_REDISPATCHED, watch=watch.name, **vars(task))
                    self.counts.redispatched += 1
            if len(answered) < limit or not all(accepted):
                return

    def _not_queued(self, watch: Watch, tasks: list[QuietTask], until: float) -> list[QuietTask]:
        """Those of which no push waits in the queue, as far as it can be asked."""
        pushed = [task for task in tasks if watch.is_pushed(task.kind)]
        seen = [(Push(watch.name, task.task_id, -task.times), task.number) for task in pushed]
        longest = max((watch.rule(task.kind).redispatch_after for task in pushed), default=0.0)
        queued = still_queued(self.dispatcher, seen, longest, until)
        return [task for task, waits in zip(pushed, queued, strict=True) if not waits]

    def _clean(self, _: float) -> None:
        for watch in self.watches:
            self._guarded(watch, self._orphans)

    def _orphans(self, watch: Watch) -> None:
        """And what is open then, in the same call. Where that fails, each is asked alone and
        tells its own failure."""
        try:
            tidied = self.store.tidy(watch, self.sweep_id)
        except StoreError as error:
            if _is_weather(error):
                raise
            self.counts.orphaned += self.store.orphans(watch, self.sweep_id)
        else:
            self.counts.orphaned += tidied.orphaned
            self.counts.views[watch.name] = tidied.open

    def _pauses(self, _: float) -> None:
        with suppress(StoreError):  # the SQL before an upgrade does not know it
            names = [watch.name for watch in self.watches]
            for pause in self.store.pauses_told(names, FORGOTTEN_SECONDS):
                tell_pause(pause, pause.verdict)

    def _prune(self, _: float) -> None:
        self.counts.pruned = self.store.prune(self.policy.retention, self.policy.own_part)
        for watch in self.watches:
            if watch.retains:
                self._guarded(watch, self._retain)

    def _retain(self, watch: Watch) -> None:
        self.counts.pruned += self.store.retain(watch)

    def _overview(self, _: float) -> None:
        for watch in self.watches:
            self._guarded(watch, self._look)

    def _look(self, watch: Watch) -> None:
        view = self.counts.views.get(watch.name) or self.store.overview(watch)
        self.counts.views[watch.name] = view
        if any(_waits_long(watch, tasks) for tasks in view.open):
            self._tell_pace(watch)

    def _tell_pace(self, watch: Watch) -> None:
        with suppress(StoreError):  # such as of the SQL before an upgrade: it is a hint, no duty
            for pace in self.store.pace(watch):
                if pace.is_slow:
                    waited = {"oldest": round(pace.oldest)}
                    events.emit(events.QUEUE_SLOW, watch=watch.name, **vars(pace) | waited)


class BatchSize:
    """How many rows a batch may have: half as many after one that failed; then again more, but not
    as many as failed."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._most = rows

    def halve(self, overdue: int) -> None:
        """`overdue`: how many rows there were at most."""
        self._most = max(1, min(self.rows, overdue) - 1)
        self.rows = (self._most + 1) // 2

    def grow(self) -> None:
        if self.rows * 2 <= self._most:
            self.rows *= 2


def _is_weather(error: StoreError) -> bool:
    """Then a part of a call fails as the whole did; a time limit may be that of one part."""
    return error.retryable and error.code != CANCELLED


def _count(watch: Watch, batch: Batch, counts: Counts) -> None:
    states = [task.state for task in batch.rescued]
    counts.requeued += states.count(RescuedState.PENDING)
    counts.failed += states.count(RescuedState.FAILED)
    counts.ended_late = max(counts.ended_late, *(task.late for task in batch.rescued), 0.0)
    counts.dead_workers += [
        (watch.name, task)
        for task in batch.rescued
        if task.cause == Reason.LEASE_LOST and task.state is not RescuedState.OVERTAKEN
    ]
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


def _waits_long(watch: Watch, tasks: OpenCount) -> bool:
    """Longer than a push that was not lost."""
    longest = watch.rule(tasks.kind or "").redispatch_after
    return tasks.state is State.PENDING and float(tasks.oldest or 0) > longest


def _waits(view: OpenWork) -> list[float]:
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
