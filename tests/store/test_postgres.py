"""What is special to the store by psycopg: its time limits, and which connection serves whom."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.answers import Claimed
from functions.core.policy import Watch
from functions.errors import StoreError
from functions.store.postgres import PostgresStore
from tests.waiting import eventually

Db = psycopg.Connection[dict[str, Any]]
ROOT = Path(__file__).parents[2]
GRACE = 1.0  # seconds over a limit that a busy machine may take

OVER_A_FORK = """
import os, sys
from functions.core.policy import load
from functions.store.postgres import PostgresStore
store, watch = PostgresStore(sys.argv[1]), load().watch()
asked = "00000000-0000-0000-0000-000000000000"

def backend():
    assert store.status(watch, asked) is None
    (idle,) = store._idle
    return idle.pgconn.backend_pid

before = backend()
if not (child := os.fork()):
    print(backend(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(before, backend())
store.close()
"""


@pytest.fixture
def alone(database: str) -> Iterator[PostgresStore]:
    """A store of a database that belongs to the test alone."""
    made = PostgresStore(database)
    yield made
    made.close()


@pytest.fixture
def store(conformance: str, db: Db) -> Iterator[PostgresStore]:
    made = PostgresStore(conformance)
    yield made
    made.close()
    eventually(lambda: not backends(db), message="the connections of the store were not closed")


@pytest.fixture
def attempt(store: PostgresStore, tasks: Watch) -> dict[str, Any]:
    return store.claim(tasks, store.create(tasks, "image", {}).task_id, "w")


def backends(db: Db) -> list[int]:
    """The server's processes that work for stores of this test's database."""
    query = (
        "select pid from pg_stat_activity where application_name = 'unstuck' "
        "and datname = current_database()"
    )
    found = db.execute(query).fetchall()
    return [one["pid"] for one in found]


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert least <= time.monotonic() - begun <= most


@contextmanager
def locked(dsn: str) -> Iterator[None]:
    """Another session holds all tasks and attempts."""
    with psycopg.connect(dsn, row_factory=dict_row) as other:
        other.execute("select from public.tasks for update")
        other.execute("select from unstuck.attempts for update")
        yield


def beat(store: PostgresStore, watch: Watch, attempt: Claimed, timeout: float = 8.0) -> str:
    return store.beat(watch, attempt.task_id, attempt.token, timeout=timeout).verdict


def test_a_call_ends_at_its_limit_while_another_session_holds_the_row(
    conformance, store, tasks, attempt
):
    with locked(conformance):
        with takes(0.4, 0.5 + GRACE), pytest.raises(StoreError) as refused:
            beat(store, tasks, attempt, timeout=0.5)
        assert (refused.value.code, refused.value.retryable) == ("55P03", True)
    assert beat(store, tasks, attempt) == "held"


def test_a_call_that_was_given_up_does_no_harm_when_it_is_done_after_all(
    conformance, store, db, tasks, attempt
):
    with locked(conformance), pytest.raises(StoreError):
        store.settle(
            tasks, attempt.task_id, attempt.token, "complete", result={"n": 1}, timeout=0.2
        )
    again = store.settle(tasks, attempt.task_id, attempt.token, "complete", result={"n": 1})
    assert (again.verdict, again.state) == ("settled", "completed")
    assert db.execute("select count(*) from unstuck.refusals").fetchone() == {"count": 0}


def test_a_claim_that_was_given_up_is_found_when_it_is_asked_for_again(conformance, store, tasks):
    task_id = store.create(tasks, "image", {}).task_id
    wanted = {
        "p_task": task_id,
        "p_worker": "w",
        "p_rules": tasks.rules_json,
        "p_token": str(uuid4()),
    }
    answers = []
    again = Thread(
        target=lambda: answers.append(store.call("tasks_claim", wanted | {"p_again": True}, 8.0))
    )
    with locked(conformance), psycopg.connect(conformance) as watcher:
        with pytest.raises(StoreError):
            store.call("tasks_claim", dict(wanted), 0.2)
        again.start()
        waiting = "select count(*) from pg_locks where not granted"
        eventually(lambda: watcher.execute(waiting).fetchone() == (1,), message="the first waits")
    again.join()
    assert (answers[0]["verdict"], answers[0]["token"]) == ("claimed", wanted["p_token"])


def test_a_call_ends_at_its_limit_while_its_backend_is_frozen(store, db, tasks, attempt):
    (frozen,) = backends(db)
    os.kill(frozen, signal.SIGSTOP)
    try:
        with takes(0.5, 0.5 + GRACE), pytest.raises(StoreError) as refused:
            beat(store, tasks, attempt, timeout=0.5)
        assert refused.value.retryable
        assert beat(store, tasks, attempt) == "held"
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_a_call_ends_at_its_limit_while_nobody_answers_at_the_address(tasks, attempt):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = PostgresStore(f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/none")
        with takes(2.0, 2.0 + GRACE), pytest.raises(StoreError) as refused:
            beat(store, tasks, attempt, timeout=2.0)
        assert refused.value.retryable


def test_a_verb_is_repeated_within_its_limit_while_the_error_is_a_passing_one(
    conformance, db, tasks, attempt
):
    name = db.info.dbname
    db.execute(f"alter database {name} set lock_timeout = '50ms'")
    store = PostgresStore(conformance)
    try:
        with locked(conformance), takes(0.4, 1.0 + GRACE), pytest.raises(StoreError) as refused:
            beat(store, tasks, attempt, timeout=1.0)
        assert (refused.value.retryable, refused.value.code) == (True, "55P03")
        assert beat(store, tasks, attempt) == "held"
    finally:
        db.execute(f"alter database {name} reset lock_timeout")
        store.close()


def test_a_verb_does_not_notice_that_its_connection_was_terminated(store, db, tasks, attempt):
    (old,) = backends(db)
    terminate(db)
    assert beat(store, tasks, attempt) == "held"
    assert backends(db) != [old]


def test_after_a_restart_of_the_server_the_first_call_does_not_try_each_dead_connection(
    conformance, store, db, tasks, attempt
):
    busy(conformance, store, db, tasks, 8)
    terminate(db)
    with takes(0, 0.5 + GRACE):
        assert beat(store, tasks, attempt) == "held"
    assert len(backends(db)) == 1


def test_one_caller_after_another_shares_one_connection(store, db, tasks, attempt):
    for _ in range(20):
        beat(store, tasks, attempt)
        with pytest.raises(StoreError):
            store.status(tasks, "no id")
    assert len(backends(db)) == 1


def test_there_are_never_more_connections_than_callers_at_once(conformance, store, db, tasks):
    for _ in range(3):
        busy(conformance, store, db, tasks, 4)
    assert len(backends(db)) == 4


def test_a_connection_is_never_shared_over_a_fork(database):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", OVER_A_FORK, database],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    child, before, after = done.stdout.split()
    assert before == after != child


def terminate(db: Db) -> None:
    db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'unstuck'"
    )
    eventually(lambda: not backends(db))


def busy(dsn: str, store: PostgresStore, db: Db, watch: Watch, callers: int) -> None:
    """That many calls at once: each waits for rows that another session holds until all of them
    do."""
    task_id = store.create(watch, "image", {}).task_id
    together = Barrier(callers + 1)
    waiting = (
        "select count(*) from pg_stat_activity where application_name = 'unstuck' "
        "and wait_event_type = 'Lock'"
    )

    def call() -> None:
        together.wait()
        store.claim(watch, task_id, "w")

    threads = [Thread(target=call) for _ in range(callers)]
    with locked(dsn):
        for thread in threads:
            thread.start()
        together.wait()
        eventually(lambda: db.execute(waiting).fetchone() == {"count": callers})
    for thread in threads:
        thread.join()


def test_a_claim_waits_for_a_lock_no_longer_than_its_caller_and_burns_no_try(
    alone, database, tasks
):
    """Else it would come through when nobody listens, and the try would be lost."""
    task_id = alone.create(tasks, "image", {}).task_id
    wanted = {
        "p_task": task_id,
        "p_worker": "w",
        "p_rules": tasks.rules_json,
        "p_token": str(uuid4()),
    }
    with psycopg.connect(database) as somebody, psycopg.connect(database, autocommit=True) as db:
        somebody.execute("select from public.tasks where id = %s for update", (task_id,))
        with pytest.raises(StoreError) as error:
            alone._verb("tasks_claim", 3.0, again="p_again", **wanted)
        assert (error.value.code, error.value.retryable) == ("55P03", True)
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and wait_event_type = 'Lock'"
        )
        assert db.execute(waiting).fetchone() == (0,), "nobody waits any more"
        somebody.rollback()
        assert db.execute("select count(*) from unstuck.attempts").fetchone() == (0,)
    claimed = alone.claim(tasks, task_id, "w")
    assert (claimed.verdict, claimed.number, claimed.tries) == ("claimed", 1, 1)


def test_a_repeated_claim_waits_for_its_first_call_and_takes_no_second_task(alone, database, tasks):
    """Its answer was given up, not its work: the next task is another one by then, with the same
    token."""
    for _ in range(2):
        alone.create(tasks, "image", {})
    wanted = (tasks.rules_json, uuid4())
    with psycopg.connect(database) as first, psycopg.connect(database, autocommit=True) as db:
        query = "select unstuck.tasks_claim(null, 'w', %s, %s)"
        (taken,) = first.execute(query, wanted).fetchone()
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(
                lambda: db.execute(query.replace("%s)", "%s, true)"), wanted).fetchone()[0]
            )
            waiting = (
                "select from pg_stat_activity where datname = current_database() "
                "and wait_event = 'advisory'"
            )
            with psycopg.connect(database, autocommit=True) as looking:
                eventually(lambda: looking.execute(waiting).fetchone() is not None)
            first.commit()
            assert again.result(10) == taken
        assert db.execute("select count(*) from unstuck.attempts").fetchone() == (1,)


@pytest.mark.parametrize(
    ("kind", "before", "waits"),
    [
        ("image", "select 1", "off"),
        ("uncertain", "select 1", "on"),
        ("fails", "select 1", "on"),
        ("image", "insert into public.tasks (kind) values ('yours')", "on"),
    ],
    ids=[
        "may be repeated",
        "must not be repeated",
        "is not repeated",
        "something else was written",
    ],
)
def test_only_a_claim_that_may_be_lost_does_not_wait_for_the_disk(
    alone, database, tasks, kind, before, waits
):
    """A crash of the database may forget it. That is one more run, which `on_lost: retry` allows
    and the others do not."""
    task_id = alone.create(tasks, kind, {}).task_id
    with psycopg.connect(database, options="-c synchronous_commit=on") as db:
        db.execute(before)
        claimed = db.execute(
            "select unstuck.tasks_claim(%s, 'w', %s)", (task_id, tasks.rules_json)
        ).fetchone()[0]
        assert (claimed["verdict"], db.execute("show synchronous_commit").fetchone()) == (
            "claimed",
            (waits,),
        )
        db.commit()
        assert db.execute("show synchronous_commit").fetchone() == ("on",), "only this transaction"


def test_a_claim_that_rescues_the_attempt_before_waits_for_the_disk(alone, database, tasks):
    """The rescue is told of: it must not be forgotten."""
    task_id = alone.create(tasks, "image", {}).task_id
    alone.claim(tasks, task_id, "dead")
    with psycopg.connect(database, options="-c synchronous_commit=on") as db:
        db.execute("update unstuck.attempts set lease_until = started_at, lease = '0'")
        db.commit()
        claimed = db.execute(
            "select unstuck.tasks_claim(%s, 'w', %s)", (task_id, tasks.rules_json)
        ).fetchone()[0]
        assert (claimed["verdict"], claimed["rescued"][0]["reason"]) == ("claimed", "lease_lost")
        assert db.execute("show synchronous_commit").fetchone() == ("on",)


def test_the_holder_of_a_claim_that_a_crash_forgot_can_end_nothing(alone, database, tasks):
    """What the crash leaves is what a rollback leaves: the token is known to nobody."""
    task_id = alone.create(tasks, "image", {}).task_id
    with psycopg.connect(database) as db:
        query = "select unstuck.tasks_claim(%s, 'forgotten', %s)"
        forgotten = db.execute(query, (task_id, tasks.rules_json)).fetchone()[0]["token"]
        db.rollback()
    token = alone.claim(tasks, task_id, "w").token
    assert alone.beat(tasks, task_id, forgotten).verdict == "lost"
    assert alone.settle(tasks, task_id, forgotten, "complete").verdict == "lost"
    assert alone.settle(tasks, task_id, token, "complete").verdict == "settled"


@pytest.mark.parametrize("by", ["settle", "sweep"])
def test_what_a_trigger_writes_while_we_write_is_not_let_through_by_the_fence(
    alone, database, tasks, by
):
    """Settle and sweep pass the fence by themselves, and nobody with them."""
    held, mine = (alone.create(tasks, "fails", {}).task_id for _ in range(2))
    token = alone.claim(tasks, mine, "w").token
    alone.claim(tasks, held, "w")
    with psycopg.connect(database, autocommit=True) as db:
        db.execute(f"""
            create function public.meddle() returns trigger language plpgsql as $$ begin
              update public.tasks set status = 'completed' where id = '{held}';
              return null;
            end $$;
            create trigger meddle after update on public.tasks for each row
            when (new.id = '{mine}' and new.finished_at is not null) execute function
              public.meddle()""")
        if by == "sweep":
            db.execute(
                "update unstuck.attempts set lease_until = started_at, lease = '0' "
                "where task_id = %s",
                (mine,),
            )
            assert [one.state for one in alone.sweep(tasks, 10).rescued] == ["failed"]
        else:
            assert alone.settle(tasks, mine, token, "complete").verdict == "settled"
        states = dict(db.execute("select id::text, status from public.tasks").fetchall())
        assert (states[held], states[mine]) == (
            "processing",
            "failed" if by == "sweep" else "completed",
        )
        refused = db.execute("select task_id, wanted, because from unstuck.refusals").fetchall()
        assert refused == [(held, "completed", "held")]


@pytest.mark.parametrize("verb", ["status(%s, %s)", "claim(%s, 'w', %s)"])
def test_what_is_no_key_is_refused_whatever_the_plan(database, tasks, verb):
    """A scan of a table that is empty compares nothing: for it each text is a key that is not there
    (seen)."""
    scan = "-c plan_cache_mode=force_generic_plan -c enable_indexscan=off -c enable_bitmapscan=off"
    with (
        psycopg.connect(database, autocommit=True, options=scan) as db,
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
    ):
        db.execute(f"select unstuck.tasks_{verb}", ("no key", tasks.rules_json))
