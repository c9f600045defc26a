"""m: a sweep of 1,000 overdue tasks by Supabase's REST API, against the seed's way by the same
client: a select of a page, then an UPDATE for each row."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from functions.core.policy import load
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres
from functions.store.supabase import SupabaseStore
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.mass_sweep import fresh
from tests.bench.server import Connection, connected, make_database, quiet_sweep
from tests.bench.store_cost import rest
from tests.supabase.stack import Supabase, bootstrap, found_postgrest

OVERDUE = 1_000
ROUNDS = 3
PAGE = 1_000
"""Rows of an answer, at most: Supabase's own limit."""
LOOP_SECONDS = 600.0
"""The loop may take so long at most."""
CHANGES = {
    "pending": {"status": "failed", "error_message": "Timed out.", "reason": "never_claimed"},
    "processing": {"status": "pending", "error_message": None, "reason": None},
}


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    if not found_postgrest():
        return [Figure("SKIPPED, PostgREST is missing (make postgrest)", 1.0, "times")]
    count = int(OVERDUE * scale)
    dsn = make_database(server, "rest_sweep", migrated=False)
    bootstrap(dsn)
    migrate(dsn, supabase="public")
    figures = []
    with (
        connected(dsn) as connection,
        Supabase(dsn) as stack,
        contextlib.closing(rest(stack)) as store,
    ):
        for state, case in (("pending", "pending too long"), ("processing", "lease ran out")):
            seconds = in_turns(
                {
                    "ours": _ours(store, connection, state, count),
                    "seed": _seed(store, connection, state, count),
                },
                ROUNDS,
            )
            figures += [
                Figure(f"sweep of {count:,} by the REST API, {case}", middle(seconds["ours"]), "s"),
                Figure(f"  the seed's way, {case}", middle(seconds["seed"]), "s"),
                Figure(
                    f"  seed/sweep, {case}", ratio(seconds["seed"], seconds["ours"]), aim=">= 40"
                ),
            ]
    return figures


def _ours(
    store: SupabaseStore, connection: Connection, state: str, count: int
) -> Callable[[], float]:
    def once() -> float:
        fresh(connection, state, count, held=True)
        done, seconds = quiet_sweep(store, load())
        assert done.failed + done.requeued == count, done
        return seconds

    once()
    return once


def _seed(
    store: SupabaseStore, connection: Connection, state: str, count: int
) -> Callable[[], float]:
    client, transport = store._client()

    def page() -> list[dict[str, Any]]:
        rows = client.table("tasks").select("id").eq("status", state).limit(PAGE).execute().data
        return list(rows)

    def loop() -> int:
        transport.until.set(time.monotonic() + LOOP_SECONDS)
        moved = 0
        while rows := page():
            for row in rows:
                client.table("tasks").update(CHANGES[state]).eq("id", row["id"]).execute()
            moved += len(rows)
        return moved

    def once() -> float:
        fresh(connection, state, count, held=False)
        moved, seconds = timed(loop)
        assert moved == count, moved
        return seconds

    return once
