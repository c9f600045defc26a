"""The test by which a task is stuck, as SQL: one for each open state, the same for the look and for
the fix.

A running task is judged by its last sign of life, coalesce(alive, started, queued): NULL means the
next clock. A pending one by the time since which it waits, and never before it is due. A lease, a
deadline or a time-out of the row itself wins over the global numbers. Resting words, soft-deleted
rows and rows that wait for a later time are never stuck."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from functions.core.states import State
from functions.install.column_sql import bound, column, interval, literal, moment
from functions.ops.look.infer import Inferred

RUNNING_FOR = 30 * 60
"""Seconds without a sign of life: three times the median of 53 cleaners in the field (10 min),
since most judge by a start time alone, and a healthy long task that is ended is worse than a dead
one that is found later."""
PENDING_FOR = 60 * 60
"""Seconds that a task may wait: what the field's pending rules come to (3 to 60 min); 43 of 59
cleaners have none."""
GRACE = 5 * 60
"""Seconds after the end of a lease or the deadline of a row: its own workers may be about to take
it again."""


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


NOTHING = "null::timestamptz"


class Overdue:
    """The test of one state. `t` is the task."""

    def __init__(self, found: Inferred, state: State, limits: Limits) -> None:
        self.found, self.state, self.limits = found, state, limits
        self.mapping, self.columns = found.mapping, found.table.columns
        self.words = self.mapping.words.get(state, ())
        self.pending = state == State.PENDING

    @property
    def key(self) -> str:
        return self.named(self.mapping.key)

    @property
    def status(self) -> str:
        return self.named(self.mapping.status)

    def named(self, name: str | None) -> str:
        """A column of the task; NULL where the table has none."""
        return column(self.columns[name]) if name else "null"

    def clock(self, *names: str) -> list[str]:
        """The moments of some clocks."""
        return [moment(self.columns[name]) for clock in names for name in self.mapping.clock(clock)]

    @property
    def open(self) -> str:
        """Is it in this state, and not deleted?"""
        words = ", ".join(literal(word) for word in self.words)
        is_word = (
            f"{self.status} = {words}" if len(self.words) == 1 else f"{self.status} in ({words})"
        )
        return " and ".join([is_word, *self._not_deleted()])

    def _not_deleted(self) -> Iterator[str]:
        for name in self.mapping.deleted:
            yield f"{self.named(name)} is {'not true' if self.columns[name].type == 'bool' else 'null'}"

    @property
    def since(self) -> str:
        """The last sign of life, or the time since which it waits."""
        if self.pending:
            waits = [
                *self._queued(),
                *self.clock("due", "lease"),
                *self._locked(),
                *self._put_back(),
            ]
            return _first([_latest(waits), *self._signs()])
        return _first([_latest(self._signs()), *self._queued(), *self.clock("due", "lease")])

    def _queued(self) -> list[str]:
        return [_first(self.clock("queued"))] if self.mapping.clock("queued") else []

    def _alive(self) -> list[str]:
        return [_first(self.clock("alive"))] if self.mapping.clock("alive") else []

    def _locked(self) -> list[str]:
        return [moment(self.columns[name]) for name in self.mapping.locked_at]

    def _signs(self) -> list[str]:
        """A claim after the last beat counts too: an updated_at that nobody moves must not age a
        task that just started."""
        return [*self._alive(), *self.clock("started"), *self._locked()]

    def _put_back(self) -> list[str]:
        """A task that was tried before waits since it was put back, not since it was created."""
        attempts = self.mapping.columns.get("attempts")
        return [
            f"case when {self.named(attempts)} > 0 then {alive} end"
            for alive in self._alive()
            if attempts
        ]

    @property
    def when(self) -> str:
        """The time from which it is stuck: that of the first rule."""
        rules = [when for _, when in self.rules()]
        return f"least({', '.join(rules)})" if len(rules) > 1 else rules[0]

    def rules(self) -> list[tuple[str, str]]:
        """What makes it stuck, and from when on. A row's own rule stands in for the global number."""
        if self.pending:
            return [("waiting", f"{self.since} + {self.limits.interval(PENDING_FOR)}")]
        own, grace = self._own(), self.limits.interval(GRACE)
        rules = []
        if deadline := own.get("deadline"):
            rules.append(("deadline", f"{deadline} + {grace}"))
        if timeout := own.get("timeout"):
            start = _first([*self.clock("started"), *self._alive(), *self._queued()])
            rules.append(("timeout", f"{start} + {timeout}"))
        if lease := own.get("lease"):
            alive = _latest([lease, *self._alive()])
            rules.append(("lease", f"case when {lease} is not null then {alive} + {grace} end"))
        silent = f"{self.since} + {self.limits.interval(RUNNING_FOR)}"
        unruled = " and ".join(f"{one} is null" for one in own.values())
        return [*rules, ("silent", f"case when {unruled} then {silent} end" if own else silent)]

    def _own(self) -> dict[str, str]:
        """What rows may say of themselves in this table."""
        timeouts = [interval(self.columns[one.name], one.unit) for one in self.mapping.timeouts]
        own = {
            "deadline": _first(self.clock("deadline")),
            "timeout": _first(timeouts),
            "lease": _latest(self.clock("lease")),
        }
        return {name: one for name, one in own.items() if one != NOTHING}

    @property
    def stuck(self) -> str:
        """The whole test. A task that a person names need not be dated: where no clock tells, the
        name is enough."""
        late = f"{self.when} <= now()"
        if self.limits.job is not None:
            late = f"({late} or ({self.when}) is null)"
        awake = [f"({due} <= now()) is not false" for due in self.clock("due")]
        return " and ".join([self.open, *awake, *self._asked(), late, *self._indexable()])

    def _asked(self) -> Iterator[str]:
        if self.limits.job is not None:
            yield f"{self.key} = {literal(self.limits.job)}"
        if self.limits.kind is not None:
            yield f"{self.named(self.mapping.columns['kind'])}::text = {literal(self.limits.kind)}"

    def _indexable(self) -> Iterator[str]:
        """What follows from being late for columns that are never NULL, in the form in which an
        index on them can be used."""
        if self.limits.job is not None or len(self.rules()) > 1:
            return
        edge = f"(now() - {self.limits.interval(PENDING_FOR if self.pending else RUNNING_FOR)})"
        for name in self.dated_by():
            yield f"{self.named(name)} <= {bound(self.columns[name], edge)}"

    def dated_by(self) -> list[str]:
        """The columns that are never NULL and never later than `since`."""
        waits = (*self.mapping.clock("queued")[:1], *self.mapping.clock("due"))
        clocks = waits if self.pending else self.mapping.clock("alive")[:1]
        return [
            name for name in clocks if self.columns[name].not_null and bound(self.columns[name], "")
        ]


def _first(moments: Iterable[str]) -> str:
    listed = list(moments)
    return f"coalesce({', '.join(listed)})" if len(listed) > 1 else "".join(listed) or NOTHING


def _latest(moments: Iterable[str]) -> str:
    listed = list(moments)
    return f"greatest({', '.join(listed)})" if len(listed) > 1 else "".join(listed) or NOTHING


def open_states(found: Inferred, limits: Limits) -> list[Overdue]:
    """One for each open state that has a word."""
    return [
        test
        for state in (State.RUNNING, State.PENDING)
        if (test := Overdue(found, state, limits)).words
    ]


def action(test: Overdue) -> str:
    """What would be done with a row, as SQL: to put back a task that has used its tries up would be
    a limbo for ever."""
    if test.mapping.word(State.PENDING) is None:
        return literal("fail")
    attempts, limit = test.mapping.columns.get("attempts"), test.mapping.columns.get("limit")
    if test.limits.action == "requeue" and attempts and limit and not test.pending:
        return f"case when {test.named(attempts)} >= {test.named(limit)} then 'fail' else 'requeue' end"
    return literal(test.limits.action)
