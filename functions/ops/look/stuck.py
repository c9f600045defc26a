"""The rows that are stuck, and why. Ages are the database's: no time travels but intervals.

A running task is judged by its last sign of life, coalesce(alive, started, queued): NULL means the next clock. A pending one
by the time since which it waits, and never before it is due. A lease, a deadline or a time-out of the row itself wins over
the global numbers. Resting words, soft-deleted rows and rows that wait for a later time are never stuck."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from functions.ops.look.catalogue import Connection, sql_of
from functions.ops.look.infer import Inferred
from functions.ops.look.session import looking
from functions.ops.out import span
from functions.states import State
from functions.values import bound, column, identifier, interval, literal, moment

RUNNING_FOR = 30 * 60
"""Seconds without a sign of life: three times the median of 53 cleaners in the field (10 min), since most judge by a
start time alone, and a healthy long task that is ended is worse than a dead one that is found later."""
PENDING_FOR = 60 * 60
"""Seconds that a task may wait: what the field's pending rules come to (3 to 60 min); 43 of 59 cleaners have none."""
GRACE = 5 * 60
"""Seconds after the end of a lease or the deadline of a row: its own workers may be about to take it again."""


@dataclass(frozen=True)
class Limits:
    """What a person asks for. `older_than` stands in for all three numbers; what a row says of itself still wins."""

    older_than: float | None = None
    job: str | None = None
    kind: str | None = None
    limit: int | None = None
    action: str = "fail"

    def of(self, usual: float) -> str:
        return f"make_interval(secs => {self.older_than if self.older_than is not None else usual:g})"


@dataclass(frozen=True)
class Stuck:
    """A task that is stuck."""

    id: str
    state: State
    word: Any
    age: float | None
    reason: str
    kind: str | None
    action: str

    def as_json(self) -> dict[str, Any]:
        age = None if self.age is None else round(self.age, 3)
        return {
            "id": self.id,
            "state": self.state.value,
            "word": self.word,
            "age_seconds": age,
            "reason": self.reason,
            "kind": self.kind,
            "action": self.action,
        }


class Test:
    """The test of one state as SQL, the same for the look and for the fix: `t` is the task."""

    def __init__(self, found: Inferred, state: State, limits: Limits) -> None:
        self.found, self.state, self.limits = found, state, limits
        self.mapping, self.columns = found.mapping, found.table.columns
        self.words = self.mapping.words.get(state, ())

    @property
    def key(self) -> str:
        return column(self.columns[self.mapping.key or ""])

    def moments(self, names: Iterable[str]) -> list[str]:
        return [moment(self.columns[name]) for name in names]

    @property
    def status(self) -> str:
        """Is it in this state, and neither deleted nor waiting for a later time?"""
        return " and ".join([self.open, *self._awake(), *self._asked()])

    @property
    def open(self) -> str:
        one = column(self.columns[self.mapping.status or ""])
        words = [literal(word) for word in self.words]
        is_word = f"{one} = {words[0]}" if len(words) == 1 else f"{one} in ({', '.join(words)})"
        return " and ".join([is_word, *self._here()])

    def _here(self) -> Iterable[str]:
        for name in self.mapping.deleted:
            one = self.columns[name]
            yield f"{column(one)} is not true" if one.type == "bool" else f"{column(one)} is null"

    def _awake(self) -> Iterable[str]:
        for due in self.moments(self.mapping.clock("due")):
            yield f"({due} <= now()) is not false"

    def _asked(self) -> Iterable[str]:
        if self.limits.job is not None:
            yield f"{self.key} = {literal(self.limits.job)}"
        if self.limits.kind is not None:
            yield f"{column(self.columns[self.mapping.columns['kind'] or ''])}::text = {literal(self.limits.kind)}"

    @property
    def since(self) -> str:
        """The last sign of life, or the time since which it waits."""
        if self.state == State.PENDING:
            return _first(
                _latest([*self._queued(), *self.moments(self.mapping.clock("due")), *self._put_back()]),
                *self._signs(),
                *self._leases(),
            )
        return _first(
            _latest(self._signs()), *self._queued(), *self.moments(self.mapping.clock("due")), *self._leases()
        )

    def _queued(self) -> list[str]:
        queued = self.moments(self.mapping.clock("queued"))
        return [_first(*queued)] if queued else []

    def _signs(self) -> list[str]:
        """A claim after the last beat is a sign of life too: updated_at that nobody moves must not age a task that just started."""
        alive = self.moments(self.mapping.clock("alive"))
        signs = [_first(*alive)] if alive else []
        return [*signs, *self.moments((*self.mapping.clock("started"), *self.mapping.locked_at))]

    def _put_back(self) -> Iterable[str]:
        """A task that was tried before waits since it was put back, not since it was created."""
        attempts, alive = self.mapping.columns.get("attempts"), self.moments(self.mapping.clock("alive"))
        if attempts and alive:
            yield f"case when {column(self.columns[attempts])} > 0 then {_first(*alive)} end"

    def _leases(self) -> list[str]:
        return self.moments(self.mapping.clock("lease"))

    @property
    def overdue(self) -> str:
        """The time at which it is stuck: the first of those that apply."""
        if self.state == State.PENDING:
            return f"{self.since} + {self.limits.of(PENDING_FOR)}"
        return _earliest(when for _, when in self.rules())

    def rules(self) -> list[tuple[str, str]]:
        """What ends a running task, and when. A row's own rule stands in for the global number."""
        deadline, lease = self._one("deadline", _earliest), self._one("lease", _latest)
        timeout = self._timeout()
        grace, rules = self.limits.of(GRACE), []
        if deadline:
            rules.append(("deadline", f"{deadline} + {grace}"))
        if timeout:
            start = _first(*self.moments(self.mapping.clock("started")), *self._signs()[:1], *self._queued())
            rules.append(("timeout", f"{start} + {timeout}"))
        if lease:
            beat = self.moments(self.mapping.clock("alive"))
            rules.append(("lease", f"case when {lease} is not null then {_latest([lease, *beat])} + {grace} end"))
        own = [one for one in (deadline, timeout, lease) if one]
        silent = f"{self.since} + {self.limits.of(RUNNING_FOR)}"
        rules.append(
            (
                "silent",
                f"case when coalesce({', '.join(f'({one})::text' for one in own)}) is null then {silent} end"
                if own
                else silent,
            )
        )
        return rules

    def _one(self, name: str, of: Any) -> str | None:
        moments = self.moments(self.mapping.clock(name))
        return of(moments) if moments else None

    def _timeout(self) -> str | None:
        own = [interval(self.columns[one.name], one.unit) for one in self.mapping.timeouts]
        return _first(*own) if own else None

    @property
    def stuck(self) -> str:
        """The whole test. A task that a person names need not be dated: where no clock tells, the name is enough."""
        late = f"{self.overdue} <= now()"
        if self.limits.job is not None:
            late = f"({late} or ({self.overdue}) is null)"
        return " and ".join([self.status, late, *self._indexable()])

    def _indexable(self) -> Iterable[str]:
        """What follows from `late` for columns that are never NULL, in the form in which an index on them can be used."""
        pending = self.state == State.PENDING
        if self.limits.job is not None or (not pending and len(self.rules()) > 1):
            return
        names = (
            (*self.mapping.clock("queued")[:1], *self.mapping.clock("due"))
            if pending
            else self.mapping.clock("alive")[:1]
        )
        limit = self.limits.of(PENDING_FOR if pending else RUNNING_FOR)
        for name in names:
            edge = bound(self.columns[name], f"(now() - {limit})")
            if edge and self.columns[name].not_null:
                yield f"{column(self.columns[name])} <= {edge}"


def _first(*moments: str) -> str:
    return f"coalesce({', '.join(moments)})" if len(moments) > 1 else moments[0] if moments else "null::timestamptz"


def _latest(moments: Sequence[str]) -> str:
    return f"greatest({', '.join(moments)})" if len(moments) > 1 else moments[0] if moments else "null::timestamptz"


def _earliest(moments: Iterable[str]) -> str:
    listed = list(moments)
    return f"least({', '.join(listed)})" if len(listed) > 1 else listed[0]


def tests(found: Inferred, limits: Limits) -> list[Test]:
    """One for each open state that has a word."""
    return [test for state in (State.RUNNING, State.PENDING) if (test := Test(found, state, limits)).words]


def action(test: Test) -> str:
    """What would be done with a row, as SQL: to put back a task that has used its tries up would be a limbo for ever."""
    attempts, limit = test.mapping.columns.get("attempts"), test.mapping.columns.get("limit")
    if test.limits.action == "requeue" and attempts and limit and test.state == State.RUNNING:
        return f"case when {column(test.columns[attempts])} >= {column(test.columns[limit])} then 'fail' else 'requeue' end"
    return literal(test.limits.action)


def query(test: Test) -> bytes:
    kind = test.mapping.columns.get("kind")
    rules = ", ".join(literal(name) for name, _ in test.rules())
    return sql_of(
        "stuck",
        {
            "key": test.key,
            "status": column(test.columns[test.mapping.status or ""]),
            "since": test.since,
            "kind": f"{column(test.columns[kind])}::text" if kind else "null",
            "rule": "null" if test.state == State.PENDING else f"(array[{rules}])[{_which(test)}]",
            "overdue": test.overdue,
            "action": action(test),
            "table": test.found.table.quoted,
            "stuck": test.stuck,
            "limit": "" if test.limits.limit is None else f"limit {test.limits.limit}",
        },
    )


def _which(test: Test) -> str:
    cases = " ".join(f"when {when} <= now() then {at}" for at, (_, when) in enumerate(test.rules(), 1))
    return f"case {cases} end"


def find(connection: Connection, found: Inferred, limits: Limits) -> tuple[list[Stuck], int, int]:
    """The stuck tasks, the oldest first; how many there are in all; and how many are open."""
    stuck: list[Stuck] = []
    total = 0
    with looking(connection):
        for test in tests(found, limits):
            rows = connection.execute(query(test)).fetchall()
            stuck += [_stuck(test, row) for row in rows]
            total += rows[0][7] if rows else 0
        opened = count(connection, found)
    stuck.sort(key=lambda one: -(one.age if one.age is not None else float("inf")))
    return stuck[: limits.limit], total, opened


def count(connection: Connection, found: Inferred) -> int:
    """One count for each state, so that each can use its own partial index."""
    counts = [
        sql_of("open", {"table": found.table.quoted, "open": test.open}).decode() for test in tests(found, Limits())
    ]
    row = connection.execute(f"select {' + '.join(counts) or '0'}".encode()).fetchone()
    return int(row[0]) if row else 0


def _stuck(test: Test, row: Sequence[Any]) -> Stuck:
    key, word, age, kind, rule, late, act, _ = row
    return Stuck(key, test.state, word, age, reason(test, word, age, rule, late), kind, act)


def reason(test: Test, word: Any, age: float | None, rule: str | None, late: float | None) -> str:
    """The sentence for a person."""
    if age is None:
        return f"{word}: no clock tells since when; it was named"
    if test.state == State.PENDING:
        return f"{word} for {span(age)}: no worker took it (by {_by(test, 'queued', 'due', 'started', 'alive')}; allowed {_allowed(test, PENDING_FOR)})"
    names = ", ".join(test.mapping.clock(rule or "")) or ", ".join(one.name for one in test.mapping.timeouts)
    allowed = GRACE if test.limits.older_than is None else test.limits.older_than
    if rule == "lease":
        return f"{word}, but its lease ended {span((late or 0) + allowed)} ago (by {names})"
    if rule == "deadline":
        return f"{word}, but its deadline passed {span((late or 0) + allowed)} ago (by {names})"
    if rule == "timeout":
        return f"{word} for {span((late or 0))} longer than it allows itself (by {names})"
    return f"{word} for {span(age)} without a sign of life (by {_by(test, 'alive', 'started', 'queued', 'due')}; allowed {_allowed(test, RUNNING_FOR)})"


def _by(test: Test, *clocks: str) -> str:
    return ", ".join(dict.fromkeys(name for clock in clocks for name in test.mapping.clock(clock)))


def _allowed(test: Test, usual: float) -> str:
    return span(test.limits.older_than if test.limits.older_than is not None else usual)


def covered(found: Inferred) -> bool:
    """Whether an index leads to the open rows, so that a look costs what they cost and not what the table costs."""
    name = found.mapping.status or ""
    words = [str(word) for state in (State.RUNNING, State.PENDING) for word in found.mapping.words.get(state, ())]
    partial = " ".join(index.where for index in found.table.indexes if name in index.where)
    whole = any(index.columns[:1] == (name,) and not index.where for index in found.table.indexes)
    return whole or (bool(words) and all(f"'{word}'" in partial for word in words))


def recommended(found: Inferred) -> list[str]:
    """The statements that create what `covered` asks for: one small index for each open state, on its own clock where that
    is never NULL (0.13 ms idle at 5 million rows), else on the key. Free text gets a whole one, as its words may change."""
    table = found.table
    status = identifier(found.mapping.status or "")
    if found.assumed or not found.mapping.status:
        return [f"create index concurrently on {table.quoted} ({status});"]
    made = []
    for test in tests(found, Limits()):
        clock = test.mapping.clock("queued" if test.state == State.PENDING else "alive")[:1]
        on = clock[0] if clock and table.columns[clock[0]].not_null else test.mapping.key or ""
        words = ", ".join(literal(word) for word in test.words)
        made.append(f"create index concurrently on {table.quoted} ({identifier(on)}) where {status} in ({words});")
    return made
