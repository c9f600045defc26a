"""People write 'infinity' for "on hold" and '-infinity' for "at once" or "never seen". Such a time,
or one at the end of what PostgreSQL can hold, stops no sweep, list, page, poll or gauge."""

import json

import psycopg
import pytest

from functions.core.policy import load
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres, PostgresError, create_database, find_binaries
from functions.store.postgres import PostgresStore
from tests.missing import missing
from tests.sweep.steps import sweep

POLICY = load()
WATCH = POLICY.watch()
TIMES = ("infinity", "-infinity", "294276-12-31 23:59:59+00", "4713-01-01 BC")
COLUMNS = ("scheduled_at", "created_at", "updated_at", "started_at", "finished_at")


@pytest.fixture(scope="module", params=[15, 16, 18])
def server(request):
    try:
        find_binaries(request.param)
    except PostgresError:
        missing(f"PostgreSQL {request.param} is not installed here")
    with Postgres(durable=False, version=request.param) as server:
        create_database(server.dsn(), "odd")
        dsn = server.dsn("odd")
        migrate(dsn)
        yield dsn


@pytest.fixture
def db(server):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("delete from tasks")
        connection.execute("delete from unstuck.attempts")
        yield connection


@pytest.fixture
def store(server):
    store = PostgresStore(server)
    yield store
    store.close()


def odd_rows(db, statuses):
    """A task with each odd time in each column, in each of these states."""
    ids = []
    for status in statuses:
        for column in COLUMNS:
            for time in TIMES:
                query = f"insert into tasks (kind, status, {column}) values ('odd', %s, %s)"
                row = db.execute(f"{query} returning id::text", (status, time)).fetchone()
                ids.append(row[0])
    return ids


def stale(db):
    db.execute(
        "insert into tasks (kind, scheduled_at) select 'plain', now() - interval '1 h'"
        " from generate_series(1, 3)"
    )


def numbers(answer):
    """No length of time is a word, such as Infinity."""
    text = json.dumps(answer, default=vars)
    assert "Infinity" not in text.replace("-infinity", "").replace('"infinity"', "")


def test_a_sweep_ends_the_others_and_says_ok(db, store):
    odd_rows(db, ("pending", "processing"))
    stale(db)
    done = sweep(store, POLICY)
    assert (done.verdict, done.error, done.unsweepable) == ("ok", None, 0)
    query = "select distinct status from tasks where kind = 'plain'"
    assert db.execute(query).fetchall() == [("failed",)]
    assert sweep(store, POLICY).verdict == "ok"


def test_every_reader_answers(db, store):
    ids = odd_rows(db, ("pending", "processing", "completed", "failed"))
    stale(db)
    numbers(store.find(WATCH, {"states": ["pending", "running", "failed"]}, 500))
    for older_than in ({}, {"older_than": 60}):
        store.find(WATCH, older_than, 500)
    for state in ("stuck", "running", "pending", "open", "failed"):
        numbers(store.page(WATCH, {"state": state}, 500))
    numbers(store.overview(WATCH))
    numbers(store.pulse(WATCH))
    numbers(store.preview(WATCH, 500))
    numbers(store.redispatch(WATCH, 500))
    for task_id in ids:
        numbers(store.timeline(WATCH, task_id))
        numbers(store.status(WATCH, task_id, heal=False))
        assert store.status(WATCH, task_id) is not None


def test_a_task_on_hold_is_not_claimed_and_comes_back_when_it_is_released(db, store):
    query = "insert into tasks (kind, scheduled_at) values ('odd', 'infinity') returning id::text"
    (task_id,) = db.execute(query).fetchone()
    refused = store.claim(WATCH, task_id, "w")
    assert (refused.verdict, refused.retry_after) == ("early", 86400)
    assert store.claim(WATCH, None, "w").verdict == "none"
    assert store.status(WATCH, task_id).due_in is None
    assert sweep(store, POLICY).failed == 0
    db.execute("update tasks set scheduled_at = now()")
    assert store.claim(WATCH, task_id, "w").verdict == "claimed"
