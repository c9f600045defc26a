"""j: an idle check and an idle sweep on an adopted table with the recommended index, at 10 thousand
and at 1 million rows."""

import contextlib
from collections.abc import Callable

from functions.core.policy import Policy, parse
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.inspect import check, indexes, stuck
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import connect
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import HEAD
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.idle_sweep import OPEN, idle_run
from tests.bench.server import connected, make_database, settle_down

ROUNDS = 25
TABLE = """create table public.jobs (id bigserial primary key, status text not null default 'queued'
  check (status in ('queued', 'running', 'done', 'failed')), payload text default repeat('x', 100),
    error text,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now())"""

FINISHED = """insert into jobs (status, created_at, updated_at)
  select 'done', now() - n * interval '1 s', now() - n * interval '1 s' from generate_series(1,
    %s) n"""
HEALTHY = """insert into jobs (status)
  select case n %% 2 when 0 then 'queued' else 'running' end from generate_series(1, %s) n"""


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    sizes = {name: int(rows * scale) for name, rows in (("small", 10_000), ("large", 1_000_000))}
    with contextlib.ExitStack() as stack:
        ways: dict[str, dict[str, Callable[[], float]]] = {"check": {}, "sweep": {}}
        for name, rows in sizes.items():
            dsn = make_database(server, f"adopted_{name}", migrated=False)
            policy = _adopted(dsn, rows)
            ways["check"][name] = _check(dsn, stack)
            ways["sweep"][name] = idle_run(
                stack.enter_context(contextlib.closing(PostgresStore(dsn))), policy
            )
        found = {what: in_turns(way, ROUNDS) for what, way in ways.items()}
    figures = []
    for what, times in found.items():
        figures += [
            Figure(f"idle {what}, {rows:,} rows", middle(times[name], 1000), "ms")
            for name, rows in sizes.items()
        ]
        figures.append(
            Figure(
                f"  large/small table: {what}", ratio(times["large"], times["small"]), aim="<= 2"
            )
        )
    return figures


def _adopted(dsn: str, rows: int) -> Policy:
    """The table with that many finished tasks and a hundred healthy open ones, as its owner would
    adopt it."""
    with connected(dsn) as connection:
        connection.execute(TABLE)
        connection.execute(FINISHED, (rows,))
        connection.execute(HEALTHY, (OPEN,))
    with connect(dsn) as connection:
        found = check.infer_table(connection, "public.jobs")
    policy = parse(HEAD + adopt.text(adopt.watch(found)))
    migrate(dsn, policy)
    with connected(dsn) as connection:
        for statement in indexes.recommended(found):
            connection.execute(statement.encode())
        settle_down(connection)
    return policy


def _check(dsn: str, stack: contextlib.ExitStack) -> Callable[[], float]:
    """The whole look: what the catalogue says, what it infers, and what is stuck."""
    connection = stack.enter_context(connect(dsn))

    def inspect() -> object:
        return stuck.find_stuck(connection, check.infer_table(connection, "public.jobs"), Limits())

    def once() -> float:
        inspection, seconds = timed(inspect)
        assert inspection == ([], 0, OPEN, 0), inspection
        return seconds

    once()
    return once
