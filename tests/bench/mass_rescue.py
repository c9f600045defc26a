"""o: 5,000 jobs whose workers died at once, until each waits again or is taken again, by what
procrastinate and pgqueuer do themselves.

Each is one process with one connection. pgqueuer has no step apart: its `dequeue` takes such jobs
again, ten at a time as its manager does, so that they are already taken when ours and
procrastinate's wait."""

import contextlib
from collections.abc import Callable

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.rivals import pgqueuer, procrastinate, statements
from tests.bench.server import (
    Connection,
    add_running,
    connected,
    make_database,
    quiet_sweep,
    settle_down,
)
from tests.bench.zombie import dequeued, retry_stalled

DEAD = 5_000
ROUNDS = 3
PGQUEUER_BATCH = 10
"""The default of its manager."""
FILL = {"finished": 0}


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    count = int(DEAD * scale)
    with contextlib.ExitStack() as open_:

        def connection(name: str, *, migrated: bool) -> Connection:
            dsn = make_database(server, f"rescue_{name}", migrated=migrated)
            return open_.enter_context(connected(dsn))

        own = connection("ours", migrated=True)
        store = open_.enter_context(contextlib.closing(PostgresStore(server.dsn("rescue_ours"))))
        rescues: dict[str, Callable[[], float]] = {"ours": lambda: _ours(own, store, count)}
        for name, make in (("procrastinate", _procrastinate), ("pgqueuer", _pgqueuer)):
            if rescue := make(connection(name, migrated=False), count):
                rescues[name] = rescue
        seconds = in_turns(rescues, ROUNDS)
    ours = seconds["ours"]
    return [
        *(
            Figure(f"{name}, {count:,} rescued", middle(seconds[name], 1000), "ms")
            for name in seconds
        ),
        *(
            Figure(f"  {name}/ours", ratio(seconds[name], ours), aim=">= 50")
            for name in seconds
            if name != "ours"
        ),
    ]


def _ours(connection: Connection, store: PostgresStore, count: int) -> float:
    connection.execute("truncate public.tasks, unstuck.attempts, unstuck.observed")
    add_running(connection, count, "-1 s")
    settle_down(connection)
    done, seconds = quiet_sweep(store, load())
    assert done.requeued == count, done
    return seconds


def _procrastinate(connection: Connection, count: int) -> Callable[[], float] | None:
    rival, own_statements = procrastinate(), statements("procrastinate")
    if not rival or not own_statements:
        return None
    stalled, retry = own_statements[3:]
    connection.execute(rival.schema.encode())

    def rescue_all() -> float:
        connection.execute(
            "truncate procrastinate_jobs, procrastinate_events, procrastinate_workers cascade"
        )
        connection.execute(rival.fill.format(waiting=count, **FILL).encode())
        connection.execute(
            b"""
            set session_replication_role = replica;
            update procrastinate_workers set last_heartbeat = now() - interval '1 h';
            update procrastinate_jobs
            set status = 'doing', worker_id = (select min(id) from procrastinate_workers);
            set session_replication_role = origin"""
        )
        settle_down(connection)
        _, seconds = timed(lambda: retry_stalled(connection, stalled, retry))
        assert _count(connection, "procrastinate_jobs where status = 'todo'") == count
        return seconds

    return rescue_all


def _pgqueuer(connection: Connection, count: int) -> Callable[[], float] | None:
    rival, own_statements = pgqueuer(), statements("pgqueuer")
    if not rival or not own_statements:
        return None
    connection.execute(rival.schema.encode())
    take = dequeued(own_statements[1], PGQUEUER_BATCH)

    def take_all() -> None:
        while connection.execute(take, prepare=True).fetchall():
            pass

    def rescue_all() -> float:
        connection.execute("truncate pgqueuer, pgqueuer_log")
        connection.execute(rival.fill.format(waiting=count, **FILL).encode())
        connection.execute(
            "update pgqueuer set status = 'picked', heartbeat = now() - interval '1 h'"
        )
        settle_down(connection)
        _, seconds = timed(take_all)
        assert _count(connection, "pgqueuer where heartbeat > now() - interval '10 m'") == count
        return seconds

    return rescue_all


def _count(connection: Connection, rows: str) -> int:
    row = connection.execute(f"select count(*) from {rows}".encode()).fetchone()
    assert row
    return int(row[0])
