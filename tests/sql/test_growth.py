"""What is kept costs nothing where nobody looks at it: an idle sweep, a checkpoint and a claim read
and write as much with a long history as with none."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import load
from functions.store.postgres import PostgresStore

WATCH = load().watch()
KEPT = 3_000
LIVE = 50
DAY = 86400.0
FILL = f"""
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                              lease_until, deadline_at, beat_at, ended_at, outcome)
select 'tasks', gen_random_uuid()::text, 1, 1, 'image', gen_random_uuid(), at, '30 s',
  at, at, at, at, 'completed'
from generate_series(1, {KEPT}) n,
  lateral (
    select now() - n * case when n <= 1000 then interval '1 s' else interval '5 min' end as at
  ) c;
insert into unstuck.checkpoints (watch, task_id, number, name, at)
select watch, task_id, 1, 'step', ended_at from unstuck.attempts;
insert into unstuck.sweeps (started_at, until, ended_at, ok)
select ended_at, ended_at, ended_at, true from unstuck.attempts;
insert into unstuck.refusals (at, watch, task_id, source, wanted, because)
select ended_at, watch, task_id, 'fence', 'failed', 'ended' from unstuck.attempts;
insert into unstuck.dispatches (watch, task_id, at) select watch, task_id, ended_at
from unstuck.attempts;
insert into unstuck.operations (key, at, watch, action)
select gen_random_uuid(), ended_at, watch, 'retry' from unstuck.attempts;
insert into unstuck.outbox (at, watch, task_id, number, kind, reason, ended_at, outcome)
select ended_at, watch, task_id, 1, 'image', 'never_claimed', ended_at, 'sent'
from unstuck.attempts;
insert into unstuck.observed (watch, task_id, status_at, touched_at)
select watch, task_id, ended_at, ended_at from unstuck.attempts;
"""
COUNTS = """
select sum(n) from (
  select count(*) as n from unstuck.attempts
  union all select count(*) from unstuck.checkpoints
  union all select count(*) from unstuck.sweeps
  union all select count(*) from unstuck.refusals
  union all select count(*) from unstuck.dispatches
  union all select count(*) from unstuck.operations
  union all select count(*) from unstuck.outbox
  union all select count(*) from unstuck.observed
) t
"""
READ = """
select jsonb_object_agg(relname, seq_tup_read + coalesce(idx_tup_fetch, 0)) as rows
from pg_stat_user_tables where schemaname = 'unstuck' and relname <> 'migrations'
"""
Db = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def db(database: str) -> Iterator[Db]:
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    store = PostgresStore(database)
    yield store
    store.close()


def value(db: Db, query: str) -> Any:
    row = db.execute(query.encode()).fetchone()
    assert row is not None
    return next(iter(row.values()))


def idle_run(db: Db) -> None:
    rules = WATCH.rules_json
    begun = value(db, "select unstuck.sweep_begin(null, 'test', 10)")
    db.execute("select unstuck.lapsed('tasks', 10, 0.5)")
    db.execute("select unstuck.tasks_sweep(%s)", (rules,))
    db.execute("select unstuck.tasks_redispatch(%s)", (rules,))
    db.execute("select unstuck.tasks_tidy(0, %s)", (rules,))
    db.execute("select unstuck.outbox_take(30)")
    db.execute("select unstuck.prune(%s)", (30 * DAY,))
    db.execute("select unstuck.sweep_end(%s, true, '{}')", (begun["sweep_id"],))


def test_an_idle_run_reads_nothing_of_what_is_kept(db):
    db.execute(FILL.encode())
    db.execute("analyze")
    idle_run(db)
    db.execute("select pg_stat_force_next_flush()")
    before = value(db, READ)
    for _ in range(10):
        idle_run(db)
    db.execute("select pg_stat_force_next_flush()")
    after = value(db, READ)
    grown = {table: after[table] - rows for table, rows in before.items()}
    assert {table: rows for table, rows in grown.items() if rows > 10 * 10} == {}


def test_an_idle_run_reads_the_live_attempts_six_times(db):
    """Each of them also walks past those that have ended since the last vacuum."""
    db.execute(f"""
        insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                                      lease_until, deadline_at, beat_at)
        select 'tasks', id::text, 1, 1, 'image', gen_random_uuid(), now(), '1 h',
          now() + interval '1 h', now() + interval '2 h', now()
        from generate_series(1, {LIVE}) id""")
    db.execute("set enable_seqscan = off")
    live = "select idx_tup_read from pg_stat_user_indexes where indexrelname = 'attempts_live'"
    idle_run(db)
    db.execute("select pg_stat_force_next_flush()")
    before = value(db, live)
    idle_run(db)
    db.execute("select pg_stat_force_next_flush()")
    assert value(db, live) - before <= 6 * LIVE


def test_a_batch_asks_once_how_the_queue_moves_and_only_the_oldest_task(db, store):
    store.create(WATCH, "image", {})
    db.execute("delete from tasks")
    db.execute("vacuum analyze tasks")  # nothing waits, and the planner takes all indexes for equal
    scans = (
        "select indexrelname as name, idx_scan as count from pg_stat_user_indexes "
        "where relname = 'tasks' and idx_scan > 0"
    )
    db.execute("set enable_seqscan = off")
    begun = value(db, "select unstuck.sweep_begin(null, 'test', 10)")
    with db.transaction():
        db.execute("set local track_functions = 'all'")
        batch = "select unstuck.tasks_batch(%s, 500, %s, gen_random_uuid())"
        db.execute(batch, (WATCH.rules_json, begun["sweep_id"]))
        calls = "select calls from pg_stat_xact_user_functions where funcname = 'tasks_turns'"
        assert value(db, calls) == 1
    db.execute("select pg_stat_force_next_flush()")
    assert {row["name"] for row in db.execute(scans)} <= {
        "tasks_pkey",
        "tasks_pending",
        "tasks_running",
        "tasks_one_active",
    }


def test_what_is_older_than_the_retention_goes_a_bounded_number_at_a_time(db):
    db.execute(FILL.encode())
    for query in ("select unstuck.prune(0, 100)", "select unstuck.prune(0, 100)"):
        before = value(db, COUNTS)
        assert value(db, query) == 100
        assert before - value(db, COUNTS) == 7 * 100, "of each table, and the attempts' checkpoints"
    assert value(db, f"select unstuck.prune({30 * DAY})") == 0


def test_the_note_of_a_row_that_was_truncated_goes_and_that_of_an_open_task_stays(db, store):
    task = store.create(WATCH, "image", {}).task_id
    db.execute(
        "insert into unstuck.observed select 'tasks', id, now() - interval '31 days', now() "
        "from unnest(array[%s, gen_random_uuid()::text]) id",
        (task,),
    )
    db.execute("select unstuck.tasks_orphans(0)")
    assert value(db, "select task_id from unstuck.observed") == task


def test_a_checkpoint_writes_what_it_saves_whatever_was_saved_before(db, store):
    task = store.create(WATCH, "image", {}).task_id
    attempt = store.claim(WATCH, task, "w")

    def written(first: int) -> int:
        before = value(db, "select pg_current_wal_insert_lsn() - '0/0'")
        db.execute(
            "select unstuck.checkpoint('tasks', %s, %s, 'step-' || n, "
            "to_jsonb((select string_agg(md5(n || '/' || m), '') from generate_series(1, 64) m))) "
            "from generate_series(%s::integer, %s) n",
            (task, attempt.token, first, first + 59),
        )
        return value(db, "select pg_current_wal_insert_lsn() - '0/0'") - before

    costs = [written(first) for first in range(0, 600, 60)]
    assert costs[-1] < 2 * min(costs)
    assert value(db, "select pg_column_size(a.*) from unstuck.attempts a") < 500
    store.settle(WATCH, task, attempt.token, "release")
    assert len(store.claim(WATCH, task, "w").checkpoint) == 600


def test_a_task_that_a_person_started_again_has_none_of_its_old_checkpoints(db, store):
    task = store.create(WATCH, "image", {}).task_id
    for outcome, step, before in (
        ("release", "one", set()),
        ("fail", "two", {"one"}),
        ("release", "three", set()),
        ("release", "three", {"three"}),
    ):
        attempt = store.claim(WATCH, task, "w")
        assert attempt.checkpoint.keys() == before
        store.checkpoint(WATCH, task, attempt.token, step, attempt.number)
        store.settle(WATCH, task, attempt.token, outcome, reason="handler_error")
        if outcome == "fail":
            store.operate(WATCH, "retry", [task])
    assert store.claim(WATCH, task, "w").checkpoint == {"three": 4}, "of a name the latest"


def test_a_claim_by_kind_does_not_walk_past_the_others(db, store):
    db.execute(
        "insert into public.tasks (kind, priority) "
        f"select 'other', 9 from generate_series(1, {KEPT}) union all select 'mine', 0"
    )
    db.execute("analyze public.tasks")
    query = "select idx_tup_fetch + seq_tup_read from pg_stat_user_tables where relname = 'tasks'"
    before = value(db, query)
    assert store.claim(WATCH, None, "w", ["mine", "nobody's"]).kind == "mine"
    assert store.claim(WATCH, None, "w", ["mine", "nobody's"]).verdict == "none"
    store.close()  # a session tells its counters when it ends
    db.execute("select pg_stat_clear_snapshot()")
    assert value(db, query) - before < 50


def test_of_several_kinds_the_most_urgent_task_is_claimed_first(db, store):
    db.execute(
        "insert into public.tasks (kind, priority, scheduled_at) values "
        "('b', 5, now() - interval '3 s'), ('a', 5, now() - interval '2 s'), "
        "('c', 9, now()), ('a', 1, now() - interval '9 s'), ('d', 10, now())"
    )
    answers = [store.claim(WATCH, None, "w", ["a", "b", "c"]) for _ in range(4)]
    assert [answer.kind for answer in answers] == ["c", "b", "a", "a"]


def test_what_a_sweep_has_ended_is_not_read_to_know_what_workers_did(db):
    db.execute(FILL.encode())
    db.execute("update unstuck.attempts set ended_at = now() - interval '1 m', sweep_id = 1")
    db.execute(
        "insert into public.tasks (kind, scheduled_at) values ('image', now() - interval '1 h')"
    )
    db.execute("analyze")
    turns = "select unstuck.tasks_turns(now(), %s, 'pending_for')"
    db.execute(turns, (WATCH.rules_json,))
    db.execute("select pg_stat_force_next_flush()")
    before = value(db, READ)["attempts"]
    db.execute(turns, (WATCH.rules_json,))
    db.execute("select pg_stat_force_next_flush()")
    assert value(db, READ)["attempts"] - before < 10
