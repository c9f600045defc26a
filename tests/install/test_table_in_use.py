"""A migration of a table that others write to: nobody is held up for long, and what belongs to
another policy stays theirs."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from functions.core.policy import Policy, load
from functions.core.record import replace
from functions.errors import StoreError
from functions.install import migrate as module
from functions.install.migrate import check, file, migrate
from tests.install.test_migrate import append, copied_sql, objects, run, value

__all__ = ["copied_sql"]  # a fixture

WRITE = "insert into public.tasks (kind) values ('image')"
CHANGED_VERBS = "update unstuck.migrations set sha256 = '' where name = 'verbs.tasks'"
FORGOTTEN_TRIGGER = "comment on trigger unstuck_fence on public.tasks is null"
INDEX = "create index concurrently if not exists tasks_later on public.tasks (finished_at);\n"


@pytest.fixture
def writer(database: str) -> Iterator[psycopg.Connection]:
    """An application that wrote a row and has not committed."""
    with psycopg.connect(database) as connection:
        connection.execute(WRITE)
        yield connection
        connection.rollback()


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.1)


def on_table(policy: Policy, table: str, name: str = "tasks") -> Policy:
    watch = replace(policy.watch(), name=name, table=table, own=False)
    return replace(policy, watches={name: watch})


def test_a_trigger_that_is_the_same_needs_no_lock(database, writer):
    run(database, CHANGED_VERBS)
    sentences = []
    assert migrate(database, tell=sentences.append) == ["verbs.tasks"]
    assert sentences == []


def test_a_trigger_that_somebody_disabled_is_made_anew(database):
    run(database, CHANGED_VERBS, "alter table public.tasks disable trigger unstuck_fence")
    migrate(database)
    query = "select tgenabled::text from pg_trigger where tgname = 'unstuck_fence'"
    assert value(database, query) == "O"


def test_a_migration_that_waits_names_whom_and_lets_other_writers_through(database, writer):
    run(database, CHANGED_VERBS, FORGOTTEN_TRIGGER)
    sentences = []

    def write_and_release(sentence: str) -> None:
        """Between two tries: others write while the first writer still has the table."""
        sentences.append(sentence)
        run(database, "set lock_timeout = '1s'", WRITE)
        if len(sentences) == 2:
            writer.commit()

    assert migrate(database, tell=write_and_release) == ["verbs.tasks"]
    assert len(sentences) == 2
    holder = (
        rf"pid {writer.info.backend_pid} \(idle in transaction, since \d+ s, INSERT\) holds tasks"
    )
    assert re.search(holder, sentences[0])
    assert value(database, "select count(*) from public.tasks") == 3


def test_a_writer_that_comes_while_it_waits_is_not_held_up_for_longer_than_a_try(database, writer):
    run(database, CHANGED_VERBS, FORGOTTEN_TRIGGER)
    with ThreadPoolExecutor(1) as threads:
        migration = threads.submit(migrate, database)
        for _ in range(20):
            run(database, "set lock_timeout = '2s'", WRITE)
        assert not migration.done()
        writer.commit()
        assert migration.result(30) == ["verbs.tasks"]


def test_a_lock_that_is_never_free_ends_it_with_the_name_of_its_holder(
    database, writer, monkeypatch
):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    run(database, CHANGED_VERBS, FORGOTTEN_TRIGGER)
    with pytest.raises(StoreError, match=f"pid {writer.info.backend_pid} .*run it again") as ended:
        migrate(database)
    assert ended.value.retryable
    assert check(database) == ["verbs.tasks"]


def test_the_file_for_supabase_does_not_wait_for_a_lock_either(database, writer):
    run(database, FORGOTTEN_TRIGGER)
    text = file(load(), None).replace("set lock_timeout = '2s'", "set lock_timeout = '0.1s'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        run(database, text)


def test_an_index_on_a_table_in_use_is_built_beside_its_writers(database, copied_sql):
    append_migration(copied_sql)
    with psycopg.connect(database) as writer, ThreadPoolExecutor(1) as threads:
        writer.execute(WRITE)
        migration = threads.submit(migrate, database)
        run(database, "set lock_timeout = '2s'", WRITE)
        writer.commit()
        assert migration.result(30) == ["0099_later"]
    assert value(
        database, "select indisvalid from pg_index where indexrelid = 'tasks_later'::regclass"
    )
    assert check(database) == []


def test_an_index_whose_build_failed_is_built_anew(database, copied_sql):
    append_migration(copied_sql)
    run(
        database,
        INDEX,
        "update pg_index set indisvalid = false where indexrelid = 'tasks_later'::regclass",
    )
    assert migrate(database) == ["0099_later"]
    assert value(
        database, "select indisvalid from pg_index where indexrelid = 'tasks_later'::regclass"
    )


def append_migration(copied_sql: Path) -> None:
    path = copied_sql / "migrations" / "0099_later.sql"
    path.touch()
    append(path, INDEX)


def test_a_second_stage_does_not_turn_the_first_ones_functions_to_its_table(empty_database):
    """Two policies that differ in the table alone, as `tasks_${STAGE}` does."""
    own = "create table public.jobs_{} (like public.tasks including all)"
    migrate(empty_database)
    run(empty_database, own.format("dev"), own.format("prod"), "drop schema unstuck cascade")
    dev, prod = (on_table(load(), f"public.jobs_{stage}") for stage in ("dev", "prod"))
    migrate(empty_database, dev)
    before = objects(empty_database)
    for verb in (check, migrate):
        with pytest.raises(StoreError, match=r'belongs to the table "public"\."jobs_dev"'):
            verb(empty_database, prod)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        run(empty_database, file(prod, None))
    assert objects(empty_database) == before

    run(empty_database, "drop table jobs_prod", "alter table jobs_dev rename to jobs_prod")
    assert "verbs.tasks" in migrate(empty_database, prod), "the same table, under a new name"


def test_a_policy_that_shares_no_watch_with_the_database_drops_nothing(database):
    run(database, "create table public.jobs (like public.tasks including all)")
    other = on_table(load(), "public.jobs", "jobs")
    before = objects(database)
    for verb in (check, migrate):
        with pytest.raises(StoreError, match=r"the watches of another policy \(tasks\)"):
            verb(database, other)
    assert objects(database) == before

    both = replace(other, watches={**load().watches, **other.watches})
    migrate(database, both)
    assert "gone.tasks" in migrate(database, other), "the old name beside the new one for one run"
