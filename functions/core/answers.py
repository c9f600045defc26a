"""What the verbs of the database answer, as types. store/reader.py makes them from JSON; the fields
have the names of the SQL."""

from enum import StrEnum
from typing import Any, Literal

from functions.core.record import Record
from functions.core.states import Outcome, State

PACE_SECONDS = 600.0


class RescuedState(StrEnum):
    """Where the rescue of an overdue task led."""

    PENDING = "pending"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Its user had asked to stop it."""
    OVERTAKEN = "overtaken"
    """Somebody who does not use the guard had moved the task: only its attempt was ended."""


class Rescued(Record):
    """An overdue task that was settled, or, in a preview, would be. `number` is its attempt, `late`
    the seconds since it should have ended, `retry_after` the seconds until the next try may start,
    `was` its state before, `live` whether an attempt of the ledger ended; both are None where the
    answer to a batch is read back."""

    task_id: str
    kind: str
    number: int
    tries: int
    worker: str | None
    state: RescuedState
    reason: str
    cause: str
    error: str | None
    retry_after: float | None
    late: float
    was: str | None = None
    live: bool | None = None


class Lapsed(Record):
    """Before a run settles: how many attempts got one more lease, and keep it for `left` seconds;
    and `unsure`, tasks of attempts whose lease ran out while nobody was heard: the worker, or the
    way to the database, was away."""

    suspended: int
    left: float
    unsure: list[str]


class StuckGroup(Record):
    """Stuck tasks with which a sweep would do the same, for the same reason: how many, and the ages
    in seconds of the oldest and the newest."""

    kind: str
    was: str
    state: RescuedState
    reason: str
    count: int
    oldest: float | None
    newest: float | None


class StuckTasks(Record):
    """What is stuck now, and what a sweep would do: `count` (at most `most`), and the first of
    them."""

    most: int
    count: int
    groups: list[StuckGroup]
    tasks: list[Rescued]


class HeldTask(Record):
    """A task that a live attempt holds, by the token of that attempt."""

    watch: str
    task_id: str
    token: str


class Unsweepable(Record):
    """An overdue task that the database refuses to settle, with the SQLSTATE, the error, and the
    time of the first refusal."""

    task_id: str
    kind: str
    code: str
    error: str
    since: str | None = None


class Batch(Record):
    """One batch of a sweep. `more`: it was full, so that another one may find more."""

    rescued: list[Rescued]
    unsweepable: list[Unsweepable]
    more: bool


class Created(Record):
    """`due_in`: seconds until it may start."""

    task_id: str
    state: State
    rescued: list[Rescued] | None = None
    """What stood in the way and was overdue."""
    due_in: float = 0.0
    verdict: Literal["created"] = "created"


class Exists(Record):
    """The idempotency key, or the id, was used before for this very task."""

    task_id: str
    state: State | None
    rescued: list[Rescued] | None = None
    due_in: float = 0.0
    verdict: Literal["exists"] = "exists"


class Conflict(Record):
    """The idempotency key was used for another task."""

    task_id: str
    state: State | None
    rescued: list[Rescued] | None = None
    due_in: float = 0.0
    verdict: Literal["conflict"] = "conflict"


class Limited(Record):
    """The owner created too many tasks in a minute; `retry_after` seconds."""

    retry_after: float
    rescued: list[Rescued] | None = None
    verdict: Literal["limited"] = "limited"


class Active(Record):
    """The owner has an open task of a kind of which only one may be open."""

    task_id: str
    state: State
    rescued: list[Rescued] | None = None
    verdict: Literal["active"] = "active"


class Claimed(Record):
    """A worker holds the task. Each write of this attempt carries `token`."""

    task_id: str
    kind: str
    state: State
    token: str
    number: int
    tries: int
    input: Any
    checkpoint: dict[str, Any]
    rescued: list[Rescued] | None = None
    is_readable: bool = True
    """False: its input or checkpoint holds JSON that Python does not read."""
    verdict: Literal["claimed"] = "claimed"


class ClaimRefusal(StrEnum):
    """Why there is no claim."""

    HELD = "held"
    """A live attempt holds the task."""
    EARLY = "early"
    """Its time has not come."""
    ENDED = "ended"
    RESTING = "resting"
    MISSING = "missing"
    ELSEWHERE = "elsewhere"
    """This worker has no handler for its kind: another one may have it."""
    PAUSED = "paused"
    """Its kind, or all of its watch, is paused."""
    LIMITED = "limited"
    """As many as may run, or start in a minute, do."""
    NONE = "none"
    """No task is due; the answer to a claim of any task."""


class NotClaimed(Record):
    """`retry_after`: seconds after which a claim may succeed."""

    verdict: ClaimRefusal
    task_id: str | None = None
    kind: str | None = None
    state: State | None = None
    retry_after: float | None = None
    rescued: list[Rescued] | None = None


class Held(Record):
    """The attempt holds its task still."""

    verdict: Literal["held"] = "held"


class Lost(Record):
    """The attempt does not hold its task any more: how it ended, or None for an unknown token."""

    outcome: Outcome | None = None
    reason: str | None = None
    kind: str | None = None
    number: int | None = None
    task_id: str | None = None
    """The task that the guard ran."""
    verdict: Literal["lost"] = "lost"


class Settled(Record):
    """The attempt has ended and the task is in `state`. `took`: seconds of work. `repeat`: it had
    been settled before, by the same call. `pushed`: whether the queue took the push of the next
    try, None before it is sent (worker/settle.py)."""

    state: State
    reason: str | None
    error: str | None
    number: int
    tries: int
    kind: str
    took: float
    retry_after: float | None
    repeat: bool = False
    pushed: bool | None = None
    task_id: str | None = None
    """The task that the guard ran."""
    verdict: Literal["settled"] = "settled"


class LastAttempt(Record):
    """The latest attempt of a task. Ages and remainders are seconds; `of` is how many tries its
    rule allows."""

    number: int
    tries: int
    of: int
    worker: str | None
    started_at: str
    beat_at: str
    ended_at: str | None
    outcome: Outcome | None
    reason: str | None
    cause: str | None
    evidence: str | None
    progress: Any
    age: float
    silent: float
    ended_ago: float | None
    took: float | None
    deadline_left: float | None
    lease_left: float | None


class Pause(Record):
    """A pause of a kind, or, with "*", of a whole watch. `age` and `left` are seconds; `left` is
    None until somebody resumes it. `breaker`: the circuit breaker paused it."""

    watch: str
    kind: str
    who: str
    why: str | None
    breaker: bool
    since: str
    age: float
    left: float | None
    ended_by: str | None


class ToldPause(Pause):
    """What of a pause is to be told: it began, is over, or is forgotten."""

    verdict: Literal["paused", "resumed", "forgotten"]


class TaskStatus(Record):
    """`word` is the table's own word for `state`, which is None where the policy lacks the word.
    `waited`, `silent`, `due_in` and `pending_left` (until it fails as never_claimed) are
    seconds."""

    task_id: str
    state: State | None
    word: str | None
    kind: str
    owner: str | None
    result: Any
    error: str | None
    reason: str | None
    queued_at: str | None
    waited: float | None
    silent: float | None
    due_in: float | None
    overdue: bool
    rescued: list[Rescued]
    attempt: LastAttempt | None
    pending_left: float | None = None
    paused: Pause | None = None
    """That holds it up, while it waits."""


class Cancelled(Record):
    task_id: str
    kind: str
    state: State
    number: int | None
    tries: int | None
    reason: str | None
    verdict: Literal["cancelled"] = "cancelled"


class AlreadyEnded(Record):
    """Too late to cancel; `state` is None where the policy lacks the table's word."""

    task_id: str
    state: State | None
    verdict: Literal["ended"] = "ended"


class TaskRow(Record):
    """A task in a list. `age`: seconds in its state."""

    task_id: str
    state: State | None
    word: str | None
    kind: str
    owner: str | None
    error: str | None
    number: int | None
    tries: int | None
    worker: str | None
    reason: str | None
    age: float | None


class Attempt(Record):
    """An attempt in the history of a task. `age`: seconds since it began; `took`: seconds from then
    to its end. `checkpoints` are their names."""

    number: int
    tries: int
    worker: str | None
    started_at: str
    ended_at: str | None
    age: float
    took: float | None
    beats: int
    outcome: Outcome | None
    reason: str | None
    cause: str | None
    error: str | None
    detail: str | None
    evidence: str | None
    progress: Any
    checkpoints: list[str] | None
    sweep_id: int | None


class OpenCount(Record):
    """How many tasks of a kind are pending or running, and since how many seconds the oldest is."""

    state: State
    kind: str | None
    count: int
    oldest: float | None


class OverdueCount(Record):
    """`oldest`: seconds since the first of them should have ended; None where there is none.
    `unjudged`: so many open tasks have no time by which they could be."""

    count: int
    oldest: float | None
    unjudged: int = 0


class EndedCount(Record):
    """How many attempts ended so in the last hour."""

    kind: str | None
    outcome: Outcome
    reason: str | None
    count: int


class LastSweep(Record):
    """`ago`: seconds since it began. `ok` is None until it has ended."""

    started_at: str
    ago: float
    ok: bool | None
    counts: dict[str, Any] | None


class OpenWork(Record):
    """Open tasks by state and kind, live attempts, and what is overdue now."""

    open: list[OpenCount]
    live: int
    live_by_kind: dict[str, int]
    overdue: OverdueCount


class Overview(OpenWork):
    """And what ended or was refused in the last hour. `estimated`: so many wait that the planner's
    number stands for them."""

    ended: list[EndedCount]
    refused: int
    last_sweep: LastSweep | None
    estimated: bool = False


class Tidied(Record):
    """What a run does last in a watch: how many attempts it ended whose task row was deleted, and
    what is open then."""

    orphaned: int
    open: OpenWork


class Pace(Record):
    """How fast the queue of a kind is: how many tasks wait, since how many seconds the oldest, and
    how many came and were taken in the last PACE_SECONDS."""

    kind: str | None
    waiting: int
    oldest: float
    came: int
    taken: int

    @property
    def is_slow(self) -> bool:
        """More come than are taken."""
        return self.came > self.taken


class SweepBegun(Record):
    """`at`: the database's clock at the begin, in seconds since 1970; None from the SQL of an
    earlier release."""

    sweep_id: int
    at: float | None = None
    verdict: Literal["begun"] = "begun"


class SweepRefusal(StrEnum):
    """Why a run of the sweep does not begin."""

    DUPLICATE = "duplicate"
    """The run of this key has ended well."""
    RUNNING = "running"
    """Another run has not ended yet."""


class SweepNotBegun(Record):
    verdict: SweepRefusal


class QuietTask(Record):
    """A pending task whose push seems lost; `times` it was pushed again, `age` in seconds, `number`
    the try that its first push was for."""

    task_id: str
    kind: str
    times: int
    age: float
    number: int = 1


class ToldEnd(Record):
    """How an attempt ended, of which somebody is to be told; or, with the state `notice`, something
    that is of no task: `reason` is its code, `cause` a sentence."""

    watch: str
    task_id: str
    number: int
    kind: str
    reason: str
    cause: str | None
    at: str
    state: str = "failed"


class Message(Record):
    """A message of the outbox: its id, how often it was taken, what it tells of, and to whom: the
    name of an address, or, of a task's own callback, its URL. `retry_after`: seconds until it is
    tried again if it cannot be sent now; None: then it is given up."""

    message: str
    times: int
    tasks: list[ToldEnd]
    address: str = "default"
    url: str | None = None
    retry_after: float | None = 3600.0


class Evidence(Record):
    """Why the worker of an attempt died, as the platform's log tells it. An argument of the verb
    `evidence`."""

    watch: str
    task_id: str
    number: int
    cause: str
    evidence: str
