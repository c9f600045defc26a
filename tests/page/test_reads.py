"""What the page reads: the right rows, stuck ones first, by keysets, and at a cost that has a bound
whatever has finished."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT, load, parse
from functions.core.states import OPEN
from functions.install.migrate import migrate
from functions.store.page_answers import ListedTask
from functions.store.postgres import PostgresStore
from tests.page.million import fill
from tests.sql import install_clock

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
    {"text": "nothing of this"},
    {"state": "failed", "text": "nothing of this"},
    {"state": "failed", "message": "Nothing of this."},
    {"state": "failed", "order": "reverse"},
    {"state": "completed", "order": "reverse"},
    {"state": "pending", "order": "reverse"},
    {"since": "2020-01-01", "until": "2020-01-02"},
    {"state": "failed", "since": "2020-01-01", "until": "2020-01-02"},
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
        install_clock(connection)  # else lost leases would pass only while the tests run
        fill(connection, WATCH.rules_json, FINISHED, PENDING, HELD)
        yield dsn


@pytest.fixture
def db(filled: str) -> Iterator[Db]:
    with psycopg.connect(filled, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def store(filled: str) -> Iterator[PostgresStore]:
    store = PostgresStore(filled)
    yield store
    store.close()


def read(db: Db, work: Callable[[], Any]) -> dict[str, dict[str, int]]:
    """What `work` adds to the counters of the tables: sequential scans, and rows fetched by an
    index."""
    query = """select relname, seq_scan, idx_tup_fetch from pg_stat_user_tables
               where relname in ('tasks', 'attempts', 'sweeps', 'visits')"""

    def look() -> dict[str, dict[str, int]]:
        db.execute("select pg_stat_force_next_flush()")
        return {row.pop("relname"): row for row in db.execute(query).fetchall()}

    before = look()
    work()
    after = look()
    return {table: difference(before[table], after[table]) for table in after}


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after}


def pages(
    store: PostgresStore, filters: dict[str, str], limit: int, most: int = 10_000
) -> list[ListedTask]:
    """All that the pages show one after the other."""
    listed: list[ListedTask] = []
    after = None
    while len(listed) < most:
        page = store.page(WATCH, filters, limit, after)
        listed += page.tasks
        after = page.next
        if after is None:
            break
    return listed


@pytest.mark.parametrize("filters", FILTERS, ids=json.dumps)
def test_a_page_reads_a_bounded_number_of_rows_by_indexes(db, filters):
    """3,000 are looked at, and each costs a few fetches; a table of a million has the same
    bound."""
    query = "select unstuck.tasks_page(%s, %s)"
    arguments = (json.dumps(filters), WATCH.rules_json)
    cost = read(db, lambda: [db.execute(query, arguments) for _ in range(8)])
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
    "call",
    [
        "tasks_pulse(%s)",
        "tasks_day()",
        "sweeps(50)",
        "tasks_swept(43195)",
        "tasks_failures()",
        "tasks_count('failed')",
        "tasks_count('pending')",
    ],
)
def test_the_overview_reads_open_rows_and_a_sample_by_indexes(db, call):
    arguments = (WATCH.rules_json,) if "%s" in call else ()
    cost = read(db, lambda: [db.execute(f"select unstuck.{call}", arguments) for _ in range(8)])
    assert (
        cost["tasks"]["seq_scan"] == cost["attempts"]["seq_scan"] == cost["sweeps"]["seq_scan"] == 0
    )
    assert cost["tasks"]["idx_tup_fetch"] < 8 * 4 * (PENDING + 281 + HELD)
    assert cost["attempts"]["idx_tup_fetch"] < 8 * 48 * 200


def test_a_long_queue_that_moves_is_not_read_and_hides_no_kind_whose_turn_never_comes(
    postgres, template
):
    from tests.conftest import copied

    with (
        copied(postgres, template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as db,
    ):
        fill(db, WATCH.rules_json, finished=100, pending=100, held=40)
        db.execute("update public.tasks set scheduled_at = now() where status = 'processing'")
        db.execute(
            "insert into public.tasks (kind, scheduled_at) "
            "select 'image', now() - interval '20 min' from generate_series(1, 8000)"
        )
        forgotten = db.execute(
            "insert into public.tasks (kind, scheduled_at) "
            "values ('forgotten', now() - interval '17 min') returning id::text"
        ).fetchone()["id"]
        db.execute("vacuum (analyze) public.tasks")
        query = "select id from unstuck.tasks_stuck_tasks(clock_timestamp(), %s, 20000)"
        rows: list[Any] = []
        cost = read(db, lambda: rows.extend(db.execute(query, (WATCH.rules_json,)).fetchall()))
        assert forgotten in {row["id"] for row in rows}
        assert cost["tasks"]["idx_tup_fetch"] < 4000


ADOPTED = """watches:
  visits:
    table: public.visits
    key: id
    key_type: bigint
    status: stage
    words: {pending: [booked], running: [seen], completed: [left], failed: [missed]}
    columns: {kind: ward}
    clocks: {queued: booked_at, alive: moved_at}
    rules:
      "*": {pending_for: 15m, redispatch_after: 2m, run_for: 570s, silent_for: 15m, attempts: 3,
            backoff: {first: 2s, factor: 4, max: 5m}, on_lost: retry, on_error: retry,
            isolation: process, memory: 400MB}
"""
VISITS = """
create table public.visits (
  id bigint generated always as identity primary key,
  ward text,
  stage text not null,
  booked_at timestamptz not null,
  moved_at timestamptz not null default now()
);
create index on public.visits (booked_at) where stage = 'booked';
create index on public.visits (moved_at) where stage = 'seen';
create index on public.visits ((coalesce(ward, '')), booked_at) where stage = 'booked';
insert into public.visits (ward, stage, booked_at)
select case when n % 2 = 0 then 'eyes' else 'teeth' end, 'booked',
  now() - interval '50 min' + n * interval '0.1 s'
from generate_series(1, 16000) n;
insert into public.visits (ward, stage, booked_at)
values ('forgotten', 'booked', now() - interval '30 min');
insert into public.visits (ward, stage, booked_at)
select 'eyes', 'left', now() - interval '17 min' from generate_series(1, 200);
"""
ENDED = """
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker, started_at, lease,
                              lease_until, deadline_at, beat_at, ended_at, outcome)
select 'visits', id::text, 1, 1, kind, gen_random_uuid(), 'worker-1', now(), '30 s', now(), now(),
  now(), now(), 'completed'
from public.visits, unnest(array['eyes', 'teeth']) as kind
where stage = 'left' and (id % 2 = 0) = (kind = 'eyes')
"""


def test_a_long_queue_of_another_table_whose_workers_take_what_came_late_is_not_read(postgres):
    """Its index by kind leads to the kind whose turn never comes."""
    from tests.conftest import copied

    policy = parse(DEFAULT.read_text().partition("watches:")[0] + ADOPTED)
    rules = policy.watch("visits").rules_json
    with (
        copied(postgres, None) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as db,
    ):
        db.execute(VISITS.encode())
        migrate(dsn, policy)
        db.execute(ENDED.encode())
        db.execute("vacuum (analyze) public.visits")
        pulses: list[Any] = []
        query = "select unstuck.visits_pulse(%s) as pulse"
        cost = read(db, lambda: pulses.extend(db.execute(query, (rules,)).fetchall()))
        assert pulses[0]["pulse"]["stuck"]["count"] == 1, "the forgotten one"
        assert cost["visits"]["idx_tup_fetch"] < 2_000
        db.execute("drop index public.visits_coalesce_booked_at_idx")
        pulses.clear()
        read(db, lambda: pulses.extend(db.execute(query, (rules,)).fetchall()))
        assert pulses[0]["pulse"]["stuck"]["count"] == 1, "also where no index leads to it"


def test_the_few_that_were_cancelled_are_counted_without_the_many_that_failed(db):
    query = "select unstuck.tasks_count('cancelled') as count"
    count = db.execute(query).fetchone()["count"]
    cost = read(db, lambda: [db.execute(query) for _ in range(8)])
    assert count == FINISHED // 997
    assert cost["attempts"]["idx_tup_fetch"] < 8 * 3 * count


@pytest.fixture(scope="module")
def behind(postgres: Any, template: str) -> Iterator[str]:
    """5,000 tasks are overdue, and workers have ended 3,000 of another kind just now."""
    from tests.conftest import copied

    with copied(postgres, template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        fill(connection, WATCH.rules_json, finished=3000, pending=100, held=40)
        connection.execute(
            "insert into public.tasks (kind, scheduled_at) "
            "select 'image', now() - interval '9 h' - n * interval '1 s' "
            "from generate_series(1, 5000) n"
        )
        connection.execute(
            "update unstuck.attempts set ended_at = now() where ended_at is not null"
        )
        connection.execute("vacuum (analyze) public.tasks")
        connection.execute("vacuum (analyze) unstuck.attempts")
        yield dsn


@pytest.mark.parametrize(
    ("call", "most"),
    [
        ("tasks_page('{}', %s)", 900),
        ("""tasks_page('{"state": "stuck"}', %s)""", 900),
        ("""tasks_page('{"state": "pending"}', %s)""", 900),
        ("""tasks_page('{"state": "running"}', %s)""", 900),
        ("tasks_pulse(%s)", 3_000),
        ("tasks_turns(now(), %s, 'pending_for')", 500),
    ],
)
def test_a_look_at_thousands_of_overdue_tasks_reads_the_first_of_them(behind, call, most):
    """And of thousands of claims a sample tells where the workers are in the queue."""
    query = f"select unstuck.{call}"
    with psycopg.connect(behind, autocommit=True, row_factory=dict_row) as db:
        cost = read(db, lambda: [db.execute(query, (WATCH.rules_json,)) for _ in range(8)])
    assert cost["tasks"]["seq_scan"] == cost["attempts"]["seq_scan"] == 0
    assert cost["tasks"]["idx_tup_fetch"] < 8 * most


def test_the_pages_show_each_task_once_and_stuck_ones_first(db, store):
    listed = pages(store, {}, 500, most=4000)
    keys = [task.task_id for task in listed]
    assert len(set(keys)) == len(keys) >= 4000
    first_sound = next(n for n, task in enumerate(listed) if task.late is None)
    assert all(task.late > 0 for task in listed[:first_sound])
    assert first_sound == store.pulse(WATCH).stuck.count >= 281
    states = [task.state for task in listed[first_sound:]]
    assert states.index("pending") == states.count("running")
    ages = [task.age for task in listed if task.state not in OPEN]
    assert ages == sorted(ages), "the newest first"


def test_small_pages_show_the_same_as_large_ones(store):
    small, large = pages(store, {"state": "open"}, 7), pages(store, {"state": "open"}, 500)
    assert [task.task_id for task in small] == [task.task_id for task in large]


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ({"state": "failed"}, "status = 'failed'"),
        ({"state": "failed", "kind": "rare"}, "status = 'failed' and kind = 'rare'"),
        ({"state": "cancelled"}, "status = 'cancelled'"),
        ({"state": "pending"}, "status = 'pending'"),
        ({"state": "running", "kind": "image"}, "status = 'processing' and kind = 'image'"),
        ({"state": "running", "word": "processing"}, "status = 'processing'"),
        ({"word": "cancelled"}, "status = 'cancelled'"),
        ({"kind": "rare"}, "kind = 'rare'"),
        ({"owner": "user-7"}, "owner = 'user-7'"),
        ({"reason": "handler_error"}, "reason = 'handler_error'"),
        ({"first": FILTERS[-1]["first"], "last": FILTERS[-1]["last"]}, "id::text like 'abc%%'"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_filter_finds_what_the_table_has(db, store, filters, where):
    rows = db.execute(f"select id::text from public.tasks where {where}").fetchall()
    assert {task.task_id for task in pages(store, filters, 100)} == {row["id"] for row in rows}


def test_stuck_is_what_the_next_sweep_moves(db, store):
    with db.transaction(force_rollback=True):
        query = "select unstuck.tasks_preview(%s, 500) as overdue"
        preview = db.execute(query, (WATCH.rules_json,)).fetchone()["overdue"]
    listed = {task.task_id for task in pages(store, {"state": "stuck"}, 100)}
    assert listed == {task["task_id"] for task in preview}


def test_the_list_carries_no_payload(db):
    query = "select unstuck.tasks_page(%s, %s, 1) as page"
    page = db.execute(query, ('{"state": "failed"}', WATCH.rules_json)).fetchone()["page"]
    (task,) = page["tasks"]
    assert not {"input", "result", "metadata", "checkpoint", "detail"} & task.keys()


def test_a_task_that_the_ledger_does_not_know_is_found_elsewhere(db, store):
    with db.transaction(force_rollback=True):
        row = db.execute(
            "insert into public.tasks (kind, status) values ('old', 'completed') returning id::text"
        ).fetchone()
        listed, after = [], None
        for _ in range(20):
            page = db.execute(
                "select unstuck.tasks_page(%s, %s, 500, %s) as page",
                ('{"state": "elsewhere"}', WATCH.rules_json, after),
            ).fetchone()["page"]
            listed += page["tasks"]
            if page["next"] is None:
                break
            after = json.dumps(page["next"])
    assert [task["task_id"] for task in listed] == [row["id"]]


def test_the_day_tells_shares_and_rescues(store):
    day = store.day(WATCH)
    assert len(day.ended) == 48
    ended = sum(half_hour.completed + half_hour.failed for half_hour in day.ended)
    assert ended == pytest.approx(FINISHED / 30, rel=0.1)
    assert day.rescued[0].p50 == pytest.approx(2.0)
