"""A small slice of `make scale`: each part hands back figures; and what it writes for many tasks at
once is what the verbs leave."""

import contextlib
import math
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.answers import SweepBegun
from functions.core.policy import load
from functions.store.postgres import PostgresStore
from tests.bench.server import make_database
from tests.missing import missing
from tests.scale import live, month
from tests.store.steps import Db, claimed_again, one, settled
from tests.waiting import eventually

INPUT = {"prompt": "a cat " * 8}
RESULT = {"url": "https://example.org/cat.png"}
FAILURE = {
    "reason": "handler_error",
    "error": "The picture is too large.",
    "detail": "ValueError: 9000 x 9000",
}
ROWS = {
    "tasks": "select * from public.tasks order by created_at",
    "attempts": """
        select a.*
        from unstuck.attempts a
        join public.tasks t on t.id = a.task_id::uuid
        order by t.created_at, a.number
    """,
    "sweeps": "select * from unstuck.sweeps",
}
VERSIONS = """
select relname, n_tup_ins, n_tup_upd, n_tup_hot_upd
from pg_stat_user_tables
where relname in ('tasks', 'attempts', 'sweeps')
"""
"""How many rows were written, how many other versions of rows, and for how many of those no index
had to be written."""
BY_THE_TEST = {"tasks": (0, 1, 0), "attempts": (0, 1, 1), "sweeps": (0, 1, 1)}
"""The versions that let time pass, and that of the second batch."""
UNLIKE = {"owner", "lease", "task_id", "key", "counts"}
OTHERS = """
select count(*)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
"""


def test_live_attempts_hand_back_figures(postgres):
    figures = live.run(postgres, 0.001, counts=(1, 20), workers=2)
    assert len(figures) >= 4 * 2 + 1
    assert all(math.isfinite(figure.value) and figure.value > 0 for figure in figures)


def test_a_month_of_a_day_keeps_what_is_younger_than_a_week():
    if not month.LIBRARIES:
        missing("libfaketime, which moves a database's clock, is not here: apt install faketime")
    figures = {
        figure.what: figure.value
        for figures in month.run(tasks=200, days=1, steps=2)
        for figure in figures
    }
    assert figures["day 1: public.tasks: rows"] == 200 + month.WAITING
    assert figures["day 1: idle sweep"] > 0
    assert figures["unstuck.attempts: size"] > 0


@pytest.fixture(scope="module")
def many_at_once(postgres):
    dsn = make_database(postgres, "scale_many_at_once")
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(month.LIFE.read_bytes())
        db.execute("call simulation.idle_runs(1)")
        db.execute("call simulation.lives(3, 1, 1)")
    return _left_in(dsn)


@pytest.fixture(scope="module")
def by_verbs(postgres):
    dsn = make_database(postgres, "scale_by_verbs")
    with (
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as db,
        contextlib.closing(PostgresStore(dsn)) as store,
    ):
        _run_idly(store)
        _live(db, store)
    return _left_in(dsn)


def _run_idly(store: PostgresStore) -> None:
    run = store.sweep_begin("2026-11-29T12:00:00Z", "scheduler", 45.0)
    assert isinstance(run, SweepBegun)
    store.sweep(load().watch(), 500, sweep_id=run.sweep_id, batch=str(uuid4()))
    store.sweep_end(run.sweep_id, ok=True, counts={}, error=None)


def _live(db: Db, store: PostgresStore) -> None:
    watch = load().watch()
    tasks = [
        store.create(watch, "image", INPUT, owner=f"user-{number}", metadata={"plan": "free"})
        for number in range(3)
    ]
    attempts = [claimed_again(store, watch, task.task_id) for task in tasks]
    for attempt in attempts:
        store.beat(watch, attempt.task_id, attempt.token)
    failed, completed, lost = attempts
    settled(store, watch, failed, "fail", **FAILURE)
    settled(store, watch, completed, "complete", result=RESULT)
    db.execute(
        "update unstuck.attempts set lease_until = beat_at, lease = '0' where ended_at is null"
    )
    store.sweep(watch, 500, sweep_id=1)
    db.execute("update public.tasks set scheduled_at = created_at where status = 'pending'")
    again = claimed_again(store, watch, lost.task_id)
    store.beat(watch, again.task_id, again.token)
    settled(store, watch, again, "complete", result=RESULT)


def _left_in(dsn: str) -> dict[str, Any]:
    """The rows, and how many versions of them were written. What differs from one task to the next
    is only there or not there."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as db:
        eventually(lambda: one(db, OTHERS)["count"] == 0)  # each tells what it wrote when it ends
        versions = {row.pop("relname"): tuple(row.values()) for row in db.execute(VERSIONS)}
        rows = {table: db.execute(query).fetchall() for table, query in ROWS.items()}
    return {
        table: (
            [{name: _comparable(name, row[name]) for name in row} for row in rows[table]],
            versions[table],
        )
        for table in ROWS
    }


def _comparable(name: str, value: Any) -> Any:
    differs = name in UNLIKE or isinstance(value, datetime | UUID)
    return type(value).__name__ if differs else value


@pytest.mark.parametrize("table", ROWS)
def test_what_is_written_for_many_tasks_at_once_is_what_the_verbs_leave(
    table, many_at_once, by_verbs
):
    (rows, versions), (rows_of_verbs, versions_of_verbs) = many_at_once[table], by_verbs[table]
    assert rows == rows_of_verbs
    by_test = BY_THE_TEST[table]
    assert versions == tuple(
        all_of_them - more for all_of_them, more in zip(versions_of_verbs, by_test, strict=True)
    )
