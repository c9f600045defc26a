"""A task that is put back waits from that moment, whoever put it back: also where the table tells
the wait by the time at which the row was made, or by a time that the application does not move."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from functions.core.states import State
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.adopt.test_fence import Shape, Table, policy, table
from tests.conftest import copied

LONG_AGO = 30 * 86_400.0
WORDS = {
    "pending": ["waits"],
    "running": ["renders", "quits"],
    "completed": ["there"],
    "failed": ["broke"],
}
BIRTH_ALONE = Shape(
    ddl="""
    create table public.renders (
      id bigint generated always as identity primary key,
      phase text not null default 'waits',
      made_at timestamptz not null,
      seen_at timestamptz);
    """,
    watch={
        "table": "public.renders",
        "key": "id",
        "key_type": "bigint",
        "status": "phase",
        "words": WORDS,
        "stopping": ["quits"],
        "columns": {},
        "clocks": {"queued": "made_at", "alive": ["seen_at", "made_at"], "touched": "seen_at"},
    },
    ago="now() - make_interval(secs => %s)",
)
EPOCH_BIRTH = Shape(
    ddl="""
    create table public.conversions (
      "convId" text primary key default md5(random()::text),
      phase text not null,
      "madeMs" bigint not null,
      "seenMs" bigint);
    """,
    watch={
        "table": "public.conversions",
        "key": "convId",
        "key_type": "text",
        "status": "phase",
        "words": WORDS,
        "stopping": ["quits"],
        "columns": {},
        "types": {"madeMs": "bigint", "seenMs": "bigint"},
        "clocks": {"queued": "madeMs", "alive": ["seenMs", "madeMs"], "touched": "seenMs"},
    },
    ago="(extract(epoch from now() - make_interval(secs => %s)) * 1000)::bigint",
)
PLANNED_APART = Shape(
    ddl="""
    create table public.letters (
      id uuid primary key default gen_random_uuid(),
      phase text not null,
      not_before timestamp,
      made timestamp not null,
      seen timestamp);
    """,
    watch={
        "table": "public.letters",
        "key": "id",
        "key_type": "uuid",
        "status": "phase",
        "words": WORDS,
        "stopping": ["quits"],
        "columns": {},
        "types": {"not_before": "timestamp", "made": "timestamp", "seen": "timestamp"},
        "clocks": {
            "queued": "made",
            "due": "not_before",
            "alive": ["seen", "made"],
            "touched": "seen",
        },
    },
    ago="(now() - make_interval(secs => %s)) at time zone 'UTC'",
)
SHAPES = {"birth alone": BIRTH_ALONE, "epoch birth": EPOCH_BIRTH, "planned apart": PLANNED_APART}


@pytest.fixture(scope="module", params=SHAPES)
def kept(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Table]:
    with copied(postgres, None) as dsn:
        yield from table(dsn, SHAPES[request.param], "off")


@pytest.fixture(params=["off", "observe"])
def jobs(request: pytest.FixtureRequest, kept: Table) -> Table:
    kept.fenced(request.param)
    kept.execute(f"truncate {kept.name}, unstuck.attempts, unstuck.observed, unstuck.operations")
    return kept


def waits_from_now(jobs: Table, key: str) -> None:
    """It is not stuck, whoever asks; it is listed; and it is claimed."""
    store, watch = jobs.store, jobs.watch
    assert store.preview(watch, 10) == []
    assert store.overview(watch).overdue.count == store.pulse(watch).stuck.count == 0
    assert [task.task_id for task in store.page(watch, {"state": "pending"}, 10).tasks] == [key]
    status = store.status(watch, key)
    assert (status.state, status.overdue) == (State.PENDING, False)
    assert store.claim(watch, None, "a worker").task_id == key


@pytest.mark.parametrize("word", ["broke", "renders"])
def test_what_a_person_puts_back_waits_from_that_moment(jobs: Table, word: str) -> None:
    key = jobs.add(word, LONG_AGO)
    action = "retry" if word == "broke" else "requeue"
    assert jobs.store.operate(jobs.watch, action, [key]) == [key]
    waits_from_now(jobs, key)


@pytest.mark.parametrize("word", ["broke", "renders", "there"])
def test_what_the_application_puts_back_waits_from_that_moment(jobs: Table, word: str) -> None:
    key = jobs.add(word, LONG_AGO)
    assert jobs.write(key, "waits") == 1
    waits_from_now(jobs, key)


def test_what_a_sweep_failed_and_a_person_undoes_waits_from_that_moment(jobs: Table) -> None:
    key = jobs.add("waits", LONG_AGO)
    if jobs.watch.fence == "observe":
        jobs.age_seen(key, LONG_AGO)
    assert jobs.sweep() == {key: "failed"}
    assert jobs.store.operate(jobs.watch, "retry", [key]) == [key]
    waits_from_now(jobs, key)


def test_what_is_put_back_is_stuck_when_nobody_takes_it_again(jobs: Table) -> None:
    key = jobs.add("broke", LONG_AGO)
    jobs.store.operate(jobs.watch, "retry", [key])
    for name in ("not_before",) if jobs.watch.table == "public.letters" else ():
        jobs.update(key, f"{name} = {jobs.shape.ago}", LONG_AGO)
    jobs.age_seen(key, LONG_AGO)
    assert jobs.sweep() == {key: "failed"}


def test_a_role_without_triggers_on_the_table_can_still_guard_it(empty_database: str) -> None:
    guarded = Table(
        empty_database, BIRTH_ALONE, PostgresStore(empty_database), policy(BIRTH_ALONE, "off")
    )
    guarded.execute(BIRTH_ALONE.ddl)
    guarded.execute("alter table public.renders rename to renders_kept")
    guarded.execute("create view public.renders as select * from public.renders_kept")
    guarded.fenced("off")
    key = guarded.add("broke", LONG_AGO)
    assert guarded.store.operate(guarded.watch, "retry", [key]) == [key]
    waits_from_now(guarded, key)
    guarded.store.close()


def test_a_task_of_our_own_table_that_other_code_puts_back_waits_from_that_moment(
    database: str,
) -> None:
    store = PostgresStore(database)
    watch: Any = _own_watch()
    with psycopg.connect(database, autocommit=True) as connection:
        ((key,),) = connection.execute(
            "insert into public.tasks (kind, status, scheduled_at, updated_at) "
            "values ('image', 'processing', now() - interval '30 days', now()) returning id::text"
        ).fetchall()
        connection.execute("update public.tasks set status = 'pending' where id = %s", (key,))
    assert store.preview(watch, 10) == []
    assert store.claim(watch, None, "a worker").task_id == key
    store.close()


def _own_watch() -> Any:
    from functions.core.policy import load

    return load().watch()
