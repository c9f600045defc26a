"""What the verbs of the operators' page answer (functions/sql/page.sql, pulse.sql, timeline.sql,
sweeps.sql). Ages and durations are seconds; moments are seconds since 1970."""

from typing import Any

from functions.core.answers import OpenCount, OverdueCount
from functions.core.record import Record
from functions.core.states import Outcome, State


class ListedTask(Record):
    """A row of the list. `word` is the table's own word for `state`, `number` its latest attempt,
    `since` when it came into its state and `age` how long that is, `late` for how long it is stuck;
    None: it is not. `label` tells a person which task it is. `searched`: its input as text, where a
    text was searched for. `waited`: for a worker, before its only attempt; `took`: the attempt that
    ended it."""

    task_id: str
    state: State | None
    word: str | None
    kind: str | None
    owner: str | None
    error: str | None
    number: int | None
    worker: str | None
    reason: str | None
    progress: Any
    age: float | None
    late: float | None
    since: float | None = None
    label: str | None = None
    searched: str | None = None
    waited: float | None = None
    took: float | None = None


class Place(Record):
    """Where the next page of the list begins. `searched`: the page ended before it was full, since
    enough rows had been looked at."""

    section: int
    at: str | None
    id: str
    searched: bool = False


class TaskPage(Record):
    tasks: list[ListedTask]
    next: Place | None


class FailureGroup(Record):
    """Failures whose sentences differ in ids and numbers only. `message` is their shape, `example`
    the latest sentence, which came `ago` seconds ago."""

    message: str
    example: str
    kinds: list[str]
    reasons: list[str]
    count: int
    ago: float


class Failures(Record):
    """Of the latest failures, `most` at most, `seen` in fact."""

    seen: int
    most: int
    groups: list[FailureGroup]


class LatestSweep(Record):
    id: int
    ago: float
    ok: bool | None
    counts: dict[str, Any] | None
    error: str | None
    running: bool


class Summary(Record):
    """No count is larger than `most`. `last_good`: age of the last sweep that ended well."""

    most: int
    stuck: OverdueCount
    open: list[OpenCount]
    last_sweep: LatestSweep | None
    last_good: float | None


class HalfHour(Record):
    """How the attempts that ended in a half hour did. `more`: these are a sample, and `about` is
    how many there were. `kinds`: those of the sample."""

    completed: int
    failed: int
    retried: int
    more: bool
    about: int = 0
    kinds: list[str] | None = None


class Rescues(Record):
    """Of the half hour `n` (0: the oldest): how many tasks sweeps rescued, and the median and the
    longest time from the last sign of life to the rescue."""

    n: int
    count: int
    p50: float
    max: float


class Waits(Record):
    """How long tasks waited for a worker, from when they were due to their first claim: of a
    sample of so many, half for at most `p50`."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None


class LastDay(Record):
    """`begin`: of the first half hour; `step`: 1800 seconds."""

    begin: float
    step: float
    ended: list[HalfHour]
    rescued: list[Rescues]
    waits: Waits = Waits()


class TimedAttempt(Record):
    """An attempt with all its moments; `checkpoints` by name. `sweep_id`: the sweep that ended it,
    0 for a poll. `trace`: of the request in which it ran, 32 hex digits."""

    number: int
    tries: int
    worker: str | None
    started: float
    beat: float
    beats: int
    lease: float
    lease_until: float
    deadline: float
    ended: float | None
    retry_at: float | None
    outcome: Outcome | None
    reason: str | None
    cause: str | None
    error: str | None
    detail: str | None
    progress: Any
    sweep_id: int | None
    checkpoints: dict[str, float] | None
    trace: str | None = None


class RefusedWrite(Record):
    """A write that the database refused. `source` is verb or fence; `wanted` what was to be
    written."""

    at: float
    source: str
    wanted: str
    because: str
    writer: str | None


class Unguarded(Record):
    """When a task that has no attempt started, showed life and ended, as its row says it."""

    started: float | None
    alive: float | None
    ended: float | None


class Timeline(Record):
    """`due`: when the task may start, if it is pending. `parent`: the task that it repeats.
    `label` tells a person which task it is."""

    now: float
    created: float | None
    due: float | None
    attempts: list[TimedAttempt]
    refusals: list[RefusedWrite]
    parent: str | None = None
    label: str | None = None
    unguarded: Unguarded | None = None


class Payload(Record):
    """`checkpoints`: the data of the latest attempt's checkpoints."""

    input: Any = None
    result: Any = None
    checkpoints: Any = None


class SweptTask(Record):
    """What a sweep did to a task. `state` is the task's state now, `word` the table's own;
    `undo`: it is failed, and as the sweep left it."""

    task_id: str
    number: int
    kind: str | None
    worker: str | None
    outcome: Outcome | None
    reason: str | None
    cause: str | None
    silent: float | None
    state: State | None
    undo: bool
    word: str | None = None


class SweepRun(Record):
    id: int
    by: str | None
    ok: bool | None
    counts: dict[str, Any] | None
    error: str | None
    started: float
    ago: float
    took: float | None
