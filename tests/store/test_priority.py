"""Which task of an adopted table is the most urgent: by its own column, where NULL is 0."""

import psycopg
import pytest

from functions.core.policy import parse
from functions.install.migrate import migrate
from functions.store.postgres import PostgresStore

POLICY = """
platform: {timeout: 600s, margin: 15s}
lease: {beat: 10s, for: 30s}
sweep: {every: 60s, budget: 45s, batch: 500, retention: 30d,
        mass_expiry: {at_least: 10, share: 0.5}}
watches:
  orders:
    table: public.orders
    key: id
    key_type: bigint
    status: status
    words: {pending: [new], running: [busy], completed: [done], failed: [bad]}
    columns: {error: error, priority: {column: prio, first: lowest}}
    clocks: {queued: made_at, started: begun_at, alive: [begun_at, made_at], finished: ended_at}
    rules:
      "*": {pending_for: 15m, redispatch_after: 2m, run_for: 500s, silent_for: 15m, attempts: 3,
            backoff: {first: 2s, factor: 4, max: 5m}, on_lost: retry, on_error: retry,
            isolation: process, memory: 400MB}
"""
TABLE = """
create table public.orders (
  id bigint primary key, status text not null default 'new', error text, prio smallint,
  made_at timestamptz not null default now(), begun_at timestamptz, ended_at timestamptz)
"""
PRIORITIES = {1: 5, 2: None, 3: -5, 4: 0}
"""By task; no two are of the same age, and a lower number is older."""


@pytest.mark.parametrize(
    ("first", "order"), [("lowest", ["3", "2", "4", "1"]), ("highest", ["1", "2", "4", "3"])]
)
def test_a_row_without_a_priority_stands_between_the_urgent_and_those_that_can_wait(
    empty_database, first, order
):
    policy = parse(POLICY.replace("lowest", first))
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(TABLE)
        migrate(empty_database, policy)
        for number, priority in PRIORITIES.items():
            connection.execute(
                "insert into public.orders (id, prio, made_at) "
                "values (%s, %s, now() - make_interval(secs => 60 - %s))",
                (number, priority, number),
            )
    store = PostgresStore(empty_database)
    claims = [store.claim(policy.watch(), None, "w") for _ in PRIORITIES]
    assert [claim.task_id for claim in claims] == order
