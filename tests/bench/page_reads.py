"""i: what the operators' page asks of the database at 1 million tasks, and with a backlog of 1
million: the list, the overview, searches, filters that hardly match."""

import json
import os
from pathlib import Path
from typing import Any

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from tests.bench.figures import Figure
from tests.bench.server import Connection, connected, make_database
from tests.page.million import fill

TASKS = 1_000_000
ROUNDS = 20
TICK = 1000 / os.sysconf("SC_CLK_TCK")
"""Milliseconds."""
FILTERS: dict[str, dict[str, str]] = {
    "the list of stuck ones": {"state": "stuck"},
    "the list of failed ones": {"state": "failed"},
    "a kind that is rare": {"kind": "rare"},
    "an owner": {"owner": "user-7"},
    "a reason that no task has": {"reason": "deadline"},
    "a search that finds nothing": {"text": "nothing of this"},
    "failed ones, the oldest first": {"state": "failed", "order": "reverse"},
    "the days of a month ago": {"since": "2020-01-01", "until": "2020-01-02"},
    "failed and of a rare kind": {"state": "failed", "kind": "rare"},
    "a key that begins so": {
        "first": "abc00000-0000-0000-0000-000000000000",
        "last": "abcfffff-ffff-ffff-ffff-ffffffffffff",
    },
}

RULES = object()
"""Stands for the rules of the policy."""
Calls = dict[str, tuple[str, tuple[Any, ...]]]
REFRESHED: Calls = {
    "the overview": ("select unstuck.tasks_pulse(%s)", (RULES,)),
    "the list": ("select unstuck.tasks_page('{}', %s)", (RULES,)),
}
"""What an open page asks every 2 seconds."""
CALLS: Calls = {
    **REFRESHED,
    "the charts of a day (each minute)": ("select unstuck.tasks_day()", ()),
    "failures by message (each minute)": ("select unstuck.tasks_failures()", ()),
    "how many failed (each minute)": ("select unstuck.tasks_count('failed')", ()),
} | {
    label: ("select unstuck.tasks_page(%s, %s)", (json.dumps(filters), RULES))
    for label, filters in FILTERS.items()
}


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    """CPU time of the backend: what runs beside it on the machine does not count, and all that is
    read is in memory."""
    count = int(TASKS * scale)
    waiting = max(100, int(10_000 * scale))
    return [
        *_figures(server, "page_reads", count, waiting, scale, CALLS),
        *_figures(server, "page_backlog", waiting, count, scale, REFRESHED),
    ]


def _figures(
    server: Postgres, name: str, finished: int, waiting: int, scale: float, calls: Calls
) -> list[Figure]:
    """Of a table with so many tasks that ended and so many that wait."""
    rules = load().watch().rules_json
    with connected(make_database(server, name)) as connection:
        fill(connection, rules, finished, pending=waiting, held=max(10, int(400 * scale)))
        rows = f"{finished:,} ended, {waiting:,} wait"
        return [
            Figure(
                f"{label}; {rows}",
                _cpu(connection, query, tuple(rules if a is RULES else a for a in arguments)),
                "ms",
                "< 10" if label in REFRESHED else "< 50",
            )
            for label, (query, arguments) in calls.items()
        ]


def _cpu(connection: Connection, query: str, arguments: tuple[Any, ...]) -> float:
    """Milliseconds a call, after one that warms up."""
    connection.execute(query.encode(), arguments)
    before = _ticks(connection)
    for _ in range(ROUNDS):
        connection.execute(query.encode(), arguments)
    return max(1, _ticks(connection) - before) * TICK / ROUNDS


def _ticks(connection: Connection) -> int:
    fields = (
        Path(f"/proc/{connection.info.backend_pid}/stat")
        .read_text(encoding="utf-8")
        .rpartition(")")[2]
        .split()
    )
    return int(fields[11]) + int(fields[12])
