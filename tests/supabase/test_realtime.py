"""What a client that listens is told: one change for each change of state, and none for a beat,
which would wake every client. Read as Supabase's Realtime reads it: the publication
`supabase_realtime`, by logical replication (pgoutput)."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from functions.core.policy import Watch, load
from functions.install.migrate import file
from functions.ops.postgres.embedded import Postgres
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.conftest import copied
from tests.sql import install_clock, pass_time
from tests.supabase.stack import bootstrap

LEASE, HOUR = 30, 3600


class Change(NamedTuple):
    what: str
    """insert, update or delete."""
    table: str
    row: dict[str, str | None]


class Changes:
    """What was published since it was asked before: the messages of pgoutput, version 1."""

    def __init__(self, db: psycopg.Connection[Any], slot: str) -> None:
        self._db, self._slot = db, slot
        self._relations: dict[int, tuple[str, list[str]]] = {}

    def __call__(self) -> list[Change]:
        self._db.execute(
            "select pg_logical_emit_message(true, 'flush', '')"
        )  # only what is on the disk is published
        rows = self._db.execute(
            "select data from pg_logical_slot_get_binary_changes(%s, null, null, 'proto_version', "
            "'1', "
            "'publication_names', 'supabase_realtime')",
            (self._slot,),
        ).fetchall()
        return [change for (data,) in rows for change in self._read(bytes(data))]

    def _read(self, data: bytes) -> Iterator[Change]:
        kind, data = chr(data[0]), data[1:]
        assert kind in "BCRIUD", f"a message of the kind {kind}"
        if kind == "R":
            relation, names = struct.unpack_from("!I", data)[0], data[4:]
            schema, table, rest = names.split(b"\0", 2)
            self._relations[relation] = (
                f"{schema.decode()}.{table.decode()}",
                list(self._columns(rest[1:])),
            )
        if kind in "IUD":
            table, columns = self._relations[struct.unpack_from("!I", data)[0]]
            assert chr(data[4]) in "NK", "the old row is not published"
            what = {"I": "insert", "U": "update", "D": "delete"}[kind]
            yield Change(what, table, dict(zip(columns, self._values(data[5:]), strict=True)))

    @staticmethod
    def _columns(data: bytes) -> Iterator[str]:
        count, at = struct.unpack_from("!H", data)[0], 2
        for _ in range(count):
            end = data.index(b"\0", at + 1)  # after the flags
            yield data[at + 1 : end].decode()
            at = end + 9  # the type and its modifier

    @staticmethod
    def _values(data: bytes) -> Iterator[str | None]:
        count, at = struct.unpack_from("!H", data)[0], 2
        for _ in range(count):
            if chr(data[at]) != "t":  # null, or a large value that has not changed
                at += 1
                yield None
                continue
            length = struct.unpack_from("!I", data, at + 1)[0]
            yield data[at + 5 : at + 5 + length].decode()
            at += 5 + length


@pytest.fixture(scope="module")
def dsn(postgres: Postgres) -> Iterator[str]:
    with copied(postgres, None) as dsn:
        bootstrap(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(file(None, "public").encode())
            install_clock(connection)
        yield dsn


@pytest.fixture
def db(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("delete from public.tasks")
        connection.execute("delete from unstuck.attempts")
        connection.execute("set synchronous_commit = on")
        yield connection


@pytest.fixture
def store(dsn: str, db: object) -> Iterator[Store]:
    made = PostgresStore(dsn)
    yield made
    made.close()


@pytest.fixture
def changes(db: psycopg.Connection[Any]) -> Iterator[Callable[[], list[Change]]]:
    slot = f"realtime_{uuid4().hex}"
    db.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    yield Changes(db, slot)
    db.execute("select pg_drop_replication_slot(%s)", (slot,))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return load().watch()


def words(changes: list[Change]) -> list[tuple[str, str | None]]:
    assert {change.table for change in changes} <= {"public.tasks"}
    return [(change.what, change.row["status"]) for change in changes]


def test_each_change_of_state_is_one_change_and_a_beat_is_none(store, watch, changes):
    task_id = str(store.create(watch, "image", {"prompt": "a fox"}, owner="ada").task_id)
    (created,) = changes()
    assert (created.what, created.row["id"], created.row["owner"]) == ("insert", task_id, "ada")

    first = store.claim(watch, task_id, "worker")
    assert words(changes()) == [("update", "processing")]
    for number in range(3):
        store.beat(watch, task_id, first.token)
        store.beat(watch, task_id, first.token, {"done": number / 3})
        store.checkpoint(watch, task_id, first.token, f"step-{number}", {"url": "a.png"})
    assert changes() == []

    store.settle(watch, task_id, first.token, "retry", reason="transient", after=0)
    assert words(changes()) == [("update", "pending")]
    second = store.claim(watch, task_id, "worker")
    store.settle(watch, task_id, second.token, "complete", result={"url": "a.png"})
    *_, completed = found = changes()
    assert words(found) == [("update", "processing"), ("update", "completed")]
    assert completed.row["result"] == '{"url": "a.png"}'


def test_what_changes_nothing_is_not_published(store, watch, changes):
    task_id = str(store.create(watch, "image", {}, key="k").task_id)
    held = store.claim(watch, task_id, "worker")
    changes()
    store.create(watch, "image", {}, key="k")
    store.claim(watch, task_id, "another")
    store.status(watch, task_id)
    store.settle(watch, task_id, str(uuid4()), "complete", result={})
    store.sweep(watch, 500)
    store.redispatch(watch, 500)
    store.orphans(watch, 0)
    assert changes() == []
    for _ in range(2):
        store.settle(watch, task_id, held.token, "complete", result={})
    assert words(changes()) == [("update", "completed")]


def test_a_rescue_is_one_change_whoever_rescues(store, db, watch, changes):
    lost, waits, polled = (str(store.create(watch, "image", {}).task_id) for _ in range(3))
    store.claim(watch, lost, "worker")
    changes()
    pass_time(db, LEASE + 1)
    changes()  # time passes by updates here
    store.sweep(watch, 500)
    assert words(changes()) == [("update", "pending")]
    pass_time(db, HOUR)
    changes()
    store.status(watch, polled)
    (healed,) = changes()
    assert (healed.row["id"], healed.row["status"], healed.row["reason"]) == (
        polled,
        "failed",
        "never_claimed",
    )
    store.sweep(watch, 500)
    assert sorted(str(change.row["id"]) for change in changes()) == sorted([lost, waits])


def test_what_a_person_does_is_one_change_for_each_task(store, watch, changes):
    task_id = str(store.create(watch, "image", {}).task_id)
    changes()
    for action, word in (("cancel", "cancelled"), ("retry", "pending"), ("fail", "failed")):
        for _ in range(2):
            store.operate(watch, action, [task_id])
        assert words(changes()) == [("update", word)]


def test_only_the_tasks_are_published(db):
    rows = db.execute(
        "select schemaname, tablename from pg_publication_tables "
        "where pubname = 'supabase_realtime'"
    )
    assert rows.fetchall() == [("public", "tasks")]
