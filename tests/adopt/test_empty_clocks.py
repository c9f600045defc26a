"""Clocks that are there and that no row has: the guard observes since when tasks wait and run."""

import psycopg
import pytest

from functions.core.policy import parse
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import HEAD

DDL = """
create table etchings (
  id bigint generated always as identity primary key,
  phase text not null check (phase in ('enqueued', 'etching', 'finished', 'broken')),
  problem text,
  enqueued_at timestamptz,
  started_at timestamptz
);
insert into etchings (phase) values ('enqueued'), ('etching'), ('finished');
"""


def run(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize("clock", ["", "enqueued_at"])
def test_what_no_clock_dates_is_observed(empty_database: str, clock: str) -> None:
    run(empty_database, DDL)
    if clock:  # some rows have it
        run(empty_database, f"insert into etchings (phase, {clock}) values ('enqueued', now())")
    with connect(empty_database) as connection:
        watches = adopt.watch(check.infer_table(connection, "etchings"))
    [entry] = watches.values()
    assert entry.get("fence") == "observe"
    assert ("queued" in entry["clocks"]) == bool(clock)
    policy = parse(HEAD + adopt.text(watches))
    migrate(empty_database, policy)
    run(
        empty_database,
        "update unstuck.observed set status_at = now() - interval '3 h', "
        "touched_at = now() - interval '3 h'",
    )
    store, watch = PostgresStore(empty_database), policy.watch()
    stuck = {task.task_id: str(task.state) for task in store.preview(watch, 10)}
    assert stuck == {"2": "pending"} | ({} if clock else {"1": "failed"})
    assert store.pulse(watch).stuck.unjudged == (1 if clock else 0)
    assert {task.task_id for task in store.sweep(watch, 10).rescued} == stuck.keys()
    store.close()
