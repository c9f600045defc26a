"""An upgrade in either order: functions and SQL are deployed apart, so each works with the other's
last release.

released.sql is the SQL of the last release (`make released` keeps it; until there is one, that of
today). The code of that release cannot run here, but what it calls and what it reads is the SQL's
own: names, arguments and the keys of answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.core.policy import DEFAULT, load
from functions.install.migrate import check, migrate
from functions.ops.postgres.embedded import Postgres
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.conftest import copied
from tests.upgrade.walk import Walk

RELEASED = Path(__file__).with_name("released.sql")
POLICY = load(str(DEFAULT))
PAUSES = {"pause", "resume", "pauses", "pauses_told", "retain"}
NUMBERS = {"count", "failures", "metrics"}
TOGETHER = {"lapsed", "tidy"}
NEWER_VERBS = {
    "pass_over",
    "clock_jumped",
    "stuck",
    "held_by",
    "pace",
    *PAUSES,
    *NUMBERS,
    *TOGETHER,
}
"""The last release has no such function. `stuck` is for people at a terminal alone. `pass_over` is
asked for only when a batch of one has failed; then that watch ends its part of the run, as it did
before. `clock_jumped` only when a begin tells the time, which one of the last release does not.
Without `pace` and `pauses_told` a sweep goes on; in the place of `lapsed` and `tidy` it asks for
their parts. `held_by` is of a function that the last release does not have."""
END = {
    "done": "completed",
    "failed": "pending",
    "again": "pending",
    "lost": "pending",
    "cancelled": "cancelled",
    "waiting": "pending",
}
FUNCTIONS = """
select p.proname::text, p.pronargs, p.pronargdefaults, p.proargnames::text[] as names,
       array(select format_type(t, null) from unnest(p.proargtypes::oid[]) t) as types,
       format_type(p.prorettype, null)
from pg_proc p where p.pronamespace = 'unstuck'::regnamespace and p.prokind = 'f'
"""
COLUMNS = """
select table_schema || '.' || table_name || '.' || column_name, data_type
from information_schema.columns
where table_schema in ('unstuck', 'public')
"""


@pytest.fixture
def released(empty_database: str) -> str:
    """The DSN of a database as the last release made it."""
    with psycopg.connect(empty_database, autocommit=True) as db:
        db.execute(RELEASED.read_text(encoding="utf-8"))
    return empty_database


def walked(dsn: str) -> Walk:
    store = PostgresStore(dsn)
    try:
        with psycopg.connect(dsn, autocommit=True) as db:
            return Walk(store, POLICY, db).whole()
    finally:
        store.close()


def test_the_functions_of_today_work_on_the_sql_of_the_last_release(released):
    walk = walked(released)
    assert walk.states == END
    verbs = {name for name in vars(Store) if not name.startswith("_")} - {"call", "close"}
    assert set(walk.answers) == verbs - NEWER_VERBS, "each verb is walked"


def test_a_claim_in_a_request_with_a_trace_works_on_the_sql_of_the_last_release(released):
    store = PostgresStore(released)
    try:
        store.create(POLICY.watch(), "image", {})
        claimed = store.claim(POLICY.watch(), None, "worker-1", trace="ab" * 16)
    finally:
        store.close()
    assert claimed.verdict == "claimed"


def test_the_functions_of_the_last_release_find_what_they_call_in_the_sql_of_today(
    released, database
):
    """Each function is there by its name, with at least the arguments it had; those that it got
    since have defaults."""
    before, now = functions(released), functions(database)
    for name, (arguments, _, result) in before.items():
        assert name in now, f"{name} is gone: the last release calls it"
        more, defaults, returned = now[name]
        assert arguments.items() <= more.items(), (
            f"{name}: an argument is gone, or has another type"
        )
        assert returned == result, name
        new = [argument for argument in more if argument not in arguments]
        assert new == list(more)[len(more) - len(new) :], f"{name}: what is new stands last"
        assert len(new) <= defaults, f"{name}: {new} have no default"


def functions(dsn: str) -> dict[str, tuple[dict[str, str], int, str]]:
    """{name: ({argument: type}, how many have defaults, what it returns)}."""
    with psycopg.connect(dsn) as db:
        rows = db.execute(FUNCTIONS).fetchall()
    assert len({row[0] for row in rows}) == len(rows), (
        "no name stands for two functions: a call by names would be ambiguous"
    )
    return {
        row[0]: (dict(zip((row[3] or [])[: row[1]], row[4], strict=False)), row[2], row[5])
        for row in rows
    }


def test_they_find_in_every_answer_what_they_read(released, database):
    before, now = walked(released).answers, walked(database).answers
    for verb, names in before.items():
        assert names <= now[verb], f"{verb} no longer answers {names - now[verb]}"


def test_no_column_is_gone_or_has_another_type(released, database):
    def columns(dsn: str) -> dict[str, str]:
        with psycopg.connect(dsn) as db:
            return dict(db.execute(COLUMNS).fetchall())

    assert columns(released).items() <= columns(database).items()


@pytest.fixture
def upgraded(postgres: Postgres) -> Iterator[tuple[str, dict[str, Any]]]:
    """A database of the last release with work in it, then migrated; and the attempt in it."""
    with copied(postgres, None) as dsn:
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(RELEASED.read_text(encoding="utf-8"))
        store = PostgresStore(dsn)
        task = store.create(POLICY.watch(), "image", {"n": 1}).task_id
        attempt = store.claim(POLICY.watch(), task, "w")
        store.checkpoint(POLICY.watch(), task, attempt.token, "step", {"n": 1})
        store.close()
        migrate(dsn)
        yield dsn, attempt


def test_what_was_begun_before_a_migration_is_ended_after_it(upgraded):
    dsn, attempt = upgraded
    assert check(dsn) == []
    store = PostgresStore(dsn)
    watch = POLICY.watch()
    try:
        assert store.beat(watch, attempt.task_id, attempt.token).verdict == "held"
        settled = store.settle(watch, attempt.task_id, attempt.token, "complete", result={"n": 2})
        assert (settled.verdict, settled.state) == ("settled", "completed")
        assert len(store.history(watch, attempt.task_id)) == 1
    finally:
        store.close()


def test_checkpoints_of_the_last_release_are_read_beside_those_of_today(upgraded):
    dsn, attempt = upgraded
    store = PostgresStore(dsn)
    watch = POLICY.watch()
    try:
        for number, step in enumerate(("more", "most"), 2):
            store.checkpoint(watch, attempt.task_id, attempt.token, step, {"n": number})
            assert {"step", step} <= store.payload(watch, attempt.task_id).checkpoints.keys()
            store.settle(watch, attempt.task_id, attempt.token, "release")
            attempt = store.claim(watch, attempt.task_id, "w")
        expected = {"step": {"n": 1}, "more": {"n": 2}, "most": {"n": 3}}
        assert attempt.checkpoint == expected
        assert set(store.history(watch, attempt.task_id)[-1].checkpoints) == expected.keys()
    finally:
        store.close()
