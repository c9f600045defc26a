"""The database of the benchmarks: an embedded PostgreSQL with durable settings, and how its tables
are filled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import psycopg

from functions.core.dispatch import Dispatcher
from functions.core.policy import Policy
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres, create_database
from functions.store.verbs import Store
from tests.bench.figures import timed
from tests.sweep.steps import sweep

Connection = psycopg.Connection[tuple[Any, ...]]

SETTINGS = {
    "shared_buffers": "'512MB'",
    "autovacuum": "off",  # a vacuum in the middle of a round would be its neighbour's cost
    "max_wal_size": "'8GB'",  # and so would a checkpoint with its full-page images
    "min_wal_size": "'1GB'",
    "checkpoint_timeout": "'1h'",
}
WAL_FILES = 40
"""Of 16 MB each. A server that has run for a while recycles them; a new one makes each, 60 ms when
the disk is busy."""


@contextmanager
def bench_server() -> Iterator[Postgres]:
    """fsync and synchronous_commit stay on."""
    with Postgres() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"alter system set {name} = {value}")
        server.restart()
        with connected(server.dsn()) as connection:
            for _ in range(WAL_FILES):
                connection.execute(
                    "select pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()"
                )
            connection.execute("checkpoint")
        yield server


def make_database(server: Postgres, name: str, *, migrated: bool = True) -> str:
    """The DSN of a new database."""
    create_database(server.dsn(), name)
    if migrated:
        migrate(server.dsn(name))
    return server.dsn(name)


@contextmanager
def connected(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def add_finished(connection: Connection, count: int) -> None:
    """Completed tasks of the last 20 days, each with its attempt: retention keeps them all."""
    connection.execute(
        """
        with made as (
          insert into public.tasks (kind, input, result, owner, status, scheduled_at, created_at,
            started_at, updated_at,
                                    finished_at, metadata)
          select 'image', jsonb_build_object('prompt', repeat('a cat ', 8), 'n', n),
            '{"url": "https://example.org/cat.png"}',
            'user-' || n %% 1000, 'completed', at, at, at + interval '1 s', at + interval '30 s',
              at + interval '30 s',
            '{"plan": "free"}'
          from generate_series(1, %s) n, lateral (select now() - n %% 1728000 * interval '1 s'
            as at) c
          returning id, kind, started_at, finished_at)
        insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker,
          started_at, lease, lease_until,
                                      deadline_at, beat_at, ended_at, outcome)
        select 'tasks', id, 1, 1, kind, gen_random_uuid(), 'bench', started_at, '30 s', finished_at,
          finished_at + interval '10 m', finished_at, finished_at, 'completed' from made
        """,
        (count,),
    )


def add_pending(connection: Connection, count: int, age: str = "0 s") -> list[str]:
    """Pending tasks that have been waiting for `age`. Returns their ids."""
    rows = connection.execute(
        """
        insert into public.tasks (kind, input, owner, scheduled_at, created_at, updated_at)
        select 'image', jsonb_build_object('prompt', repeat('a cat ', 8), 'n', n),
          'user-' || n %% 1000, at, at, at
        from generate_series(1, %s) n, lateral (select now() - %s::interval - n * interval '10 us'
          as at) c
        returning id::text
        """,
        (count, age),
    )
    return [row[0] for row in rows]


def add_running(
    connection: Connection, count: int, lease_left: str = "1 h", *, held: bool = True
) -> list[str]:
    """Processing tasks; `held` by live attempts whose lease has `lease_left`, each of which had its
    one extension. Without, they are the work of someone who does not use the guard. Returns their
    ids."""
    ids = add_pending(connection, count, "1 m")
    fresh = (
        "update public.tasks set status = 'processing', started_at = now(), updated_at = now() "
        "where id = any(%s::uuid[])"
    )
    connection.execute(fresh, (ids,))
    if held:
        connection.execute(
            """
            insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker,
              started_at, lease, lease_until,
                                          deadline_at, beat_at, extended)
            select 'tasks', id, 1, 1, 'image', gen_random_uuid(), 'bench', now(), '0 s',
              now() + %s::interval,
              now() + interval '2 h', now(), true
            from unnest(%s::text[]) id
            """,
            (lease_left, ids),
        )
    return ids


def log_bytes(connection: Connection) -> float:
    """What the server has written to its log (WAL) since it was made."""
    row = connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row
    return float(row[0])


def quiet_sweep(
    store: Store, policy: Policy, dispatcher: Dispatcher | None = None
) -> tuple[Any, float]:
    """What the whole run as the scheduler gets it answers, and its seconds. Its lines are thrown
    away."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        return timed(lambda: sweep(store, policy, dispatcher))


def settle_down(connection: Connection) -> None:
    """What autovacuum would have done by now. No checkpoint: after one, full-page images would be
    all that is measured."""
    connection.execute("vacuum analyze")
