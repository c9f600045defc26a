"""The rows that are stuck, and why. Ages are the database's: no time travels but intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from functions.core.states import State
from functions.install.column_sql import identifier, literal
from functions.install.own_limits import GRACE_SECONDS
from functions.ops.cli.out import span
from functions.ops.inspect.catalogue import sql_of, unpadded
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import WAIT_SECONDS, Limits, Overdue, action, open_states
from functions.ops.inspect.sentences import REASONS
from functions.ops.inspect.session import Connection, read_only


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
        return {
            "id": self.id,
            "state": self.state.value,
            "word": self.word,
            "age_seconds": None if self.age is None else round(self.age, 3),
            "reason": self.reason,
            "kind": self.kind,
            "action": self.action,
        }


def find_stuck(
    connection: Connection, inferred: Inferred, limits: Limits
) -> tuple[list[Stuck], int, int, int]:
    """The stuck tasks, the oldest first; how many there are in all; how many are open; and of how
    many nobody can say, since no clock of theirs is set."""
    stuck: list[Stuck] = []
    total = 0
    with read_only(connection):
        for test in open_states(inferred, limits):
            rows = connection.execute(query(test)).fetchall()
            stuck += [_stuck(test, row) for row in rows]
            total += rows[0][7] if rows else 0
        tests = open_states(inferred, Limits())
        opened = sum(_open(connection, test) for test in tests)
        undated = [test for test in tests if not test.always_dated]
        unjudged = sum(_open(connection, test, "undated") for test in undated)
    stuck.sort(key=lambda task: -(task.age if task.age is not None else float("inf")))
    return stuck[: limits.limit], total, opened, unjudged


def is_there(connection: Connection, inferred: Inferred, task_id: str) -> bool:
    """Whether the table has a task of this key. Raises StoreError for what is no key of it."""
    table, key = inferred.table.quoted, identifier(inferred.mapping.key or "")
    with read_only(connection):
        row = connection.execute(
            f"select 1 from {table} where {key} = {literal(task_id)} limit 1".encode()
        ).fetchone()
    return row is not None


def query(test: Overdue) -> bytes:
    kind = test.mapping.columns.get("kind")
    cases = " ".join(f"when {when} <= now() then {literal(name)}" for name, when in test.rules())
    return sql_of(
        "stuck",
        {
            "key": test.key,
            "status": test.status,
            "since": test.since,
            "kind": f"{test.named(kind)}::text" if kind else "null",
            "rule": f"case {cases} end",
            "when": test.when,
            "action": action(test),
            "table": test.inferred.table.quoted,
            "stuck": test.stuck,
            "limit": "" if test.limits.limit is None else f"limit {test.limits.limit}",
        },
    )


def count(test: Overdue, which: str = "open") -> bytes:
    """A count for each state, so that each can use its own partial index."""
    condition = test.open if which == "open" else test.undated
    return sql_of("open", {"table": test.inferred.table.quoted, "open": condition})


def _open(connection: Connection, test: Overdue, which: str = "open") -> int:
    row = connection.execute(count(test, which)).fetchone()
    return int(row[0]) if row else 0


def _stuck(test: Overdue, row: Sequence[Any]) -> Stuck:
    key, word, age, kind, rule, late, action_name, _ = row
    age, late = _finite(age), _finite(late)
    word = unpadded(test.columns[test.mapping.status or ""], word)
    why = reason(test, word, age, rule or "undated", late or 0)
    return Stuck(key, test.state, word, age, why, kind, action_name)


def _finite(seconds: float | None) -> float | None:
    """A time that is -infinity tells no age."""
    return seconds if seconds is not None and math.isfinite(seconds) else None


def reason(test: Overdue, word: Any, age: float | None, rule: str, late: float) -> str:
    """The sentence for a person. `late` is for how long the rule has made it stuck."""
    clocks = _CLOCKS_OF_RULES.get(rule, (rule,))
    names = [name for clock in clocks for name in test.mapping.clock(clock)]
    if rule in {"timeout", "beat"}:
        own = test.mapping.timeouts if rule == "timeout" else test.mapping.silences
        names = [limit.name for limit in own]
    elif not names:
        names = list(test.mapping.clock("started"))
    allowed = test.limits.seconds(WAIT_SECONDS if rule == "waiting" else test.silence)
    ago = late if rule == "timeout" else late + test.limits.seconds(GRACE_SECONDS)
    return REASONS[rule].format(
        word=word,
        age=span(age),
        by=", ".join(dict.fromkeys(names)),
        allowed=span(allowed),
        ago=span(ago),
    )


_CLOCKS_OF_RULES = {"waiting": ("queued", "due"), "silent": ("alive", "started", "queued", "due")}
