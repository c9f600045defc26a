"""k: a sweep that finds nothing, with 500,000 rows of each thing that is kept, and with none."""

import contextlib

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.idle_sweep import idle_run
from tests.bench.server import Connection, connected, make_database, settle_down

ROUNDS = 40
KEPT = {
    "attempts": """(watch, task_id, number, tries, kind, token, started_at, lease, lease_until,
                    deadline_at, beat_at, ended_at, outcome)
      select 'tasks', id, 1, 1, 'image', gen_random_uuid(), at, '30 s', at, at, at, at,
        'completed'""",
    "checkpoints": """(watch, task_id, number, name, data, at)
      select 'tasks', id, 1, 'step', '{"url": "a.png"}', at""",
    "sweeps": "(key, started_at, until, ended_at, ok) select id, at, at, at, true",
    "refusals": """(at, watch, task_id, source, wanted, because)
      select at, 'tasks', id, 'fence', 'failed', 'ended'""",
    "dispatches": "(watch, task_id, at) select 'tasks', id, at",
    "observed": "(watch, task_id, status_at, touched_at) select 'tasks', id, at, at",
    "operations": "(key, at, watch, action) select id::uuid, at, 'tasks', 'retry'",
    "outbox": """(at, watch, task_id, number, kind, reason, ended_at, outcome)
      select at, 'tasks', id, 1, 'image', 'never_claimed', at, 'sent'""",
}
"""How a row of the last 29 days is made from `id` and `at`: the retention keeps it. None is of the
last hour, whose ends and refusals are counted in each run."""


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    rows = int(500_000 * scale)
    databases = {name: make_database(server, f"kept_{name}") for name in ("none", "many")}
    with connected(databases["many"]) as connection:
        _fill(connection, rows)
    policy = load()
    with contextlib.ExitStack() as stack:
        ways = {
            name: idle_run(stack.enter_context(contextlib.closing(PostgresStore(dsn))), policy)
            for name, dsn in databases.items()
        }
        seconds = in_turns(ways, ROUNDS)
    return [
        Figure("idle run, nothing kept", middle(seconds["none"], 1000), "ms"),
        Figure(f"idle run, {rows:,} rows of each kept", middle(seconds["many"], 1000), "ms"),
        Figure("  many/none", ratio(seconds["many"], seconds["none"]), aim="<= 1.2"),
    ]


def _fill(connection: Connection, rows: int) -> None:
    source = f"""from (
      select
        gen_random_uuid()::text as id,
        now() - interval '1 hour' - random() * interval '28 days' as at
      from generate_series(1, {rows})
    ) r"""
    for table, columns in KEPT.items():
        connection.execute(f"insert into unstuck.{table} {columns} {source}".encode())
    settle_down(connection)
