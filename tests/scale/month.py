"""A month of tasks in accelerated time: how tables and indexes grow, what retention takes, and what
an idle sweep costs at the end against an empty database.

The database's clock is moved by libfaketime (Debian: apt install faketime), a day at a time. The
tasks of a day are written many in one statement, each with the row versions that the verbs leave:
waiting, taken, two heartbeats, ended."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from functions.core.policy import Policy, load
from functions.core.record import replace
from functions.install.migrate import migrate
from functions.ops.postgres import binaries, embedded
from functions.ops.postgres.embedded import Postgres, create_database
from functions.store.postgres import PostgresStore
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.idle_sweep import idle_run
from tests.bench.server import Connection, add_pending, add_running, connected

DAYS = 30
BATCH = 10_000
KEPT_DAYS = 7
DAY_SECONDS = 86_400
ROUNDS = 25
WAITING = 100
CLOCK_IS_READ_SECONDS = 1
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
TABLES = ("public.tasks", "unstuck.attempts")


class NoFakeClockError(Exception):
    """libfaketime is not here."""


@contextlib.contextmanager
def server_with_a_clock() -> Iterator[tuple[Postgres, Path]]:
    """A server, and the file that says by how much its clock is ahead, such as `+3d`. Raises
    NoFakeClockError."""
    if not LIBRARIES:
        raise NoFakeClockError("the month needs libfaketime: apt install faketime")
    plain_surroundings = binaries.surroundings
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        clock = Path(folder) / "clock"
        clock.write_text("+0d\n")
        faked = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": str(CLOCK_IS_READ_SECONDS),
            "DONT_FAKE_MONOTONIC": "1",
        }

        def surroundings(user: dict[str, Any]) -> dict[str, Any]:
            arguments = plain_surroundings(user)
            return arguments | {"env": arguments["env"] | faked}

        with patch.object(embedded, "surroundings", surroundings), Postgres() as server:
            with connected(server.dsn()) as connection:
                for name, value in (("shared_buffers", "'1GB'"), ("autovacuum_naptime", "'1s'")):
                    connection.execute(f"alter system set {name} = {value}".encode())
                connection.execute("alter system set max_wal_size = '8GB'")
                connection.execute("alter system set autovacuum_vacuum_cost_delay = 0")
            server.restart()
            yield server, clock


def run(tasks: int, days: int = DAYS) -> list[Figure]:
    """`tasks` in `days`, completed ones kept for a week. Raises NoFakeClockError."""
    policy = _keeping_a_week()
    with server_with_a_clock() as (server, clock):
        dsns = {}
        for name in ("busy", "empty"):
            create_database(server.dsn(), name)
            migrate(server.dsn(name), policy)
            dsns[name] = server.dsn(name)
        with (
            connected(dsns["busy"]) as connection,
            contextlib.closing(PostgresStore(dsns["busy"])) as store,
        ):
            slowest = 0.0
            week_sizes: dict[str, int] = {}
            for day in range(1, days + 1):
                _add_a_day(connection, tasks // days)
                _pass_a_day(connection, clock, day)
                slowest = max(slowest, _prune(store, policy))
                if day == min(KEPT_DAYS + 1, days):
                    week_sizes = _sizes(connection)
            month_sizes = _sizes(connection)
            kept = {name: _count(connection, name) for name in TABLES}
            sweeps = _idle_sweeps(dsns, policy)
            compact_sizes = _compact(connection)
    figures = [
        Figure(
            f"idle sweep after {tasks:,} tasks in {days} days", middle(sweeps["busy"], 1000), "ms"
        ),
        Figure("  against an empty database", ratio(sweeps["busy"], sweeps["empty"]), aim="<= 1.3"),
        Figure("slowest step of retention or pruning", slowest * 1000, "ms"),
    ]
    for name in TABLES:
        figures += [
            Figure(f"{name}: rows kept", float(kept[name]), "rows"),
            Figure(f"{name}: size with indexes", month_sizes[name] / 2**20, "MB"),
            Figure("  a row, with indexes", month_sizes[name] / kept[name], "bytes"),
            Figure("  against the size after 8 days", month_sizes[name] / week_sizes[name]),
            Figure("  against the same rows written anew", month_sizes[name] / compact_sizes[name]),
        ]
    return figures


def _keeping_a_week() -> Policy:
    policy = load()
    watch = policy.watch()
    week = float(KEPT_DAYS * DAY_SECONDS)
    rules = {
        kind: replace(rule, retention_completed=week, retention_failed=week)
        for kind, rule in watch.rules.items()
    }
    watches = {watch.name: replace(watch, rules=rules)}
    return replace(policy, retention=week, watches=watches)


def _add_a_day(connection: Connection, tasks: int) -> None:
    """The tasks of the last 24 hours of the database's clock."""
    for first in range(0, tasks, BATCH):
        count = min(BATCH, tasks - first)
        with connection.transaction():
            connection.execute("select set_config('unstuck.override', 'tasks/0', true)")
            ids = add_running(connection, count, "30 s")
            for _ in range(2):
                _beat(connection, ids)
            _complete(connection, ids)


def _beat(connection: Connection, ids: list[str]) -> None:
    connection.execute(
        """
        update unstuck.attempts
        set lease_until = clock_timestamp() + lease, beat_at = clock_timestamp(), beats = beats + 1
        where watch = 'tasks' and task_id = any(%s) and ended_at is null
        """,
        (ids,),
    )


def _complete(connection: Connection, ids: list[str]) -> None:
    connection.execute(
        """
        update unstuck.attempts set ended_at = clock_timestamp(), outcome = 'completed'
        where watch = 'tasks' and task_id = any(%s) and ended_at is null
        """,
        (ids,),
    )
    connection.execute(
        """
        update public.tasks
        set status = 'completed', result = '{"url": "https://example.org/cat.png"}',
          finished_at = clock_timestamp(), updated_at = clock_timestamp()
        where id = any(%s::uuid[])
        """,
        (ids,),
    )


def _pass_a_day(connection: Connection, clock: Path, day: int) -> None:
    """Moves the database's clock, and waits until this session reads it."""
    before = _database_time(connection)
    clock.write_text(f"+{day}d\n")
    while _database_time(connection) - before < DAY_SECONDS / 2:
        time.sleep(0.05)


def _database_time(connection: Connection) -> float:
    row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    assert row
    return float(row[0])


def _prune(store: PostgresStore, policy: Policy) -> float:
    """All that the runs of a day would take, step by step. Returns the seconds of the slowest."""
    watch = policy.watch()
    slowest = 0.0
    for step in (lambda: store.retain(watch), lambda: store.prune(policy.retention)):
        gone = 1
        while gone:
            gone, seconds = timed(step)
            slowest = max(slowest, seconds)
    return slowest


def _idle_sweeps(dsns: dict[str, str], policy: Policy) -> dict[str, list[float]]:
    """Both databases have the same tasks that wait, and nothing to do."""
    with contextlib.ExitStack() as stack:
        ways = {}
        for name, dsn in dsns.items():
            connection = stack.enter_context(connected(dsn))
            add_pending(connection, WAITING)
            connection.execute("analyze")
            store = stack.enter_context(contextlib.closing(PostgresStore(dsn)))
            ways[name] = idle_run(store, policy)
        return in_turns(ways, ROUNDS)


def _sizes(connection: Connection) -> dict[str, int]:
    return {
        name: _number(connection, f"select pg_total_relation_size('{name}')") for name in TABLES
    }


def _count(connection: Connection, table: str) -> int:
    return _number(connection, f"select count(*) from {table}")


def _compact(connection: Connection) -> dict[str, int]:
    """The sizes of the tables after all their rows and indexes were written anew."""
    for name in TABLES:
        connection.execute(f"vacuum full {name}".encode())
    return _sizes(connection)


def _number(connection: Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return int(row[0])
