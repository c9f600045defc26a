"""i: what the operators' page asks of the database at 1 million tasks: the list, the overview,
filters that hardly match."""

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
    "the list": {},
    "the list of stuck ones": {"state": "stuck"},
    "the list of failed ones": {"state": "failed"},
    "a kind that is rare": {"kind": "rare"},
    "an owner": {"owner": "user-7"},
    "a reason that no task has": {"reason": "deadline"},
    "failed and of a rare kind": {"state": "failed", "kind": "rare"},
    "a key that begins so": {
        "first": "abc00000-0000-0000-0000-000000000000",
        "last": "abcfffff-ffff-ffff-ffff-ffffffffffff",
    },
}


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    """CPU time of the backend: what runs beside it on the machine does not count, and all that is
    read is in memory."""
    rules, count = load().watch().rules_json, int(TASKS * scale)
    with connected(make_database(server, "page_reads")) as connection:
        fill(
            connection,
            rules,
            count,
            pending=max(100, int(10_000 * scale)),
            held=max(10, int(400 * scale)),
        )
        calls: dict[str, tuple[str, tuple[Any, ...]]] = {
            "the overview": ("select unstuck.tasks_pulse(%s)", (rules,)),
            "the charts of a day (each minute)": ("select unstuck.tasks_day()", ()),
        } | {
            name: ("select unstuck.tasks_page(%s, %s)", (json.dumps(wanted), rules))
            for name, wanted in FILTERS.items()
        }
        return [
            Figure(f"{name}, {count:,} tasks", _cpu(connection, *call), "ms", "< 50")
            for name, call in calls.items()
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
