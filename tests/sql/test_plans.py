"""The plans behind the promise of speed: what is often asked reads an index, however many tasks
have finished, and what is often written touches none."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import load
from functions.core.record import replace
from functions.install.migrate import migrate, steps

Db = psycopg.Connection[dict[str, Any]]
WATCH = load().watch()
FINISHED = 20_000
OPEN = 20
HELD = 10
BEATS = 1_000

FILL = f"""
insert into public.tasks (kind, owner, status, scheduled_at, created_at, updated_at, finished_at)
select 'image', 'user-' || n % 1000,
  case n % 10 when 0 then 'failed' else 'completed' end, at, at, at, at
from generate_series(1, {FINISHED}) n, lateral (select now() - n * interval '1 minute' as at) c;
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                              lease_until, deadline_at, beat_at, ended_at, outcome)
select 'tasks', id::text, 1, 1, kind, gen_random_uuid(), at, '30 s', at, at, at, at, status
from public.tasks, lateral (select created_at as at) c
order by id;  -- at random: not in the order of their time
insert into public.tasks (kind) select 'image' from generate_series(1, {OPEN});
"""
READ = """
select s.relname as table, s.seq_scan, s.seq_tup_read, coalesce(s.idx_tup_fetch, 0) as idx_tup_fetch
from pg_stat_user_tables s where s.relname in ('tasks', 'attempts')
"""


@pytest.fixture(scope="module")
def filled(postgres, template) -> Iterator[str]:
    from tests.conftest import copied

    with copied(postgres, template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter table public.tasks set (autovacuum_enabled = off)")
        connection.execute("alter table unstuck.attempts set (autovacuum_enabled = off)")
        connection.execute(FILL)
        for _ in range(HELD):
            connection.execute("select unstuck.tasks_claim(null, 'w', %s)", (WATCH.rules_json,))
        connection.execute("vacuum analyze public.tasks")
        connection.execute("vacuum analyze unstuck.attempts")
        yield dsn


@pytest.fixture
def db(filled: str) -> Iterator[Db]:
    with psycopg.connect(filled, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def counted(db: Db, work: Callable[[], None]) -> dict[str, dict[str, int]]:
    """What `work` adds to the counters of each table. `work` must not use another session."""

    def look() -> dict[str, dict[str, int]]:
        db.execute("select pg_stat_force_next_flush()")
        rows = db.execute(READ).fetchall()
        return {row.pop("table"): row for row in rows}

    before = look()
    work()
    after = look()
    return {
        table: {name: after[table][name] - before[table][name] for name in after[table]}
        for table in after
    }


def repeatedly(db: Db, query: str, *arguments: Any) -> Callable[[], None]:
    """Twelve times, since after five plpgsql may choose a generic plan; and taken back, which the
    counters are not."""

    def run() -> None:
        for _ in range(12):
            with db.transaction(force_rollback=True):
                db.execute(query, arguments)

    return run


def test_the_counters_see_what_is_read(db):
    scan = counted(db, repeatedly(db, "select count(*) from public.tasks where input is not null"))
    assert (scan["tasks"]["seq_scan"], scan["tasks"]["seq_tup_read"]) == (
        12,
        12 * (FINISHED + OPEN),
    )
    fetch = counted(
        db, repeatedly(db, "select count(kind) from public.tasks where status = 'processing'")
    )
    assert (fetch["tasks"]["seq_scan"], fetch["tasks"]["idx_tup_fetch"]) == (0, 12 * HELD)


def test_an_idle_sweep_reads_the_open_tasks_only(db):
    read = counted(db, repeatedly(db, "select unstuck.tasks_sweep(%s)", WATCH.rules_json))
    assert read["tasks"]["seq_scan"] == read["attempts"]["seq_scan"] == 0
    assert read["tasks"]["idx_tup_fetch"] <= 12 * 30
    assert read["attempts"]["idx_tup_fetch"] <= 12 * 30


def test_no_function_that_forbids_a_scan_lets_its_plans_be_compiled(db):
    """Up to PostgreSQL 17 a plan that cannot do without one costs 10,000,000,000 more, and is
    compiled each time it runs: a batch of 500 took 105 to 434 ms of CPU, and 23 to 32 without."""
    assert not db.execute("""
        select p.oid::regprocedure::text
        from pg_proc p
        where p.pronamespace = 'unstuck'::regnamespace
          and 'enable_seqscan=off' = any (p.proconfig)
          and not 'jit=off' = any (p.proconfig)""").fetchall()


def test_a_search_by_filter_is_not_compiled(db):
    """In a table that was adopted its expressions look so dear that, up to PostgreSQL 17, a call
    took 1.2 to 2.9 s of CPU with 100,000 tasks, and 14 to 298 ms without."""
    assert db.execute("""
        select 'jit=off' = any (p.proconfig) as is_plain
        from pg_proc p
        where p.oid::regproc::text = 'unstuck.tasks_find'""").fetchall() == [{"is_plain": True}]


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("select unstuck.tasks_redispatch(%s)", [WATCH.rules_json]),
        ("select unstuck.tasks_orphans(1)", []),
        ("select unstuck.suspend('tasks', 10, 0.5)", []),
        ("select unstuck.tasks_claim(null, 'w', %s)", [WATCH.rules_json]),
        (
            "select unstuck.tasks_claim(null, 'w', %s, gen_random_uuid(), true, '{none}')",
            [WATCH.rules_json],
        ),
        ("select unstuck.tasks_overview(%s)", [WATCH.rules_json]),
        ("select unstuck.prune(%s, 100)", [365 * 86_400.0]),
    ],
    ids=["redispatch", "orphans", "suspend", "claim the next", "claim again", "overview", "prune"],
)
def test_what_runs_often_scans_no_table(db, query, arguments):
    read = counted(db, repeatedly(db, query, *arguments))
    assert read["tasks"]["seq_scan"] == read["attempts"]["seq_scan"] == 0
    assert read["tasks"]["idx_tup_fetch"] <= 12 * 60


def test_of_a_mass_of_leases_that_ran_out_none_is_looked_for_in_what_has_ended(db):
    """Each batch read all of the ledger: 29 ms of 84 with 100,000 ended attempts."""
    scans = (
        "select seq_scan from pg_stat_xact_user_tables where relid = 'unstuck.attempts'::regclass"
    )
    with db.transaction(force_rollback=True):
        db.execute("""
            insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at,
                                          lease, lease_until, deadline_at, beat_at)
            select 'tasks', gen_random_uuid(), 1, 1, 'image', gen_random_uuid(), now(), '30 s',
              now() - interval '1 s', now() + interval '1 h', now()
            from generate_series(1, 3000)""")
        db.execute("analyze unstuck.attempts")
        before = db.execute(scans).fetchone()
        for query in ("bridge('tasks', null)", "unsure('tasks')", "tasks_sweep(%s)"):
            arguments = (WATCH.rules_json,) if "%s" in query else ()
            db.execute(f"select unstuck.{query}", arguments)
        assert db.execute(scans).fetchone() == before
    db.execute("analyze unstuck.attempts")


def test_retention_reads_what_it_takes_whatever_is_kept(db):
    day = 86_400.0
    rule = replace(WATCH.rule("*"), retention_result=day, retention_failed=365 * day)
    watch = replace(WATCH, rules={"*": rule})
    policy = replace(load(), watches={watch.name: watch})
    (indexes,) = (step for step in steps(policy) if step.name == "0022_retention.tasks")
    with db.transaction(force_rollback=True):
        db.execute(indexes.in_transaction.encode())
        question = "explain (analyze, buffers, costs off) select unstuck.tasks_retain(%s)"
        for _ in range(2):
            plan = db.execute(question, (watch.rules_json,)).fetchall()
    pages = next(line for row in plan if "Buffers:" in (line := row["QUERY PLAN"]))
    assert int(re.findall(r"hit=(\d+)", pages)[0]) < 100, "20,000 rows are 500 pages"


def test_retention_does_not_read_again_what_went_since_the_last_vacuum(empty_database):
    rule = replace(WATCH.rule("*"), retention_completed=86_400.0)
    watch = replace(WATCH, rules={"*": rule})
    migrate(empty_database, replace(load(), watches={watch.name: watch}))
    with psycopg.connect(empty_database, autocommit=True, row_factory=dict_row) as db:
        db.execute("set synchronous_commit = on")  # what is not on the disk is not marked as gone
        db.execute("alter table public.tasks set (autovacuum_enabled = off)")
        db.execute("""
            insert into public.tasks (kind, status, finished_at)
            select 'image', 'completed', now() - interval '2 days' - n * 7919 % 5000 * interval '1s'
            from generate_series(1, 5000) n""")
        db.execute("analyze public.tasks")
        for _ in range(10):
            db.execute("select unstuck.tasks_retain(%s)", (watch.rules_json,))
        assert db.execute("select count(*) from public.tasks").fetchone() == {"count": 0}
        question = "explain (analyze, buffers, costs off) select unstuck.tasks_retain(%s)"
        for _ in range(2):  # the first one marks what is gone
            plan = db.execute(question, (watch.rules_json,)).fetchall()
    pages = next(line for row in plan if "Buffers:" in (line := row["QUERY PLAN"]))
    assert int(re.findall(r"hit=(\d+)", pages)[0]) < 1000, "each of 5,000 would be looked at"


def test_the_retention_of_the_ledger_reads_what_it_takes_however_much_is_old(db):
    question = "explain (analyze, buffers, costs off) select unstuck.prune(86400, 10)"
    with db.transaction(force_rollback=True):
        for _ in range(2):
            plan = db.execute(question).fetchall()
    pages = next(line for row in plan if "Buffers:" in (line := row["QUERY PLAN"]))
    assert int(re.findall(r"hit=(\d+)", pages)[0]) < 150, "what is old is more than 400 pages"


def test_the_verbs_of_one_task_read_that_task_only(db):
    task_id = db.execute(
        "select id::text from public.tasks where status = 'completed' limit 1"
    ).fetchone()["id"]
    running = db.execute(
        "select task_id, token from unstuck.attempts where ended_at is null limit 1"
    ).fetchone()

    def work() -> None:
        for _ in range(12):
            db.execute("select unstuck.tasks_status(%s, %s)", (task_id, WATCH.rules_json))
            db.execute(
                "select unstuck.tasks_status(%s, %s)", (running["task_id"], WATCH.rules_json)
            )
            db.execute("select unstuck.tasks_claim(%s, 'w', %s)", (task_id, WATCH.rules_json))
            db.execute(
                "select unstuck.tasks_claim(%s, 'w', %s)", (running["task_id"], WATCH.rules_json)
            )
            db.execute(
                "select unstuck.beat('tasks', %s, %s)", (running["task_id"], running["token"])
            )

    read = counted(db, work)
    assert read["tasks"]["seq_scan"] == read["attempts"]["seq_scan"] == 0
    assert read["tasks"]["idx_tup_fetch"] <= 12 * 10
    assert read["attempts"]["idx_tup_fetch"] <= 12 * 40  # a look at the live ones for each claim


def test_the_same_key_is_found_by_an_index(db):
    create = "select unstuck.tasks_create('image', '{}', 'ann', 'k1')"
    read = counted(db, repeatedly(db, create))
    assert read["tasks"]["seq_scan"] == 0


@pytest.mark.parametrize("kind", ["image", "alone"])
def test_the_rules_for_a_user_are_asked_of_an_index(db, kind):
    """Whatever the user has done before: the tables hold 20 of theirs, and 20,000 of others."""
    rules = json.dumps({"*": json.loads(WATCH.rules_json)["*"], "alone": {"one_active": True}})
    create = "select unstuck.tasks_create(%s, '{}', 'user-7', p_rules => %s, p_per_minute => 5)"
    read = counted(db, repeatedly(db, create, kind, rules))
    assert read["tasks"]["seq_scan"] == 0
    assert read["tasks"]["idx_tup_fetch"] <= 12 * 15, "five, and ten for its turn"


def test_a_beat_touches_no_index(db):
    live = db.execute(
        "select task_id, token from unstuck.attempts where ended_at is null"
    ).fetchall()
    updates = """select n_tup_upd as all, n_tup_hot_upd as hot
                 from pg_stat_user_tables where relname = 'attempts'"""
    size = """select pg_relation_size('unstuck.attempts_live') as live,
                     pg_indexes_size('unstuck.attempts') as all"""
    before, size_before = db.execute(updates).fetchone(), db.execute(size).fetchone()
    for n in range(BEATS):
        attempt = live[n % len(live)]
        progress = json.dumps({"fraction": n / BEATS, "message": f"step {n}"})
        query = "select unstuck.beat('tasks', %s, %s, %s)"
        assert db.execute(query, (attempt["task_id"], attempt["token"], progress)).fetchone() == {
            "beat": {"verdict": "held"}
        }
    db.execute("select pg_stat_force_next_flush()")
    after = db.execute(updates).fetchone()
    assert after["all"] - before["all"] == after["hot"] - before["hot"] == BEATS
    assert db.execute(size).fetchone() == size_before


def test_each_question_of_a_sweep_has_its_index(db):
    """So that a plan that only today's statistics favour does not hide a missing one."""
    partial = """select indexdef from pg_indexes
                 where schemaname = 'public' and tablename = 'tasks' and indexdef ~ 'WHERE'"""
    rows = db.execute(partial).fetchall()
    assert sorted(row["indexdef"].partition(" USING ")[2] for row in rows) == [
        "btree (COALESCE(owner, ''::text), idempotency_key) WHERE (idempotency_key IS NOT NULL)",
        (
            "btree (kind, COALESCE(owner, ''::text)) WHERE (one_active AND "
            "(status = ANY (ARRAY['pending'::text, 'processing'::text])))"
        ),
        (
            "btree (kind, COALESCE(owner, ''::text), priority DESC, COALESCE(turn, scheduled_at), "
            "scheduled_at) "
            "WHERE (status = 'pending'::text)"
        ),
        (
            "btree (kind, priority DESC, COALESCE(turn, scheduled_at), scheduled_at) "
            "WHERE (status = 'pending'::text)"
        ),
        "btree (owner, created_at) WHERE (owner IS NOT NULL)",
        (
            "btree (priority DESC, COALESCE(turn, scheduled_at), scheduled_at) "
            "WHERE (status = 'pending'::text)"
        ),
        "btree (scheduled_at) WHERE (status = 'pending'::text)",
        "btree (updated_at) WHERE (status = 'processing'::text)",
    ]
