"""What a sweep and the overview say of overdue tasks is what is open and overdue now, whether or
not anybody could end it; and what could not be read is not 0."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from functions.core.policy import DEFAULT, load
from functions.errors import StoreError
from functions.store.postgres import PostgresStore
from functions.sweep import gauges
from tests.sweep.steps import sweep

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
TWO_HOURS = 7200
LATE_ATTEMPTS = """
update unstuck.attempts
set started_at = now() - interval '4 h', beat_at = now() - interval '3 h',
    lease_until = now() - interval '3 h', deadline_at = now() - interval '2 h'
where task_id = %s
"""


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    made = PostgresStore(database)
    yield made
    made.close()


@pytest.fixture
def somebody(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Another user of the database, in a transaction of theirs."""
    with psycopg.connect(database) as connection:
        yield connection


def held_and_late(store: PostgresStore, database: str) -> str:
    task_id = store.create(WATCH, "image", {}).task_id
    store.claim(WATCH, task_id, "a worker that is dead")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(LATE_ATTEMPTS, (task_id,))
    return task_id


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    written = map(json.loads, capfd.readouterr().out.splitlines())
    return [line for line in written if line["event"] == "sweep_finished"]


def test_a_late_task_that_no_sweep_can_end_is_told_by_every_sweep(
    store: PostgresStore,
    database: str,
    somebody: psycopg.Connection[Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    task_id = held_and_late(store, database)
    somebody.execute("select from tasks where id = %s for update", (task_id,))
    for _ in range(3):
        report = sweep(store, POLICY)
        assert (report.requeued, report.failed) == (0, 0)
        assert report.oldest_overdue_seconds == pytest.approx(TWO_HOURS, abs=100)
    for line in lines(capfd):
        assert line["oldest_overdue_seconds"] == pytest.approx(TWO_HOURS, abs=100)
    values = gauges.points(POLICY, {WATCH.name: store.overview(WATCH)})
    assert values["overdue_tasks", (("watch", "tasks"),)] == 1
    assert values["overdue_seconds", (("watch", "tasks"),)] == pytest.approx(TWO_HOURS, abs=100)
    somebody.rollback()
    assert sweep(store, POLICY).requeued == 1
    assert sweep(store, POLICY).oldest_overdue_seconds == 0, "it was ended: nothing is late"


def test_the_overview_the_page_and_the_sweep_name_the_same_overdue_tasks(
    store: PostgresStore, database: str
) -> None:
    """By a lease, by waiting for too long, and by the table's own clock where a worker has no
    guard."""
    held_and_late(store, database)
    waiting = store.create(WATCH, "image", {}).task_id
    silent = store.create(WATCH, "image", {}).task_id
    for _ in range(4):  # in time
        store.create(WATCH, "image", {})
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("alter table tasks disable trigger user")
        connection.execute(
            "update tasks set scheduled_at = now() - interval '1 d' where id = %s", (waiting,)
        )
        connection.execute(
            "update tasks set status = 'processing', started_at = now() - interval '3 d',"
            " updated_at = now() - interval '2 d' where id = %s",
            (silent,),
        )
        connection.execute("alter table tasks enable trigger user")
    overdue = store.overview(WATCH).overdue
    assert overdue.count == 3
    assert overdue.oldest == pytest.approx(2 * 86400, abs=1000), "the one without a guard"
    assert store.pulse(WATCH).stuck.count == 3
    assert len(store.page(WATCH, {"state": "stuck"}, 50).tasks) == 3
    assert len(store.preview(WATCH, 50)) == 3


def test_what_could_not_be_read_is_unknown_and_the_run_says_that_it_is_incomplete(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(store, POLICY).oldest_overdue_seconds == 0

    def fails(*_: object) -> None:
        raise StoreError("canceling statement due to statement timeout", retryable=False)

    for verb in ("tidy", "overview"):
        monkeypatch.setattr(store, verb, fails)
    sweep(store, POLICY)
    monkeypatch.setattr(store, "sweep_begin", fails)
    with pytest.raises(StoreError):
        sweep(store, POLICY)
    good, unread, not_begun = lines(capfd)
    assert good["complete"] is True
    for line in (unread, not_begun):
        assert line["outcome"] == "error"
        assert line["complete"] is False
        assert line["oldest_overdue_seconds"] is None
        assert line["oldest_pending_seconds"] is None


def test_a_queue_that_is_slower_than_its_arrivals_is_told_with_its_numbers(
    store: PostgresStore, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        store.create(WATCH, "image", {})
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("update tasks set scheduled_at = now() - interval '5 minutes'")
    sweep(store, POLICY)
    store.claim(WATCH, None, "worker")
    sweep(store, POLICY)
    for _ in range(2):
        store.claim(WATCH, None, "worker")
    sweep(store, POLICY)
    written = map(json.loads, capfd.readouterr().out.splitlines())
    slow = [line for line in written if line["event"] == "queue_slow"]
    told = [(line["kind"], line["came"], line["taken"], line["waiting"]) for line in slow]
    assert told == [("image", 3, 0, 3), ("image", 3, 1, 2)]
    assert all(300 <= line["oldest"] < 330 for line in slow)
