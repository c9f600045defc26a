"""What the page reads: the right rows, stuck ones first, by keysets, and at a cost that has a bound
whatever has finished."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import load
from functions.store.postgres import PostgresStore
from tests.page.million import fill

WATCH = load().watch()
FINISHED, PENDING, HELD = 20_000, 600, 40
FILTERS: list[dict[str, str]] = [
    {},
    {"state": "stuck"},
    {"state": "open"},
    {"state": "pending"},
    {"state": "running"},
    {"state": "failed"},
    {"state": "cancelled"},
    {"state": "completed"},
    {"state": "elsewhere"},
    {"kind": "rare"},
    {"kind": "none"},
    {"owner": "user-7"},
    {"reason": "handler_error"},
    {"state": "failed", "kind": "rare"},
    {"state": "completed", "owner": "nobody"},
    {
        "first": "abc00000-0000-0000-0000-000000000000",
        "last": "abcfffff-ffff-ffff-ffff-ffffffffffff",
    },
]
Db = psycopg.Connection[dict[str, Any]]


@pytest.fixture(scope="module")
def filled(postgres: Any, template: str) -> Iterator[str]:
    from tests.conftest import copied

    with copied(postgres, template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        fill(connection, WATCH.rules_json, FINISHED, PENDING, HELD)
        yield dsn


@pytest.fixture
def db(filled: str) -> Iterator[Db]:
    with psycopg.connect(filled, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def store(filled: str) -> Iterator[PostgresStore]:
    made = PostgresStore(filled)
    yield made
    made.close()


def read(db: Db, work: Callable[[], Any]) -> dict[str, dict[str, int]]:
    """What `work` adds to the counters of the tables: sequential scans, and rows fetched by an
    index."""
    query = """select relname, seq_scan, idx_tup_fetch from pg_stat_user_tables
               where relname in ('tasks', 'attempts', 'sweeps')"""

    def look() -> dict[str, dict[str, int]]:
        db.execute("select pg_stat_force_next_flush()")
        return {one.pop("relname"): one for one in db.execute(query).fetchall()}

    before = look()
    work()
    after = look()
    return {
        table: {name: after[table][name] - before[table][name] for name in after[table]}
        for table in after
    }


def pages(
    store: PostgresStore, wanted: dict[str, str], limit: int, most: int = 10_000
) -> list[dict[str, Any]]:
    """All that the pages show one after the other."""
    found: list[dict[str, Any]] = []
    after = None
    while len(found) < most:
        answer = store.page(WATCH, wanted, limit, after)
        found += answer["tasks"]
        after = answer["next"]
        if after is None:
            break
    return found


@pytest.mark.parametrize("wanted", FILTERS, ids=json.dumps)
def test_a_page_reads_a_bounded_number_of_rows_by_indexes(db, wanted):
    """3,000 are looked at, and each costs a few fetches; a table of a million has the same bound."""
    query = "select unstuck.tasks_page(%s, %s)"
    cost = read(
        db, lambda: [db.execute(query, (json.dumps(wanted), WATCH.rules_json)) for _ in range(8)]
    )
    assert cost["tasks"]["seq_scan"] == cost["attempts"]["seq_scan"] == 0
    assert cost["tasks"]["idx_tup_fetch"] < 8 * 7_000
    assert cost["attempts"]["idx_tup_fetch"] < 8 * 7_000


def test_a_page_without_a_filter_reads_little_more_than_it_shows(db):
    query = "select unstuck.tasks_page('{}', %s, 50, %s)"
    deep = json.dumps({"section": 3, "at": "2100-01-01T00:00:00+00:00", "id": ""})
    for after in (None, deep):
        cost = read(
            db, lambda after=after: [db.execute(query, (WATCH.rules_json, after)) for _ in range(8)]
        )
        assert cost["tasks"]["idx_tup_fetch"] < 8 * 700
        assert cost["attempts"]["idx_tup_fetch"] < 8 * 700


@pytest.mark.parametrize(
    "call", ["tasks_pulse(%s)", "tasks_day()", "sweeps(50)", "tasks_swept(43195)"]
)
def test_the_overview_reads_open_rows_and_a_sample_by_indexes(db, call):
    arguments = (WATCH.rules_json,) if "%s" in call else ()
    cost = read(db, lambda: [db.execute(f"select unstuck.{call}", arguments) for _ in range(8)])
    assert (
        cost["tasks"]["seq_scan"] == cost["attempts"]["seq_scan"] == cost["sweeps"]["seq_scan"] == 0
    )
    assert cost["tasks"]["idx_tup_fetch"] < 8 * 4 * (PENDING + 281 + HELD)
    assert cost["attempts"]["idx_tup_fetch"] < 8 * 48 * 200


def test_the_pages_show_each_task_once_and_stuck_ones_first(db, store):
    found = pages(store, {}, 500, most=4000)
    keys = [one["task_id"] for one in found]
    assert len(set(keys)) == len(keys) >= 4000
    first_sound = next(n for n, one in enumerate(found) if one["late"] is None)
    assert all(one["late"] > 0 for one in found[:first_sound])
    assert first_sound == store.pulse(WATCH)["stuck"]["count"] >= 281
    states = [one["state"] for one in found[first_sound:]]
    assert states.index("pending") == states.count("running")
    ended = [one["age"] for one in found if one["state"] not in {"pending", "running"}]
    assert ended == sorted(ended), "the newest first"


def test_small_pages_show_the_same_as_large_ones(store):
    small, large = pages(store, {"state": "open"}, 7), pages(store, {"state": "open"}, 500)
    assert [one["task_id"] for one in small] == [one["task_id"] for one in large]


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"state": "failed"}, "status = 'failed'"),
        ({"state": "failed", "kind": "rare"}, "status = 'failed' and kind = 'rare'"),
        ({"state": "cancelled"}, "status = 'cancelled'"),
        ({"state": "pending"}, "status = 'pending'"),
        ({"state": "running", "kind": "image"}, "status = 'processing' and kind = 'image'"),
        ({"kind": "rare"}, "kind = 'rare'"),
        ({"owner": "user-7"}, "owner = 'user-7'"),
        ({"reason": "handler_error"}, "reason = 'handler_error'"),
        ({"first": FILTERS[-1]["first"], "last": FILTERS[-1]["last"]}, "id::text like 'abc%%'"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_filter_finds_what_the_table_has(db, store, wanted, where):
    expected = {
        one["id"]
        for one in db.execute(f"select id::text from public.tasks where {where}").fetchall()
    }
    assert {one["task_id"] for one in pages(store, wanted, 100)} == expected


def test_stuck_is_what_the_next_sweep_moves(db, store):
    with db.transaction(force_rollback=True):
        preview = db.execute(
            "select unstuck.tasks_preview(%s, 500) as found", (WATCH.rules_json,)
        ).fetchone()["found"]
    assert {one["task_id"] for one in pages(store, {"state": "stuck"}, 100)} == {
        one["task_id"] for one in preview
    }


def test_the_list_carries_no_payload(store):
    (task,) = store.page(WATCH, {"state": "failed"}, 1)["tasks"]
    assert not {"input", "result", "metadata", "checkpoint", "detail"} & task.keys()


def test_a_task_that_the_ledger_does_not_know_is_found_elsewhere(db, store):
    with db.transaction(force_rollback=True):
        made = db.execute(
            "insert into public.tasks (kind, status) values ('old', 'completed') returning id::text"
        ).fetchone()
        answer, after = [], None
        for _ in range(20):
            page = db.execute(
                "select unstuck.tasks_page(%s, %s, 500, %s) as found",
                ('{"state": "elsewhere"}', WATCH.rules_json, after),
            ).fetchone()["found"]
            answer += page["tasks"]
            if page["next"] is None:
                break
            after = json.dumps(page["next"])
    assert [one["task_id"] for one in answer] == [made["id"]]


def test_the_day_tells_shares_and_rescues(store):
    day = store.day(WATCH)
    assert len(day["ended"]) == 48
    ended = sum(one["completed"] + one["failed"] for one in day["ended"])
    assert ended == pytest.approx(FINISHED / 30, rel=0.1)
    assert {"n", "count", "p50", "max"} <= day["rescued"][0].keys()
    assert day["rescued"][0]["p50"] == pytest.approx(2.0)
