"""The rows that are stuck, and why. Ages are the database's: no time travels but intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from functions.core.states import State
from functions.install.column_sql import literal
from functions.ops.cli.out import span
from functions.ops.look.catalogue import Connection, sql_of, told
from functions.ops.look.infer import Inferred
from functions.ops.look.overdue import (
    GRACE,
    PENDING_FOR,
    RUNNING_FOR,
    Limits,
    Overdue,
    action,
    open_states,
)
from functions.ops.look.sentences import REASONS
from functions.ops.look.session import looking


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


def find(connection: Connection, found: Inferred, limits: Limits) -> tuple[list[Stuck], int, int]:
    """The stuck tasks, the oldest first; how many there are in all; and how many are open."""
    stuck: list[Stuck] = []
    total = 0
    with looking(connection):
        for test in open_states(found, limits):
            rows = connection.execute(query(test)).fetchall()
            stuck += [_stuck(test, row) for row in rows]
            total += rows[0][7] if rows else 0
        opened = sum(_open(connection, test) for test in open_states(found, Limits()))
    stuck.sort(key=lambda one: -(one.age if one.age is not None else float("inf")))
    return stuck[: limits.limit], total, opened


def query(test: Overdue) -> bytes:
    kind = test.mapping.columns.get("kind")
    which = " ".join(f"when {when} <= now() then {literal(name)}" for name, when in test.rules())
    return sql_of(
        "stuck",
        {
            "key": test.key,
            "status": test.status,
            "since": test.since,
            "kind": f"{test.named(kind)}::text" if kind else "null",
            "rule": f"case {which} end",
            "when": test.when,
            "action": action(test),
            "table": test.found.table.quoted,
            "stuck": test.stuck,
            "limit": "" if test.limits.limit is None else f"limit {test.limits.limit}",
        },
    )


def count(test: Overdue) -> bytes:
    """A count for each state, so that each can use its own partial index."""
    return sql_of("open", {"table": test.found.table.quoted, "open": test.open})


def _open(connection: Connection, test: Overdue) -> int:
    row = connection.execute(count(test)).fetchone()
    return int(row[0]) if row else 0


def _stuck(test: Overdue, row: Sequence[Any]) -> Stuck:
    key, word, age, kind, rule, late, act, _ = row
    age, late = _finite(age), _finite(late)
    word = told(test.columns[test.mapping.status or ""], word)
    return Stuck(
        key, test.state, word, age, reason(test, word, age, rule or "undated", late or 0), kind, act
    )


def _finite(seconds: float | None) -> float | None:
    """A time that is -infinity tells no age."""
    return seconds if seconds is not None and math.isfinite(seconds) else None


def reason(test: Overdue, word: Any, age: float | None, rule: str, late: float) -> str:
    """The sentence for a person. `late` is for how long the rule has made it stuck."""
    clocks = {"waiting": ("queued", "due"), "silent": ("alive", "started", "queued", "due")}.get(
        rule, (rule,)
    )
    by = dict.fromkeys(name for clock in clocks for name in test.mapping.clock(clock))
    instead = (
        [one.name for one in test.mapping.timeouts]
        if rule == "timeout"
        else test.mapping.clock("started")
    )
    names = ", ".join(by or instead)
    allowed = test.limits.seconds(PENDING_FOR if rule == "waiting" else RUNNING_FOR)
    ago = late if rule == "timeout" else late + test.limits.seconds(GRACE)
    return REASONS[rule].format(
        word=word, age=span(age), by=names, allowed=span(allowed), ago=span(ago)
    )
