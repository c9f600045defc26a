"""The test by which a task is stuck, as SQL: one for each open state, the same for the look and for
the fix.

A running task is judged by its last sign of life, coalesce(alive, started, queued): NULL means the
next clock. A pending one by the time since which it waits, and never before it is due. A lease, a
deadline or a time-out of the row itself wins over the global numbers. Resting words, soft-deleted
rows and rows that wait for a later time are never stuck."""

from collections.abc import Iterator
from dataclasses import dataclass

from functions.core.states import State
from functions.install.column_sql import (
    TIMES,
    Column,
    bound,
    earliest,
    interval,
    is_set,
    literal,
    moment,
    qualified,
)
from functions.install.own_limits import GRACE_SECONDS, OwnLimits, first, latest
from functions.ops.inspect.infer import Inferred

SILENCE_SECONDS = 30 * 60
"""So long a running task may give no sign of life: three times the median of 53 cleanup scripts (10
min), since most judge by a start time alone, and to end a healthy long task is worse than to find a
dead one later."""
WAIT_SECONDS = 60 * 60
"""So long a pending task may wait: cleanup scripts that have such a rule say 3 to 60 min; 43 of 59
have none."""


@dataclass(frozen=True)
class Limits:
    """What a person asks for. `older_than` stands in for all three numbers; what a row says of
    itself still wins."""

    older_than: float | None = None
    job: str | None = None
    kind: str | None = None
    limit: int | None = None
    action: str = "fail"

    def seconds(self, usual: float) -> float:
        return usual if self.older_than is None else self.older_than

    def interval(self, usual: float) -> str:
        return f"make_interval(secs => {self.seconds(usual):g})"


def ended_by(inferred: Inferred) -> Column | None:
    """The column that a row has set when it has ended, well or badly."""
    mapping = inferred.mapping
    if mapping.ends_well or not mapping.clock("finished"):
        return None
    finished = inferred.table.columns[mapping.clock("finished")[0]]
    return None if finished.not_null or finished.born_now else finished


class Overdue:
    """The test of one state. `t` is the task."""

    def __init__(self, inferred: Inferred, state: State, limits: Limits) -> None:
        self.inferred, self.state, self.limits = inferred, state, limits
        self.mapping, self.columns = inferred.mapping, inferred.table.columns
        self.words = self.mapping.words.get(state, ())
        self.pending = state == State.PENDING
        self.silence = inferred.silence or SILENCE_SECONDS

    @property
    def key(self) -> str:
        return self.named(self.mapping.key)

    @property
    def status(self) -> str:
        return self.named(self.mapping.status)

    def named(self, name: str | None) -> str:
        """A column of the task; NULL where the table has none."""
        return qualified(self.columns[name]) if name else "null"

    def clock(self, *names: str) -> list[str]:
        """The moments of some clocks."""
        return [moment(self.columns[name]) for clock in names for name in self.mapping.clock(clock)]

    @property
    def open(self) -> str:
        """Is it in this state, and not deleted?"""
        words = ", ".join(literal(word) for word in self.words)
        values = f"= {words}" if len(self.words) == 1 else f"in ({words})"
        return " and ".join([f"{self.status} {values}", *self._not_deleted(), *self._not_ended()])

    def _not_ended(self) -> Iterator[str]:
        """A row whose end time is set is not open, unless it was touched after its end."""
        if (finished := ended_by(self.inferred)) is None:
            return
        end = moment(finished)
        signs = dict.fromkeys([*self._signs(), *self.clock("due")])
        later = [f"{sign} > {end} + interval '1 minute'" for sign in signs]
        yield f"({' or '.join([f'({end}) is null', *later])})"

    @property
    def asked_to_stop(self) -> str | None:
        """Did its user ask to stop it? None where nothing can tell."""
        words = ", ".join(literal(word) for word in self.words if word in self.mapping.stopping)
        tests = [f"{self.status} in ({words})"] if words else []
        tests += [
            is_set(self.columns[name], self.named(name)) for name in self.mapping.asked_to_stop
        ]
        return f"({' or '.join(tests)})" if tests else None

    def _not_deleted(self) -> Iterator[str]:
        for name in self.mapping.deleted:
            alive = "not true" if self.columns[name].type == "bool" else "null"
            yield f"{self.named(name)} is {alive}"

    @property
    def since(self) -> str:
        """The last sign of life, or the time since which it waits."""
        if self.pending:
            planned = [*self._queued(), *self.clock("due", "lease")]
            started = self.clock("started") if self.mapping.clock("alive") else []
            waits = [*planned, *started, *self._locked(), *self._put_back()]
            return first([latest(waits), *self._signs()])
        return first([latest(self._signs()), *self._queued(), *self.clock("due", "lease")])

    def _queued(self) -> list[str]:
        return [first(self.clock("queued"))] if self.mapping.clock("queued") else []

    def _alive(self) -> list[str]:
        alive = [moment(self.columns[name]) for name in self.mapping.alive]
        return [first(alive)] if alive else []

    def _locked(self) -> list[str]:
        return [moment(self.columns[name]) for name in self.mapping.locked_at]

    def _signs(self) -> list[str]:
        """A claim after the last beat counts too: an updated_at that nobody moves must not age a
        task that just started."""
        signs = [*self._alive(), *self.clock("started"), *self._locked()]
        beats = self.mapping.clock("alive") not in ((), self.mapping.touched[:1])
        if beats and not self.clock("started") and not self._locked():
            signs += [moment(self.columns[name]) for name in self.mapping.touched]
        return signs

    def _put_back(self) -> list[str]:
        """A task that was tried before waits since it was put back, not since it was created. Where
        nothing counts the tries, each write to it may have put it back."""
        attempts = self.mapping.columns.get("attempts")
        if not attempts:
            return [moment(self.columns[name]) for name in self.mapping.touched]
        return [f"case when {self.named(attempts)} > 0 then {alive} end" for alive in self._alive()]

    @property
    def when(self) -> str:
        """The time from which it is stuck: that of the first rule."""
        rules = [when for _, when in self.rules()]
        return f"least({', '.join(rules)})" if len(rules) > 1 else rules[0]

    def rules(self) -> list[tuple[str, str]]:
        """What makes it stuck, and from when on. A row's own rule replaces the global number."""
        if self.pending:
            waiting = ("waiting", f"{self.since} + {self.limits.interval(WAIT_SECONDS)}")
            asked = f"case when {self.asked_to_stop} then now() end"
            return [("asked", asked), waiting] if self.asked_to_stop else [waiting]
        own = self._own()
        start = first([*self.clock("started"), *self._alive(), *self._queued()])
        silent = f"{self.since} + {self.limits.interval(self.silence)}"
        if own.stated:
            silent = f"case when {own.unstated} then {silent} end"
        grace = self.limits.interval(GRACE_SECONDS)
        alive = first([*self._alive(), *self.clock("started"), *self._queued()])
        return [*own.ends(self.since, start, [alive], grace), ("silent", silent)]

    def _own(self) -> OwnLimits:
        """What rows may say of themselves in this table."""
        return OwnLimits(
            deadline=first(self.clock("deadline")),
            run=first(interval(self.columns[own.name], own.unit) for own in self.mapping.timeouts),
            silence=first(
                interval(self.columns[own.name], own.unit) for own in self.mapping.silences
            ),
            lease=latest(self.clock("lease")),
        )

    @property
    def stuck(self) -> str:
        """The whole test. A task that a person names need not be dated: where no clock tells, the
        name is enough."""
        late = f"{self.when} <= now()"
        if self.limits.job is not None:
            late = f"({late} or ({self.when}) is null)"
        due = [earliest(self.columns[name]) for name in self.mapping.clock("due")]
        awake = [f"({time} <= now()) is not false" for time in due]
        if self.pending and awake and self.asked_to_stop:
            awake = [f"({self.asked_to_stop} or {' and '.join(awake)})"]
        return " and ".join([self.open, *awake, *self._chosen(), late, *self._indexable()])

    @property
    def undated(self) -> str:
        """Is it open, and no clock tells since when? What waits for its time is known to wait."""
        waits = [f"{due} is null" for due in self.clock("due")]
        return " and ".join([self.open, *waits, f"({self.when}) is null"])

    @property
    def always_dated(self) -> bool:
        """Whether a clock of it is never NULL."""
        clocks = ("queued",) if self.pending else ("alive", "started", "queued")
        names = [name for clock in clocks for name in self.mapping.clock(clock)]
        return any(
            self.columns[name].not_null and self.columns[name].type in TIMES for name in names
        )

    def _chosen(self) -> Iterator[str]:
        if self.limits.job is not None:
            yield f"{self.key} = {literal(self.limits.job)}"
        if self.limits.kind is not None:
            yield f"{self.named(self.mapping.columns['kind'])}::text = {literal(self.limits.kind)}"

    def _indexable(self) -> Iterator[str]:
        """What follows from being late for columns that are never NULL, in the form in which an
        index on them can be used."""
        if self.limits.job is not None or len(self.rules()) > 1:
            return
        seconds = WAIT_SECONDS if self.pending else self.silence
        edge = f"(now() - {self.limits.interval(seconds)})"
        for name in self.dated_by():
            yield f"{self.named(name)} <= {bound(self.columns[name], edge)}"

    def dated_by(self) -> list[str]:
        """The columns that are never NULL and never later than `since`."""
        waits = (*self.mapping.clock("queued")[:1], *self.mapping.clock("due"))
        clocks = waits if self.pending else self.mapping.clock("alive")[:1]
        return [
            name for name in clocks if self.columns[name].not_null and bound(self.columns[name], "")
        ]


def open_states(inferred: Inferred, limits: Limits) -> list[Overdue]:
    """One for each open state that has a word."""
    tests = [Overdue(inferred, state, limits) for state in (State.RUNNING, State.PENDING)]
    return [test for test in tests if test.words]


def counts_retries(name: str) -> bool:
    """Whether a column counts how many times a task was tried again, and not its attempts."""
    return "retr" in name.lower()


def action(test: Overdue) -> str:
    """What would be done with a row, as SQL: to put back a task that has used its tries up would be
    a limbo for ever, and one whose user asked to stop it is cancelled."""
    chosen = _chosen_action(test)
    if test.asked_to_stop is None:
        return chosen
    end = "cancel" if test.mapping.word(State.CANCELLED) is not None else "fail"
    return f"case when {test.asked_to_stop} then {literal(end)} else {chosen} end"


def _chosen_action(test: Overdue) -> str:
    if test.mapping.word(State.PENDING) is None:
        return literal("fail")
    attempts, limit = test.mapping.columns.get("attempts"), test.mapping.columns.get("limit")
    if test.limits.action == "requeue" and attempts and limit and not test.pending:
        most = test.named(limit)
        exhausted = f"{most} > 0 and {test.named(attempts)} >= {most}"
        if counts_retries(limit) != counts_retries(attempts):
            exhausted += f" + {'1' if counts_retries(limit) else '-1'}"
        return f"case when {exhausted} then 'fail' else 'requeue' end"
    return literal(test.limits.action)
