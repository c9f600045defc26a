"""l: a sweep while 100 tasks, or a million, wait for their turn behind workers that take them."""

import contextlib

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.idle_sweep import idle_run
from tests.bench.server import (
    Connection,
    add_finished,
    add_pending,
    connected,
    make_database,
    settle_down,
)

FEW, MANY, TAKEN = 100, 1_000_000, 200
ROUNDS = 15
TAKEN_LATELY = """
with queued as (
  update public.tasks set scheduled_at = clock_timestamp() - interval '10 minutes'
  where status = 'completed'
  returning id
)
update unstuck.attempts a
set started_at = clock_timestamp() - interval '2 s',
    beat_at = clock_timestamp() - interval '1 s',
    ended_at = clock_timestamp() - interval '1 s'
from queued
where a.task_id = queued.id::text
"""


class Accepts:
    """A queue that takes each push."""

    def push(self, watch: str, task_id: str, number: int, delay: float = 0.0) -> None:
        pass


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    sizes = {"few": FEW, "many": int(MANY * scale)}
    policy = load()
    figures = []
    with contextlib.ExitStack() as stack:
        stores = {}
        for name, rows in sizes.items():
            dsn = make_database(server, f"waiting_{name}")
            with connected(dsn) as connection:
                _fill(connection, rows)
            stores[name] = stack.enter_context(contextlib.closing(PostgresStore(dsn)))
        for name in sizes:  # when all is filled: a million takes minutes
            with connected(server.dsn(f"waiting_{name}")) as connection:
                connection.execute(TAKEN_LATELY)
        for how, dispatcher in (("pulled", None), ("pushed", Accepts())):
            ways = {name: idle_run(store, policy, dispatcher) for name, store in stores.items()}
            seconds = in_turns(ways, ROUNDS)
            figures += [
                Figure(f"run, {rows:,} tasks wait, {how}", middle(seconds[name], 1000), "ms")
                for name, rows in sizes.items()
            ]
            figures.append(
                Figure(f"  many/few, {how}", ratio(seconds["many"], seconds["few"]), aim="<= 3")
            )
    return figures


def _fill(connection: Connection, rows: int) -> None:
    """They have waited for four minutes, longer than a push that was not lost; the tasks that were
    taken lately had waited for ten."""
    add_finished(connection, TAKEN)
    add_pending(connection, rows, "4 minutes")
    settle_down(connection)
