"""Status over each store."""

from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    LEASE,
    NIL,
    PENDING_FOR,
    SILENT_FOR,
    at_once,
    attempts,
    by_foreigner,
    claimed,
    claimed_again,
    created,
    settled,
)


class TestStatus:
    def test_a_task_that_is_not_there_is_missing(self, store, tasks):
        assert store.status(tasks, NIL) is None

    def test_it_tells_the_state_at_each_step(self, store, tasks):
        task_id = created(store, tasks, owner="ann", delay=0)
        pending = store.status(tasks, task_id)
        assert (pending.state, pending.word) == ("pending", "pending")
        assert (pending.kind, pending.owner, pending.due_in) == ("image", "ann", 0)
        assert (pending.attempt, pending.overdue, pending.rescued) == (None, False, [])
        attempt = claimed_again(store, tasks, task_id)
        running = store.status(tasks, task_id)
        assert (running.state, running.word, running.due_in) == ("running", "processing", None)
        assert {
            name: vars(running.attempt)[name]
            for name in ("number", "tries", "of", "worker", "outcome")
        } == {"number": 1, "tries": 1, "of": 3, "worker": "worker-1", "outcome": None}
        assert LEASE - A_MOMENT < running.attempt.lease_left <= LEASE
        settled(store, tasks, attempt, "complete", result={"n": 1})
        done = store.status(tasks, task_id)
        assert (done.state, done.result, done.error) == ("completed", {"n": 1}, None)
        assert (done.attempt.outcome, done.attempt.lease_left) == ("completed", None)

    def test_it_tells_why_a_task_failed(self, store, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="handler_error", error="No.", detail="secret")
        failed = store.status(tasks, attempt.task_id)
        assert (failed.state, failed.reason, failed.error) == ("failed", "handler_error", "No.")
        assert "secret" not in str(failed)

    def test_it_tells_when_the_next_try_is_due(self, store, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "retry", reason="transient", after=60)
        waiting = store.status(tasks, attempt.task_id)
        assert (waiting.state, waiting.error, waiting.reason) == ("pending", None, None)
        assert 60 - A_MOMENT < waiting.due_in <= 60
        assert (waiting.attempt.outcome, waiting.attempt.reason) == ("retried", "transient")

    def test_it_heals_an_attempt_that_is_overdue(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        found = store.status(tasks, attempt.task_id)
        assert (found.state, found.overdue) == ("pending", False)
        assert [task.reason for task in found.rescued] == ["lease_lost"]
        assert store.status(tasks, attempt.task_id).rescued == []

    def test_it_heals_a_task_that_nobody_claimed(self, store, db, tasks):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        found = store.status(tasks, task_id)
        assert (found.state, found.reason) == ("failed", "never_claimed")
        assert found.error == "No worker picked the task up in time."

    def test_it_heals_a_task_of_which_nothing_was_heard(self, store, db, tasks):
        task_id = created(store, tasks)
        by_foreigner(db, task_id, "processing")
        pass_time(db, SILENT_FOR + 1)
        assert store.status(tasks, task_id).state == "pending"

    def test_it_heals_only_the_task_that_is_asked_for(self, store, db, tasks):
        mine, other = claimed(store, tasks), claimed(store, tasks)
        pass_time(db, LEASE + 1)
        store.status(tasks, mine.task_id)
        assert attempts(db, other.task_id)[0]["ended_at"] is None

    def test_without_healing_it_only_says_that_the_task_is_overdue(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        found = store.status(tasks, attempt.task_id, heal=False)
        assert (found.state, found.overdue, found.rescued) == ("running", True, [])
        assert attempts(db, attempt.task_id)[0]["ended_at"] is None

    def test_a_task_that_cannot_be_healed_is_still_told(self, store, db, tasks):
        task_id = created(store, tasks, priority=13)
        pass_time(db, PENDING_FOR + 1)
        db.execute(
            "alter table public.tasks add constraint unlucky check (status <> 'failed' or "
            "priority <> 13)"
        )
        try:
            found = store.status(tasks, task_id)
        finally:
            db.execute("alter table public.tasks drop constraint unlucky")
        assert (found.state, found.overdue, found.rescued) == ("pending", True, [])

    def test_eight_polls_at_once_heal_a_task_once(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        found = at_once(*[lambda: store.status(tasks, attempt.task_id)] * 8)
        assert sum(len(one.rescued) for one in found) == 1
        assert [one["outcome"] for one in attempts(db, attempt.task_id)] == ["retried"]
