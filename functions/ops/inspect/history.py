"""What `adopt` asks the rows besides what each look reads: how long the tasks ran that have ended
well, and which kinds wait."""

from dataclasses import dataclass, field
from typing import Any

from functions.core.states import State
from functions.install.column_sql import literal, moment, qualified
from functions.ops.cli.out import counted, span
from functions.ops.inspect import evidence
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import SILENCE_SECONDS
from functions.ops.inspect.session import Connection, read_only

LEAST_ROWS = 20
"""Fewer ends say nothing of the slowest task in a hundred."""
P99_TIMES = 3
"""So many times the p99 a run may take: a busy day is slower than those before it."""
LONGEST_TIMES = 1.25
OUTLIER_TIMES = 10
"""A run of so many times the p99 was ended by hand, or by a cleanup."""
FUNCTION_SECONDS = 570
"""The longest deadline in a function, as the bundle's policy has it: a run is moved to a pool only
where it needs more."""
STEPS_SECONDS = (60, 120, 300, FUNCTION_SECONDS, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
MOST_WAITING = 10_000


@dataclass(frozen=True)
class History:
    """`count` tasks have ended well, of which start and end are known; `p99` and `longest` are the
    seconds that they ran. `waiting` counts the tasks that wait, by kind: MOST_WAITING at most."""

    count: int = 0
    p99: float = 0
    longest: float = 0
    waiting: dict[str, int] = field(default_factory=dict)

    @property
    def run_for(self) -> float | None:
        """Seconds that all but odd runs keep; None where too few tasks tell."""
        if self.count < LEAST_ROWS:
            return None
        least = LONGEST_TIMES * (self.p99 if self.is_odd else self.longest)
        allowed = max(least, P99_TIMES * self.p99)
        if least <= FUNCTION_SECONDS:
            allowed = min(allowed, FUNCTION_SECONDS)
        return next((step for step in STEPS_SECONDS if step >= allowed), STEPS_SECONDS[-1])

    @property
    def is_odd(self) -> bool:
        """Whether the longest run is none by which a deadline is set."""
        return self.longest > OUTLIER_TIMES * self.p99

    def as_json(self) -> dict[str, Any]:
        """In the exact form of `finished` of `adopt --json`."""
        return {
            "count": self.count,
            "p99_seconds": round(self.p99, 3),
            "longest_seconds": round(self.longest, 3),
        }

    @property
    def sentence(self) -> str:
        rows, odd = counted(self.count, "finished row"), " (not counted)" if self.is_odd else ""
        return f"p99 of {rows}: {span(self.p99)}, longest {span(self.longest)}{odd}"


def read(connection: Connection, inferred: Inferred) -> History:
    """Of a large table a sample."""
    with read_only(connection):
        return History(*_runs(connection, inferred), waiting=_waiting(connection, inferred))


def runs(connection: Connection, inferred: Inferred) -> History:
    """The same without what waits."""
    with read_only(connection):
        return History(*_runs(connection, inferred))


def silence(inferred: Inferred, past: History) -> float | None:
    """For so many seconds a running task may give no sign of life: where no heartbeat proves life,
    it is silent while it runs. None where finished rows do not show that they take longer than is
    usual."""
    mapping = inferred.mapping
    beats = set(mapping.clock("alive")) - set(mapping.touched)
    if beats or past.run_for is None or past.run_for <= SILENCE_SECONDS:
        return None
    return past.run_for


def _runs(connection: Connection, inferred: Inferred) -> tuple[int, float, float]:
    mapping, columns = inferred.mapping, inferred.table.columns
    learned = mapping.ends.get(State.COMPLETED)
    ends = [*mapping.clock("finished"), *(learned.times if learned else ())]
    starts, words = mapping.clock("started"), mapping.words.get(State.COMPLETED, ())
    if not (ends and starts and words):
        return 0, 0, 0
    status = columns[mapping.status or ""]
    end, start = moment(columns[ends[0]]), moment(columns[starts[0]])
    seconds = (
        f"case when isfinite({end}) and isfinite({start}) then extract(epoch from {end} - {start}) "
        "end"
    )
    source = evidence.sampled(connection, inferred.table, status.name, words)
    query = (
        "select count(*)::int, coalesce(percentile_cont(0.99) within group (order by r.took), 0), "
        "coalesce(max(r.took), 0) "
        f"from (select ({seconds})::float8 as took from ({source}) t "
        f"where {qualified(status)} in ({', '.join(map(literal, words))})) r "
        "where r.took >= 0 and r.took < 1e9"
    )
    return connection.execute(query.encode()).fetchone() or (0, 0, 0)


def _waiting(connection: Connection, inferred: Inferred) -> dict[str, int]:
    mapping, columns = inferred.mapping, inferred.table.columns
    words, name = mapping.words.get(State.PENDING, ()), mapping.columns.get("kind")
    if not words:
        return {}
    kind = f"coalesce({qualified(columns[name])}::text, '')" if name else "''"
    query = (
        "select w.kind, count(*)::int "
        f"from (select {kind} as kind from {inferred.table.quoted} t "
        f"where {qualified(columns[mapping.status or ''])} in ({', '.join(map(literal, words))}) "
        f"limit {MOST_WAITING}) w group by 1 order by 2 desc, 1"
    )
    return dict(connection.execute(query.encode()).fetchall())
