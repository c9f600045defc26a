"""What live attempts cost: a heartbeat and an idle sweep with 10 to 10,000 of them, heartbeats of
many connections through a pooler, and the log that the life of a task writes."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from functions.core.policy import load
from functions.core.states import SettleAs
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.bench.figures import Figure, in_turns, middle, timed
from tests.bench.idle_sweep import idle_run
from tests.bench.pgbench import per_second
from tests.bench.server import add_running, connected, log_bytes, make_database, settle_down
from tests.store.pooler import Pooler, find_program
from tests.store.steps import claimed, settled

LIVE = (10, 100, 1_000, 10_000)
BEATS = 2_000
CLIENTS = 8
ROUNDS = 5
TASKS = 300
WORKERS = 150
POOLED = 10
"""Connections of the pooler to the server."""
NUMBERED = """
create table numbered as
select row_number() over () as number, task_id, token from unstuck.attempts
"""
BEAT = """
select unstuck.beat('tasks', task_id, token) from numbered where number = 1 + :client_id;
"""


def run(
    server: Postgres, scale: float = 1.0, counts: tuple[int, ...] = LIVE, workers: int = WORKERS
) -> list[Figure]:
    """`scale`: of the heartbeats and tasks. `counts`: of live attempts. `workers`: connections
    through a pooler, where PgBouncer is there."""
    beats = max(100, int(BEATS * scale))
    figures: list[Figure] = []
    for live in counts:
        figures += _with_live(server, live, beats)
    if find_program():
        figures += _through_a_pooler(server, beats, workers)
    return [*figures, *_life_of_a_task(server, max(20, int(TASKS * scale)))]


def _with_live(server: Postgres, live: int, beats: int) -> list[Figure]:
    dsn = make_database(server, f"live_{live}")
    with connected(dsn) as connection, contextlib.closing(PostgresStore(dsn)) as store:
        add_running(connection, live)
        connection.execute("update unstuck.attempts set lease = '1 h'")
        settle_down(connection)
        secrets = connection.execute(
            "select task_id, token::text from unstuck.attempts where ended_at is null"
        ).fetchall()
        _beats(dsn, secrets, live)  # the first write of a page after a checkpoint is a full image
        before = log_bytes(connection)
        ways: dict[str, Callable[[], float]] = {
            "one": lambda: _beats(dsn, secrets, beats),
            "many": lambda: _beats_of_many(dsn, secrets, beats),
            "sweep": idle_run(store, load()),
        }
        seconds = in_turns(ways, ROUNDS)
        written = log_bytes(connection) - before
    beaten = ROUNDS * beats * 2
    subject = f"{live:,} live attempts"
    return [
        Figure(f"{subject}: heartbeats, 1 client", beats / middle(seconds["one"]), "a second"),
        Figure(
            f"{subject}: heartbeats, {CLIENTS} clients", beats / middle(seconds["many"]), "a second"
        ),
        Figure(f"{subject}: log of a heartbeat", written / beaten, "bytes"),
        Figure(f"{subject}: idle sweep", middle(seconds["sweep"], 1000), "ms"),
    ]


def _beats(dsn: str, secrets: list[tuple[Any, ...]], beats: int) -> float:
    with connected(dsn) as connection:
        connection.prepare_threshold = 0

        def all_of_them() -> None:
            for number in range(beats):
                task_id, token = secrets[number % len(secrets)]
                connection.execute("select unstuck.beat('tasks', %s, %s::uuid)", (task_id, token))

        return timed(all_of_them)[1]


def _beats_of_many(dsn: str, secrets: list[tuple[Any, ...]], beats: int) -> float:
    shares = [secrets[client::CLIENTS] or secrets for client in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        return timed(
            lambda: list(pool.map(lambda share: _beats(dsn, share, beats // CLIENTS), shares))
        )[1]


def _through_a_pooler(server: Postgres, beats: int, workers: int) -> list[Figure]:
    """Each of the connections sends heartbeats as fast as it can."""
    dsn = make_database(server, "pooled")
    with connected(dsn) as connection, Pooler(dsn, POOLED) as pooler:
        add_running(connection, workers)
        connection.execute("update unstuck.attempts set lease = '1 h'")
        connection.execute(NUMBERED)
        settle_down(connection)
        ways = {
            name: partial(
                per_second,
                way,
                BEAT,
                clients=workers,
                each=max(2, beats // workers),
                protocol="simple",
            )
            for name, way in {"direct": dsn, "pooled": pooler.dsn}.items()
        }
        seen = in_turns(ways, ROUNDS)
    return [
        Figure(f"heartbeats of {workers} connections", middle(seen["direct"]), "a second"),
        Figure(f"  through PgBouncer, {POOLED} to the server", middle(seen["pooled"]), "a second"),
    ]


def _life_of_a_task(server: Postgres, tasks: int) -> list[Figure]:
    """Bytes of log from `create` to `complete`, with two heartbeats."""
    dsn = make_database(server, "life")
    with connected(dsn) as connection, contextlib.closing(PostgresStore(dsn)) as store:
        watch = load().watch()
        before = log_bytes(connection)
        for _ in range(tasks):
            attempt = claimed(store, watch)
            for _ in range(2):
                store.beat(watch, attempt.task_id, attempt.token)
            settled(store, watch, attempt, SettleAs.COMPLETE, result={"url": "a.png"})
        written = log_bytes(connection) - before
    return [
        Figure("log of a task from create to complete, two heartbeats", written / tasks, "bytes")
    ]
