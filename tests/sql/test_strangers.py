"""What a role of the database that is not ours can do: with rights on the table alone, or with none
but to connect. It passes no fence, stops nobody, and fills no table."""

import threading

import psycopg
import pytest

from functions.core.policy import load
from functions.core.record import replace
from functions.errors import StoreError
from functions.store.postgres import PostgresStore
from tests.sweep.steps import sweep

POLICY = load()
WATCH = POLICY.watch()


@pytest.fixture
def stranger(db):
    """Reads and writes the table of tasks, and has no right to our schema."""
    db.execute("drop role if exists stranger")
    db.execute("create role stranger")
    db.execute("grant select, insert, update on public.tasks to stranger")
    db.execute("create policy p on public.tasks for all to stranger using (true) with check (true)")
    with psycopg.connect(db.info.dsn, password=db.info.password, autocommit=True) as connection:
        connection.execute("set session authorization stranger")
        yield connection
    db.execute("drop owned by stranger")
    db.execute("drop role stranger")


def ended(store):
    claim = held(store)
    store.settle(WATCH, claim.task_id, claim.token, "complete", result={"mine": True})
    return claim.task_id


def held(store):
    created = store.create(WATCH, "image", {"prompt": "x"}, owner="ann")
    return store.claim(WATCH, created.task_id, "worker")


def row(db, task_id):
    query = "select status, result from public.tasks where id = %s"
    return db.execute(query, (task_id,)).fetchone()


WORDS = ("tasks", "tasks/0", "tasks/1", "tasks/-1", "")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("setting", ["set", "set local"])
def test_a_variable_that_any_role_may_set_opens_no_fence(store, db, stranger, word, setting):
    task_id = ended(store)
    with stranger.transaction():
        stranger.execute(f"{setting} unstuck.override = '{word}'")
        write = "update public.tasks set status = 'failed', result = '{}' where id = %s"
        assert stranger.execute(write, (task_id,)).rowcount == 0
    assert row(db, task_id) == ("completed", {"mine": True})


def test_nor_does_it_from_a_trigger_or_a_function_of_its_own(store, db, stranger):
    """At each depth, with the word that our own verbs use there."""
    task_id = ended(store)
    db.execute("grant create on schema public to stranger")
    stranger.execute(
        "create table public.bell (id uuid);"
        "create function public.ring() returns trigger language plpgsql as $$ begin "
        "perform set_config('unstuck.override', 'tasks/' || pg_trigger_depth(), true); "
        "update public.tasks set status = 'failed' where id = new.id; return null; end $$;"
        "create trigger ring after insert on public.bell for each row "
        "execute function public.ring()"
    )
    stranger.execute("insert into public.bell values (%s)", (task_id,))
    assert row(db, task_id)[0] == "completed"


def test_an_operator_passes_by_the_same_word(store, db):
    task_id = ended(store)
    with db.transaction():
        db.execute("set local unstuck.override = 'tasks'")
        write = "update public.tasks set status = 'failed' where id = %s"
        assert db.execute(write, (task_id,)).rowcount == 1


def test_the_key_of_a_task_that_is_held_stays(store, db, stranger):
    """Its attempt is found by the key: the worker would have lost it, and its result."""
    claim = held(store)
    write = "update public.tasks set id = gen_random_uuid() where id = %s"
    assert stranger.execute(write, (claim.task_id,)).rowcount == 0
    done = store.settle(WATCH, claim.task_id, claim.token, "complete", result={"mine": True})
    assert done.verdict == "settled"
    assert row(db, claim.task_id) == ("completed", {"mine": True})


def test_a_write_that_is_refused_again_and_again_fills_no_table(store, db, stranger):
    task_id, claim = ended(store), held(store)
    write = "update public.tasks set status = 'failed' where id = %s"
    for _ in range(80):
        stranger.execute(write, (task_id,))
        store.beat(WATCH, claim.task_id, "00000000-0000-4000-8000-000000000000")
    query = "select task_id, count(*) from unstuck.refusals group by 1"
    assert dict(db.execute(query).fetchall()) == {task_id: 50, claim.task_id: 50}


LOCKS = ("unstuck.sweep", "unstuck.outbox", "unstuck.create/tasks/ann")


def test_locks_that_any_role_may_hold_stop_neither_sweep_nor_create(store, db, stranger):
    for name in LOCKS:
        stranger.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (name,))
    for lock in range(1025):
        stranger.execute("select pg_advisory_lock(%s)", (lock,))
    assert sweep(store, POLICY).verdict == "ok"
    limited = replace(WATCH, create_per_minute=5)
    assert store.create(limited, "image", {"prompt": "x"}, owner="ann").verdict == "created"
    assert store.outbox_take(60.0) is None


def test_no_role_without_rights_can_hold_our_own_locks(store, stranger):
    sweep(store, POLICY)
    for attempt in (
        "select * from unstuck.locks for update",
        "lock table unstuck.locks",
        "select unstuck.hold('sweep')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), stranger.transaction():
            stranger.execute(attempt)


def test_what_waits_for_a_lock_ends_on_the_server_when_its_caller_gives_it_up(store, db, database):
    """Or each try leaves a backend that waits."""
    sweep(store, POLICY)
    with psycopg.connect(database) as holder:
        holder.execute("select from unstuck.locks where name = 'sweep' for update")
        for _ in range(3):
            with pytest.raises(StoreError):
                store._verb("sweep_begin", limit=0.5, p_key=None, p_by="x", p_budget=45.0)
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        assert db.execute(waiting).fetchone() == (0,)


def test_one_owner_at_a_time_creates_where_there_is_a_limit(store, db):
    """The lock holds what it is for: no race lets two through."""
    limited = replace(WATCH, create_per_minute=3)
    verdicts = []

    def create():
        own = PostgresStore(db.info.dsn + f" password={db.info.password}")
        verdicts.append(own.create(limited, "image", {"prompt": "x"}, owner="ann").verdict)
        own.close()

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == ["created"] * 3 + ["limited"] * 5
