"""Supabase alone: the file of `sql --supabase --cron` has all that it takes to end what is stuck,
to tell people of it, and to notice that the sweep itself is silent. pg_cron's tables and pg_net are
stand-ins here; tests/supabase/alone.py waits for the real pg_cron of Debian."""

import json
import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from standardwebhooks import Webhook

from functions.core.answers import Message, ToldEnd
from functions.core.policy import load
from functions.ops.doctor.pg_cron import cron
from functions.ops.postgres.embedded import Postgres
from functions.sweep import notify
from tests.conftest import copied
from tests.docs.pages import ROOT, blocks
from tests.sql import install_clock, pass_time
from tests.supabase import alone, pg_net
from tests.supabase.stack import bootstrap

PAGE = ROOT / "docs" / "how-to" / "supabase.md"
Db = psycopg.Connection[Any]
RULES = json.loads(load().watch().rules_json)
SECRET = "a secret that both know"
CRON = """
create schema cron;
create table cron.job (
  jobid bigserial, jobname text primary key, schedule text, command text, active bool default true
);
create table cron.job_run_details (
  jobid bigint, runid bigserial, status text, return_message text,
  start_time timestamptz, end_time timestamptz
);
create function cron.schedule(text, text, text) returns void language sql as $$
  insert into cron.job (jobname, schedule, command) values ($1, $2, $3)
  on conflict (jobname) do update set schedule = $2, command = $3
$$;
"""
"""In the place of pg_cron, which the embedded server does not have."""


@pytest.fixture(scope="module")
def text() -> str:
    printed = alone.printed("--table", "public.tasks")
    assert "create extension if not exists pg_cron;" in printed
    assert pg_net.EXTENSION in printed
    return printed.replace("create extension if not exists pg_cron;", "")


@pytest.fixture(scope="module")
def database(postgres: Postgres, text: str) -> Iterator[str]:
    with copied(postgres, None) as dsn:
        bootstrap(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in (CRON, pg_net.SQL):
                connection.execute(statement.encode())
            alone.paste(connection, text)
            install_clock(connection)
        yield dsn


@pytest.fixture
def db(database: str) -> Iterator[Db]:
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("tasks", "unstuck.attempts", "unstuck.sweeps", "unstuck.outbox"):
            connection.execute(f"delete from {table}".encode())
        connection.execute("truncate net.http_request_queue, net._http_response restart identity")
        connection.execute("delete from unstuck.addresses")
        connection.execute("update unstuck.watchdog set told_at = null, since = clock_timestamp()")
        yield connection


@pytest.fixture
def receiver(db: Db) -> Iterator[pg_net.Receiver]:
    made = pg_net.Receiver()
    db.execute("select unstuck.notify_to(%s, p_secret => %s)", (made.url, SECRET))
    yield made
    made.close()


def sweep(db: Db) -> None:
    db.execute("call unstuck.cron_sweep()")
    ((ok, error),) = db.execute(
        "select ok, error from unstuck.sweeps order by id desc limit 1"
    ).fetchall()
    assert (ok, error) == (True, None)


def minute(db: Db) -> int:
    """A run of the sweep, and of pg_net after it; how many requests that sent."""
    pass_time(db, 60)
    sweep(db)
    return pg_net.work(db)


def stuck(db: Db) -> str:
    """A task whose worker died long ago."""
    return str(db.execute(f"{alone.OURS} returning id").fetchone()[0])


def bodies(receiver: pg_net.Receiver) -> list[dict[str, Any]]:
    return [json.loads(call.body) for call in receiver.calls]


def test_a_stuck_task_is_ended_and_told_in_one_run_with_a_signature(db, receiver):
    task_id = stuck(db)
    sweep(db)
    assert pg_net.work(db) == 1
    (call,) = receiver.calls
    headers = {name.lower(): value for name, value in call.headers.items()}
    told = Webhook(SECRET.encode()).verify(call.body, headers)
    assert [(task["task_id"], task["state"]) for task in told["tasks"]] == [(task_id, "failed")]
    assert told["text"] == "1 task failed:\n1 x film of tasks: stale"
    assert minute(db) == 0
    assert db.execute("select outcome from unstuck.outbox").fetchall() == [("sent",)]


def test_the_addresses_of_the_how_to_page_are_taken(db):
    [text] = [each.text for each in blocks(PAGE, "sql") if "notify_to" in each.text]
    db.execute(text.encode())
    rows = db.execute("select name from unstuck.addresses order by name").fetchall()
    assert [name for (name,) in rows] == ["callback", "default", "ping", "worker"]


def test_without_an_address_nothing_is_kept_and_nothing_fails(db):
    stuck(db)
    sweep(db)
    assert db.execute("select count(*) from unstuck.outbox").fetchone() == (0,)


def test_a_receiver_that_fails_gets_the_same_message_again_later(db, receiver):
    receiver.status = 503
    stuck(db)
    sweep(db)
    pg_net.work(db)
    sweep(db)  # reads the answer; the pause of 30 s has begun
    assert pg_net.work(db) == 0
    receiver.status = 200
    assert minute(db) == 1
    first, again = receiver.calls
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    minute(db)
    assert db.execute("select outcome, times from unstuck.outbox").fetchall() == [("sent", 2)]


def test_a_request_that_a_crash_lost_comes_again_and_one_that_waits_does_not(db, receiver):
    stuck(db)
    sweep(db)
    pass_time(db, 61)
    sweep(db)
    assert db.execute("select count(*) from net.http_request_queue").fetchone() == (1,)
    db.execute("truncate net.http_request_queue restart identity")  # as a crash does
    sweep(db)
    assert pg_net.work(db) == 0, "until its lease is over it may be on its way"
    assert minute(db) == 1


def test_a_receiver_that_is_gone_is_given_up_after_a_day(db, receiver):
    receiver.status = 410
    stuck(db)
    for _ in range(66):  # one run reads the answer, the next one sends again
        sweep(db)
        pg_net.work(db)
        pass_time(db, 3600)
    assert len(receiver.calls) == 31
    assert db.execute(
        "select outcome, error from unstuck.outbox where state = 'failed'"
    ).fetchall() == [("given up", "the receiver answered 410")]


def test_a_message_and_its_mark_are_written_together(db, database, receiver):
    stuck(db)
    db.execute("select unstuck.tasks_sweep(%s, 10)", (json.dumps(RULES),))
    with psycopg.connect(database) as connection:
        assert connection.execute("select unstuck.net_send()").fetchone() == (1,)
        connection.rollback()
    assert pg_net.work(db) == 0
    assert db.execute("select times, request from unstuck.outbox").fetchall() == [(0, None)]


@pytest.mark.parametrize("seed", range(3))
def test_wherever_the_server_crashes_nothing_is_lost_and_each_crash_repeats_a_message_at_most(
    db, receiver, seed
):
    """A crash empties pg_net's tables and lets it count anew; what was committed stays."""
    fate = random.Random(seed)
    tasks, crashes = set(), 0
    for _ in range(25):
        step = fate.choice(["fail", "sweep", "sweep", "send", "crash", "time"])
        if step == "fail":
            tasks.add(stuck(db))
        elif step == "sweep":
            receiver.status = fate.choice([200, 200, 503])
            sweep(db)
        elif step == "send":
            pg_net.work(db)
        elif step == "crash":
            crashes += 1
            db.execute("truncate net.http_request_queue, net._http_response restart identity")
        else:
            pass_time(db, 61)
    receiver.status = 200
    for _ in range(12):
        minute(db)
        pass_time(db, 3600)
    heard = {task["task_id"] for body in bodies(receiver) for task in body["tasks"]}
    assert heard == tasks
    unsent = "select count(*) from unstuck.outbox where outcome is distinct from 'sent'"
    assert db.execute(unsent).fetchone() == (0,)
    taken = [call.headers["webhook-id"] for call in receiver.calls if call.status == 200]
    assert len(taken) - len(set(taken)) <= crashes


# the words


def ends(fate: random.Random) -> list[ToldEnd]:
    kinds = ["film", "a b", "<!channel>", "`x`", "x\ny", "k" * 120, ""]
    kinds += [f"kind{n}" for n in range(14)] if fate.random() < 0.3 else []
    return [
        ToldEnd(
            "tasks",
            str(number),
            1,
            fate.choice(kinds),
            fate.choice(["stale", "deadline"]),
            fate.choice([None, "It is silent."]),
            "2026-01-01",
            fate.choice(["failed", "failed", "retried", "completed", "cancelled", "notice"]),
        )
        for number in range(fate.randrange(1, 70))
    ]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("address", ["default", "callback"])
def test_the_database_says_what_the_sweep_outside_says(db, seed, address):
    message = Message("id", 1, ends(random.Random(seed)), address)
    tasks = [vars(task) for task in message.tasks]
    question = json.dumps({"message": "id", "address": address, "tasks": tasks})
    said = db.execute("select unstuck.outbox_body(%s)", (question,)).fetchone()[0]
    expected = notify.body(message)
    assert said["text"] == expected["text"].replace("x\\ny", "x?y")
    assert {**said, "text": ""} == {**expected, "text": ""}


@pytest.mark.parametrize("secret", ["plain words", "ü" * 70, "whsec_YSBzZWNyZXQ="])
def test_the_database_signs_as_the_sweep_outside_does(db, secret):
    headers = db.execute("select unstuck.signed(%s, 'id', '{}')", (secret,)).fetchone()[0]
    Webhook(secret if secret.startswith("whsec_") else secret.encode()).verify(b"{}", headers)


# callbacks, wake-ups, the ping


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/done", True),
        ("https://one.backends.example.com:8443", True),
        ("http://api.example.com/", False),
        ("https://api.example.com@evil.example/", False),
        ("https://evilbackends.example.com/", False),
        ("https://evil.example/?https://api.example.com/", False),
    ],
)
def test_a_callback_goes_to_hosts_that_the_owner_allowed(db, url, allowed):
    db.execute(
        "select unstuck.notify_to(null, 'callback', p_hosts => %s)",
        (["api.example.com", "*.backends.example.com"],),
    )
    assert db.execute("select unstuck.may_call(%s)", (url,)).fetchone() == (allowed,)


def test_a_callback_at_another_host_is_given_up_at_once(db, receiver):
    db.execute("select unstuck.notify_to(null, 'callback', p_hosts => '{api.example.com}')")
    db.execute("update tasks set callback_url = 'https://evil.example' where id = %s", (stuck(db),))
    sweep(db)
    state = "select outcome from unstuck.outbox where address = 'callback'"
    assert db.execute(state).fetchall() == [("given up",)]


def test_a_worker_is_woken_up_for_a_task_that_waits_again(db, receiver):
    db.execute("select unstuck.notify_to(%s, 'worker')", (f"{receiver.url}/worker",))
    db.execute("select unstuck.tasks_create('image')")
    (task_id,) = db.execute("select id::text from tasks").fetchone()
    db.execute("select unstuck.tasks_claim(%s, 'w', %s)", (task_id, json.dumps(RULES)))
    for _ in range(4):
        minute(db)
    woken = [json.loads(call.body) for call in receiver.calls if call.path == "/worker"]
    assert {"watch": "tasks", "task_id": task_id} in woken


def test_a_run_that_ended_well_asks_the_service_that_misses_it(db, receiver):
    db.execute("select unstuck.notify_to(%s, 'ping')", (f"{receiver.url}/ping",))
    minute(db)
    assert [call.path for call in receiver.calls] == ["/ping"]


# the sweep that is silent


def by_poll(db: Db) -> None:
    db.execute("select unstuck.tasks_status(%s, %s)", (str(UUID(int=7)), json.dumps(RULES)))


def by_create(db: Db) -> None:
    db.execute("select unstuck.tasks_create('image')")


def by_claim(db: Db) -> None:
    db.execute("alter table tasks disable trigger unstuck_heed")
    db.execute("select unstuck.tasks_create('image')")
    db.execute("alter table tasks enable trigger unstuck_heed")
    db.execute("select unstuck.tasks_claim(null, 'w', %s)", (json.dumps(RULES),))


@pytest.mark.parametrize("noticed", [by_poll, by_create, by_claim])
def test_a_silent_sweep_is_told_by_whoever_notices_it_once_in_each_silence(db, receiver, noticed):
    sweep(db)
    noticed(db)
    assert pg_net.work(db) == 0, "it ran just now"
    pass_time(db, 181)
    for _ in range(3):
        noticed(db)
    assert pg_net.work(db) == 1
    (body,) = bodies(receiver)
    assert body["text"].startswith("The sweep has not run since ")
    assert body["tasks"][0]["reason"] == "sweep_silent"
    minute(db)
    pass_time(db, 181)
    noticed(db)
    assert pg_net.work(db) == 1, "the next silence"


def test_who_notices_is_not_failed_by_it(db, receiver):
    sweep(db)
    pass_time(db, 181)
    db.execute("alter table net.http_request_queue rename to away")
    try:
        by_create(db)
    finally:
        db.execute("alter table net.away rename to http_request_queue")
    assert db.execute("select count(*) from tasks").fetchone() == (1,)


def test_a_user_who_inserts_into_a_table_notices_it_without_any_right_to_our_schema(db, receiver):
    pass_time(db, 300)
    db.execute("grant insert on tasks to authenticated")
    db.execute("alter table tasks disable row level security")
    try:
        db.execute("set role authenticated")
        db.execute("insert into tasks (kind) values ('image')")
    finally:
        db.execute("reset role")
        db.execute("revoke insert on tasks from authenticated")
        db.execute("alter table tasks enable row level security")
    assert pg_net.work(db) == 1


@pytest.mark.parametrize(
    ("run", "level", "says"),
    [
        ("delete from cron.job_run_details", "warns", "has never run"),
        ("update cron.job set active = false", "warns", "switched off"),
        ("update cron.job_run_details set start_time = now() - interval '1 h'", "warns", "1h ago"),
        (
            "update cron.job_run_details set status = 'failed', return_message = 'ERROR: no'",
            "warns",
            "failed: ERROR: no",
        ),
        ("select 1", "fine", "ran"),
    ],
)
def test_the_doctor_reads_what_pg_cron_says_of_its_runs(db, run, level, says):
    with db.transaction(force_rollback=True):
        db.execute(
            "insert into cron.job_run_details (jobid, status, start_time) "
            "select jobid, 'succeeded', now() from cron.job where jobname = 'unstuck-sweep'"
        )
        db.execute(run.encode())
        (finding,) = cron(db, load())
    assert (finding.level, says in finding.fact) == (level, True), finding.fact


def test_the_doctor_says_nothing_of_a_pg_cron_that_is_not_there(empty_database):
    with psycopg.connect(empty_database) as connection:
        assert cron(connection, load()) == []


# a table that was there before


def test_a_table_of_theirs_needs_no_policy_and_no_edit(postgres):
    with copied(postgres, None) as dsn:
        bootstrap(dsn)
        with psycopg.connect(dsn, autocommit=True) as db:
            for statement in (CRON, pg_net.SQL, alone.THEIRS):
                db.execute(statement.encode())
            text = alone.printed("--table", "public.renders", "--dsn", dsn)
            alone.paste(db, text.replace("create extension if not exists pg_cron;", ""))
            alone.paste(db, text.replace("create extension if not exists pg_cron;", ""))
            receiver = pg_net.Receiver()
            db.execute("select unstuck.notify_to(%s)", (receiver.url,))
            sweep(db)
            assert pg_net.work(db) == 1
            receiver.close()
            assert db.execute(
                "select status, count(*) from public.renders group by 1 order by 1"
            ).fetchall() == [("done", 20), ("failed", 1)]
    assert bodies(receiver)[0]["tasks"][0]["watch"] == "renders"
