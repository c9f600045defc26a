"""A push can be lost. The sweep sends it again, and only a task that nobody takes in all its time
is failed.

A real database whose rows are made older, in place of waiting: a minute passes in each `minute()`.
"""

import json

import psycopg
import pytest

from functions.core import dispatch
from functions.core.policy import DEFAULT, load
from functions.store.postgres import PostgresStore
from tests.sweep.steps import sweep

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
AGAIN, LONGEST = 2, 15  # minutes: redispatch_after and pending_for of the bundle


class Pushes(list):
    """Remembers each push, and loses it."""

    refuses = False
    asked = 0

    def push(self, watch, task_id, number, delay=0.0):
        self.asked += 1
        if self.refuses:
            raise dispatch.DispatchError("the queue is gone")
        self.append((task_id, number))


@pytest.fixture
def pushed():
    return Pushes()


@pytest.fixture
def store(database):
    store = PostgresStore(database)
    yield store
    store.close()


@pytest.fixture
def minute(database, store, pushed):
    """A minute passes, and the sweep comes. Returns what it did."""
    clocks = {
        "tasks": ("scheduled_at",),
        "unstuck.dispatches": ("at",),
        "unstuck.attempts": ("deadline_at", "retry_at"),  # who holds a task goes on beating
    }

    def passes(dispatcher=pushed):
        with psycopg.connect(database) as connection:
            for table, columns in clocks.items():
                moved = ", ".join(
                    f"{column} = {column} - interval '1 minute'" for column in columns
                )
                connection.execute(f"update {table} set {moved}")
        return sweep(store, POLICY, dispatcher)

    return passes


def state(store, task_id):
    found = store.status(WATCH, task_id, heal=False)
    return found.state, found.reason


def test_a_lost_push_is_sent_again_and_again_before_the_task_is_failed(store, pushed, minute):
    task_id = store.create(WATCH, "image", {}).task_id
    sent = []
    for passed in range(1, LONGEST):
        before = len(pushed)
        assert minute().redispatched == len(pushed) - before
        sent += [passed] * (len(pushed) - before)
        assert state(store, task_id) == ("pending", None)
    assert sent == list(range(AGAIN, LONGEST, AGAIN))
    assert pushed == [(task_id, -times) for times in range(1, len(sent) + 1)], (
        "each under another name in the queue"
    )
    done = minute()
    assert (done.failed, done.redispatched, len(pushed)) == (1, 0, len(sent))
    assert state(store, task_id) == ("failed", "never_claimed")


def test_a_push_that_arrives_in_the_end_saves_the_task(store, pushed, minute):
    task_id = store.create(WATCH, "image", {}).task_id
    for _ in range(LONGEST - 1):
        minute()
    claimed = store.claim(WATCH, pushed[-1][0], "worker")
    assert claimed.verdict == "claimed"
    pushed.clear()
    done = minute()
    assert (done.failed, done.redispatched, pushed) == (0, 0, [])
    assert store.settle(WATCH, task_id, claimed.token, "complete").state == "completed"


def test_the_lost_push_of_a_rescued_task_is_sent_again_too(store, pushed, minute, database):
    task_id = store.create(WATCH, "image", {}).task_id
    store.claim(WATCH, task_id, "a worker that dies")
    with psycopg.connect(database) as connection:
        connection.execute("update unstuck.attempts set deadline_at = now()")
    assert minute().requeued == 1
    assert pushed == [(task_id, 2)]
    pushed.clear()
    for _ in range(AGAIN + 1):  # its time to start was some seconds after the rescue
        minute()
    assert pushed == [(task_id, -1)]


def test_a_task_for_later_is_not_pushed_before_its_time(store, pushed, minute):
    task_id = store.create(WATCH, "image", {}, delay=150).task_id
    for _ in range(4):
        minute()
    assert pushed == []
    minute()
    assert pushed == [(task_id, -1)]


def test_a_push_that_the_queue_refuses_does_not_count_and_is_tried_again(
    store, pushed, minute, capfd
):
    store.create(WATCH, "image", {})
    pushed.refuses = True
    done = [minute().redispatched for _ in range(AGAIN)]
    assert sum(done) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["error"] for line in lines if line["event"] == "dispatch_failed"] == [
        "the queue is gone"
    ]
    pushed.refuses = False
    assert sum(minute().redispatched for _ in range(AGAIN)) == 1


def test_a_queue_that_is_away_holds_up_one_push_and_not_one_for_each_task(
    store, pushed, minute, database, capfd
):
    """A push to a queue that hangs takes 10 s: 500 of them would keep the sweep from its work for
    an hour."""
    for number in range(10):
        task_id = store.create(WATCH, "image", {}).task_id
        if number % 2:
            store.claim(WATCH, task_id, "a worker that dies")
    with psycopg.connect(database) as connection:
        connection.execute("update unstuck.attempts set deadline_at = now()")
    pushed.refuses = True
    assert minute().requeued == 5
    assert pushed.asked == 1
    assert minute().redispatched == 0
    assert pushed.asked == 2
    assert "task_redispatched" not in capfd.readouterr().out
    pushed.refuses = False
    assert sum(minute().redispatched for _ in range(AGAIN + 1)) == 10


def test_where_workers_pull_nothing_is_sent_and_tasks_still_end(store, minute, database):
    task_id = store.create(WATCH, "image", {}).task_id
    done = [minute(dispatch.NoDispatch()) for _ in range(LONGEST)]
    assert sum(report.redispatched for report in done) == 0
    assert state(store, task_id) == ("failed", "never_claimed")
    with psycopg.connect(database) as connection:
        assert connection.execute("select count(*) from unstuck.dispatches").fetchone() == (0,)


def test_after_a_long_silence_of_the_scheduler_a_lost_push_is_sent_again_before_the_task_fails(
    store, pushed, minute, database
):
    task_id = store.create(WATCH, "image", {}).task_id
    with psycopg.connect(database) as connection:
        connection.execute("update tasks set scheduled_at = scheduled_at - interval '1 hour'")
    first = minute()
    assert (first.failed, first.redispatched, [one[0] for one in pushed]) == (0, 1, [task_id])
    assert state(store, task_id) == ("pending", None)
    assert sum(minute().failed for _ in range(AGAIN)) == 1
    assert state(store, task_id) == ("failed", "never_claimed")


@pytest.fixture
def cloud_tasks(monkeypatch, pushed):
    """Cloud Tasks with the wire cut: `pushed` keeps what is put, `holds` says what it still has."""
    queue = dispatch.CloudTasksDispatch("queue", "https://worker.example/", None, 60.0)
    monkeypatch.setattr(queue, "push", pushed.push)
    queued = set()
    monkeypatch.setattr(
        queue, "holds", lambda watch, task_id, number, within: (task_id, number) in queued
    )
    return queue, queued


def test_a_task_whose_push_is_still_in_the_queue_is_not_pushed_twice(
    store, pushed, minute, cloud_tasks, capfd
):
    queue, queued = cloud_tasks
    waiting, lost = (store.create(WATCH, "image", {}).task_id for _ in range(2))
    queued.add((waiting, 1))
    done = [minute(queue).redispatched for _ in range(2 * AGAIN)]
    assert sum(done) == 2
    assert pushed == [(lost, -1), (lost, -2)]
    queued.clear()
    for _ in range(AGAIN):
        minute(queue)
    assert (waiting, -3) in pushed, "gone from the queue without a worker: lost after all"


def test_of_a_rescued_task_the_push_of_its_next_try_is_asked_for(
    store, pushed, minute, cloud_tasks, database
):
    queue, queued = cloud_tasks
    task_id = store.create(WATCH, "image", {}).task_id
    store.claim(WATCH, task_id, "a worker that dies")
    with psycopg.connect(database) as connection:
        connection.execute("update unstuck.attempts set deadline_at = now()")
    assert minute(queue).requeued == 1
    queued.add((task_id, 2))
    pushed.clear()
    for _ in range(AGAIN + 1):
        minute(queue)
    assert pushed == []
