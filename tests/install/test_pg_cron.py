"""The sweep in SQL alone does what functions/sweep/sweep.py does: both run over the same rows."""

import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from functions.core.policy import Policy, load
from functions.core.record import replace
from functions.install import pg_cron
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from functions.store.postgres import PostgresStore
from functions.sweep.sweep import Counts
from tests.conftest import copied
from tests.sql import install_clock
from tests.sweep.steps import sweep

POLICY = replace(load(), sweep_batch=3)
FILL = """
insert into public.tasks (id, kind, status, scheduled_at, updated_at, metadata)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
  case when n % 3 = 0 then 'selection' else 'image' end,
  case when n % 2 = 0 then 'pending' else 'processing' end, t, t, jsonb_build_object('bad', n = 8)
from generate_series(1, 20) n,
  lateral (select now() - interval '1 hour' - n * interval '1 s' as t) a;
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                              lease_until, deadline_at, beat_at, extended)
select 'tasks', t.id::text, 1, n, t.kind, gen_random_uuid(), now() - interval '1 hour', '30 s',
  now() - interval '50 min', now() - interval '40 min', now() - interval '50 min', true
from (
  select *, row_number() over (order by id)::int as n from public.tasks where status = 'processing'
) t where n <= 5;
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                              lease_until, deadline_at, beat_at)
select 'tasks', gen_random_uuid()::text, 1, 1, 'gone', gen_random_uuid(),
  now() - interval '1 hour', '30 s', now() - interval '50 min', now() - interval '40 min',
  now() - interval '50 min'
from generate_series(1, 2);
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                              lease_until, deadline_at, beat_at, ended_at, outcome)
select 'tasks', gen_random_uuid()::text, 1, 1, 'old', gen_random_uuid(), at, '30 s',
  at, at, at, at, 'completed'
from generate_series(1, 4), lateral (select now() - interval '90 days' as at) c;
alter table public.tasks add constraint nailed
  check (status <> 'failed' or not (metadata ->> 'bad')::boolean)
"""
ROWS = """
select t.id::text, t.status, t.reason, t.error_message,
  a.number, a.tries, a.outcome, a.reason, a.cause, a.error, a.sweep_id
from public.tasks t left join unstuck.attempts a on a.task_id = t.id::text order by 1, a.number
"""
OTHERS = """
select kind, outcome, reason, error, count(*) from unstuck.attempts
where kind in ('gone', 'old') group by 1, 2, 3, 4
"""


@pytest.fixture(scope="module")
def filled(postgres: Postgres, template: str) -> Iterator[str]:
    name = f"cron_{uuid4().hex}"
    create_database(postgres.dsn(), name, template)
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        install_clock(connection)
        connection.execute(FILL.encode())
        connection.execute(pg_cron.procedures(POLICY).encode())
    yield name
    drop_database(postgres.dsn(), name)


def after(dsn: str) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """What became of the rows, and what the run says of itself."""
    with psycopg.connect(dsn) as connection:
        ((ok, counts, error, ended),) = connection.execute(
            "select ok, counts, error, ended_at from unstuck.sweeps"
        ).fetchall()
        assert (ok, error) == (True, None)
        assert ended
        return connection.execute(ROWS).fetchall(), connection.execute(OTHERS).fetchall(), counts


def by_python(dsn: str) -> None:
    store = PostgresStore(dsn)
    sweep(store, POLICY)
    store.close()


def by_cron(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("call unstuck.cron_sweep()")


def test_the_same_rows_come_to_the_same_ends(postgres, filled, capsys):
    ends = []
    for run in (by_python, by_cron):
        with copied(postgres, filled) as dsn:
            run(dsn)
            ends.append(after(dsn))
    (rows, others, counts), (cron_rows, cron_others, cron_counts) = ends
    assert cron_rows == rows
    assert cron_others == others
    assert len([row for row in rows if row[6]]) == 19
    oldest = {"oldest_overdue_seconds", "oldest_pending_seconds"}
    assert {name: cron_counts[name] for name in counts.keys() - oldest} == {
        name: counts[name] for name in counts.keys() - oldest
    }
    assert (counts["unsweepable"], counts["orphaned"], counts["pruned"]) == (1, 2, 4)
    for name in oldest:
        assert cron_counts[name] == pytest.approx(counts[name], abs=60)
        assert counts[name] > 0


STATES = int(os.environ.get("CRON_STATES", "400"))
"""How many random tasks; `CRON_STATES=10000` for the long run."""
RANDOM = """
insert into public.tasks (id, kind, status, scheduled_at, created_at, updated_at, callback_url)
select id::uuid, kind, status, now() - queued * interval '1 s', now() - queued * interval '1 s',
  now() - alive * interval '1 s', callback
from jsonb_to_recordset(%(tasks)s) as t (
  id text, kind text, status text, queued float8, alive float8, callback text
);
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker, started_at, lease,
  lease_until, deadline_at, beat_at, extended, ended_at, outcome, reason, sweep_id, checkpoint)
select 'tasks', task_id, number, tries, kind, gen_random_uuid(), 'w', now() - age * interval '1 s',
  '30 s', now() + lease_left * interval '1 s', now() + deadline_left * interval '1 s',
  now() - beat * interval '1 s', extended, now() - ended * interval '1 s', outcome, reason, sweep,
  checkpoint
from jsonb_to_recordset(%(attempts)s) as a (
  task_id text, number int, tries int, kind text, age float8, lease_left float8,
  deadline_left float8, beat float8, extended bool, ended float8, outcome text, reason text,
  sweep bigint, checkpoint jsonb
);
insert into unstuck.addresses (name, url) values ('default', 'https://x.example')
"""
AGES = (1.0, 60.0, 600.0, 1300.0, 2400.0, 5000.0, 50_000.0, 100_000.0)
"""In seconds: none comes past a time of the rules while the test runs."""
FILED = """
select task_id, number, kind, reason, cause, state, address, url
from unstuck.outbox order by 1, 2, 7
"""


def random_states(fate: random.Random, count: int) -> dict[str, str]:
    """Tasks with attempts, as JSON for RANDOM."""
    tasks, attempts = [], []
    for _ in range(count):
        task_id, kind = str(UUID(int=fate.getrandbits(128), version=4)), fate.choice(KINDS)
        status = fate.choice(["pending", "processing", "processing", "completed", "failed"])
        own = [random_attempt(fate, task_id, kind, n + 1) for n in range(fate.randrange(5))]
        if own and status == "processing" and fate.random() < 0.6:  # it holds the task
            own[-1] |= {"ended": None, "outcome": None, "reason": None, "sweep": None}
        attempts += own
        if fate.random() < 0.97:  # else it was deleted
            callback = fate.choice([None, None, "https://api.example.com/done"])
            times = {"queued": fate.choice(AGES), "alive": fate.choice(AGES)}
            tasks.append(
                {"id": task_id, "kind": kind, "status": status, "callback": callback} | times
            )
    return {"tasks": json.dumps(tasks), "attempts": json.dumps(attempts)}


KINDS = ("image", "selection", "film", "once", "uncertain")


def random_attempt(fate: random.Random, task_id: str, kind: str, number: int) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "number": number,
        "tries": number,
        "kind": kind,
        "age": fate.choice(AGES),
        "lease_left": fate.choice([-5000.0, -600.0, 600.0]),
        "deadline_left": fate.choice([-600.0, 3000.0, 3000.0]),
        "beat": fate.choice(AGES[2:]),
        "extended": fate.random() < 0.8,
        "ended": fate.choice(AGES[2:]),
        "outcome": fate.choice(["retried", "retried", "released", "failed", "completed"]),
        "reason": fate.choice([None, "lease_lost", "deadline"]),
        "sweep": fate.choice([None, 0]),
        "checkpoint": {"step": number} if fate.random() < 0.3 else {},
    }


@pytest.mark.parametrize("seed", range(2))
def test_random_states_come_to_the_same_ends_row_by_row(postgres, template, seed, capsys):
    """The rules of five kinds differ in their attempts and in what follows a loss."""
    star = POLICY.watch().rules["*"]
    rules = POLICY.watch().rules | {
        "once": replace(star, attempts=1),
        "uncertain": replace(star, on_lost="uncertain"),
        "film": replace(star, notify={"failed": True, "retried": True}),
    }
    watch = replace(POLICY.watch(), rules=rules)
    policy = replace(
        POLICY, watches={"tasks": watch}, sweep_batch=500, sweep_budget=300.0, sweep_every=400.0
    )
    ends = []
    states = random_states(random.Random(seed), STATES)
    with copied(postgres, template) as filled_dsn:
        migrate(filled_dsn, policy)
        with psycopg.connect(filled_dsn, autocommit=True) as connection:
            install_clock(connection)
            psycopg.ClientCursor(connection).execute(RANDOM, states)
            connection.execute(pg_cron.procedures(policy).encode())
        name = filled_dsn.rpartition("/")[2]
        for run in (lambda dsn: run_python(dsn, policy), by_cron):
            with copied(postgres, name) as dsn:
                run(dsn)
                with psycopg.connect(dsn) as connection:
                    ends.append(
                        (
                            connection.execute(ROWS).fetchall(),
                            connection.execute(FILED).fetchall(),
                            connection.execute("select ok, error from unstuck.sweeps").fetchall(),
                        )
                    )
    (rows, filed, run), (cron_rows, cron_filed, cron_run) = ends
    assert run == cron_run == [(True, None)]
    assert [pair for pair in zip(rows, cron_rows, strict=True) if pair[0] != pair[1]] == []
    assert filed == cron_filed
    changed = {row[7] for row in rows if row[10]}
    assert {"never_claimed", "stale", "lease_lost", "deadline"} <= changed, "each is drawn"


def run_python(dsn: str, policy: Policy) -> None:
    store = PostgresStore(dsn)
    sweep(store, policy)
    store.close()


def test_a_run_beside_another_does_nothing_and_a_broken_watch_is_said(postgres, filled):
    with copied(postgres, filled) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select unstuck.sweep_begin('k', 'another', 60)")
        connection.execute("call unstuck.cron_sweep()")
        assert connection.execute("select count(*) from unstuck.sweeps").fetchone() == (1,)
        connection.execute("update unstuck.sweeps set ended_at = now()")
        connection.execute(
            "alter function unstuck.tasks_sweep(jsonb, int, bigint, text, text[]) rename to gone"
        )
        connection.execute("call unstuck.cron_sweep()")
        run = "select ok, error, counts ->> 'pruned' from unstuck.sweeps where by = 'pg_cron'"
        ((ok, error, pruned),) = connection.execute(run).fetchall()
        assert (ok, pruned) == (False, "4")
        assert error.startswith("tasks: function unstuck.tasks_sweep")


def test_it_counts_as_the_other_does():
    assert {*pg_cron.COUNTS, "complete"} == Counts().answer().keys()


@pytest.mark.parametrize(
    ("every", "expression"),
    [
        (30, "30 seconds"),
        (60, "* * * * *"),
        (300, "*/5 * * * *"),
        (420, "*/6 * * * *"),
        (3600, "0 * * * *"),
        (7200, "0 */2 * * *"),
    ],
)
def test_its_schedule_is_the_policys(every, expression):
    assert f"'{expression}', 'call unstuck.cron_sweep()'" in pg_cron.schedule(
        replace(POLICY, sweep_every=every)
    )


CRON = """
create schema cron;
create table cron.job (jobid bigint generated always as identity, jobname text, command text);
create table cron.job_run_details (jobid bigint, start_time timestamptz, end_time timestamptz);
create function cron.schedule(text, text, text) returns void language sql as
$$ insert into cron.job (jobname, command) values ($1, $3) $$;
insert into cron.job (jobname) values ('another');
"""
RUNS = """
insert into cron.job_run_details (jobid, start_time, end_time)
select jobid, at, case n when 1 then null else at end
from cron.job, generate_series(1, 10) n, lateral (select now() - n * interval '1 day' as at) a
"""


def test_its_schedule_deletes_the_history_of_its_own_runs(database):
    """On a stand-in for pg_cron: its tables, and a function that keeps the commands."""
    text = pg_cron.schedule(POLICY).replace("create extension if not exists pg_cron;", "")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CRON)
        connection.execute(text.encode())
        connection.execute(RUNS)
        query = "select command from cron.job where jobname = 'unstuck-history'"
        ((command,),) = connection.execute(query).fetchall()
        connection.execute(command.encode())
        left = """select jobname, count(*) from cron.job_run_details join cron.job using (jobid)
                  group by 1 order by 1"""
        assert connection.execute(left).fetchall() == [
            ("another", 10),
            ("unstuck-history", 6),
            ("unstuck-sweep", 6),
        ]


def test_the_rules_stand_in_the_text():
    text = pg_cron.procedures(POLICY).replace("''", "'")
    assert json.dumps({"pending_for": 900})[1:-1] in text


def test_the_name_of_a_rule_cannot_end_the_body_of_a_procedure(empty_database):
    """Nor is the rule changed by it."""
    names = ["x$$; create table public.pwned(); --", "$unstuck$", "a'b", "\\u0024"]
    watch = POLICY.watch()
    rules = watch.rules | {name: replace(watch.rules["*"], attempts=7) for name in names}
    policy = replace(POLICY, watches={"tasks": replace(watch, rules=rules)})
    migrate(empty_database, POLICY)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(pg_cron.procedures(policy).encode())
        query = "select to_regclass('public.pwned')"
        assert connection.execute(query).fetchone() == (None,)
        (source,) = connection.execute(
            "select prosrc from pg_proc where proname = 'tasks_cron'"
        ).fetchone()
        (rules_text,) = re.findall(r"v_rules constant jsonb := *(E?'.*');", source)
        (stored,) = connection.execute(f"select {rules_text}::jsonb").fetchone()
    assert set(names) <= set(stored)


HELD = """
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                              lease_until, deadline_at, beat_at)
select 'tasks', t.id::text, 1, 1, t.kind, gen_random_uuid(), now() - interval '1 hour', %s,
  now() + %s::interval, now() + interval '2 hours', now() + %s::interval
from public.tasks t where t.status = 'processing'
"""
RUN = """
insert into unstuck.sweeps (started_at, ended_at, until, ok)
select t, t + interval '1 s', t + interval '45 s', true
from (select clock_timestamp() + %s::interval as t) r
"""
OPEN = "select lease_until <= now() + lease as soon from unstuck.attempts where ended_at is null"


@pytest.fixture
def cron(empty_database: str) -> Iterator[psycopg.Connection[Any]]:
    migrate(empty_database, POLICY)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(pg_cron.procedures(POLICY).encode())
        connection.execute(
            "insert into public.tasks (kind, status) select 'image', 'processing'"
            " from generate_series(1, 3)"
        )
        yield connection


def last_counts(cron: psycopg.Connection[Any]) -> dict[str, Any]:
    cron.execute("call unstuck.cron_sweep()")
    row = cron.execute("select counts from unstuck.sweeps order by id desc limit 1").fetchone()
    assert row
    return dict(row[0])


def test_a_run_in_sql_ends_nothing_when_nobody_was_heard_or_the_clock_was_set_forward(cron):
    for minutes in (66, 65, 64, 63, 62, 61):
        cron.execute(RUN, (f"-{minutes} minutes",))
    cron.execute(HELD, ("50 s", "-60 minutes", "-61 minutes"))
    counts = last_counts(cron)
    assert (counts["suspended"], counts["requeued"], counts["failed"]) == (3, 0, 0)
    assert cron.execute(OPEN).fetchall() == [(True,)] * 3
    cron.execute("update unstuck.attempts set lease_until = now(), lease = '0.1 s'")
    assert last_counts(cron)["requeued"] == 3, "a lease later the dead are rescued"


def test_a_run_in_sql_finds_a_clock_that_was_set_back(cron):
    for minutes in (58, 59, 60):
        cron.execute(RUN, (f"{minutes} minutes",))
    cron.execute(HELD, ("50 s", "60 minutes", "60 minutes"))
    assert last_counts(cron)["suspended"] == 3
    assert cron.execute(OPEN).fetchall() == [(True,)] * 3, "a dead worker is rescued soon"
    assert last_counts(cron)["suspended"] == 0, "once"


def test_a_run_in_sql_stays_for_the_end_of_the_one_more_lease(cron):
    cron.execute(
        "insert into public.tasks (kind, status) select 'image', 'processing'"
        " from generate_series(1, 9)"
    )
    cron.execute(HELD, ("0.5 s", "-10 s", "-10.5 s"))
    counts = last_counts(cron)
    assert (counts["suspended"], counts["requeued"]) == (12, 12)
