"""Beat over each store."""

import pytest

from functions.core.answers import Held
from tests.sql import pass_time
from tests.store.steps import (
    DEADLINE,
    LEASE,
    NIL,
    attempts,
    claimed,
    claimed_again,
    refusals,
    settled,
    swept,
)


class TestBeat:
    def test_a_beat_extends_the_lease(self, store, db, tasks):
        attempt = claimed(store, tasks)
        for _ in range(3):
            pass_time(db, LEASE - 1)
            assert store.beat(tasks, attempt.task_id, attempt.token) == Held()
        assert swept(store, tasks) == []
        assert attempts(db, attempt.task_id)[0]["beats"] == 3

    def test_progress_is_merged_and_shown_by_status(self, store, tasks):
        attempt = claimed(store, tasks)
        beat = lambda progress: store.beat(tasks, attempt.task_id, attempt.token, progress)  # noqa: E731
        beat({"fraction": 0.1, "message": "reading"})
        beat(None)
        beat({"fraction": 0.5})
        progress = store.status(tasks, attempt.task_id).attempt.progress
        assert progress == {"fraction": 0.5, "message": "reading"}

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_a_beat_after_the_end_is_lost(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, outcome, reason="shutdown")
        answer = store.beat(tasks, attempt.task_id, attempt.token)
        assert answer.verdict == "lost"
        assert answer.outcome == attempts(db, attempt.task_id)[0]["outcome"]
        assert refusals(db, attempt.task_id) == [("verb", "beat", answer.outcome)]

    def test_a_beat_does_not_revive_a_lease_that_was_taken(self, store, db, tasks):
        zombie = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        second = claimed_again(store, tasks, zombie.task_id)
        answer = store.beat(tasks, zombie.task_id, zombie.token)
        assert (answer.verdict, answer.outcome, answer.reason) == ("lost", "retried", "lease_lost")
        assert (answer.kind, answer.number) == (zombie.kind, 1)
        assert store.beat(tasks, zombie.task_id, second.token).verdict == "held"

    def test_a_late_beat_revives_a_lease_that_nobody_took(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        assert store.beat(tasks, attempt.task_id, attempt.token).verdict == "held"
        assert swept(store, tasks) == []

    def test_no_beat_carries_an_attempt_over_its_deadline(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, DEADLINE + 1)
        store.beat(tasks, attempt.task_id, attempt.token)
        assert [task.cause for task in swept(store, tasks)] == ["deadline"]

    def test_a_beat_with_an_unknown_token_is_lost(self, store, tasks):
        attempt = claimed(store, tasks)
        assert store.beat(tasks, attempt.task_id, NIL).verdict == "lost"

    def test_a_token_is_good_for_its_own_task_only(self, store, tasks):
        mine, other = claimed(store, tasks), claimed(store, tasks)
        assert store.beat(tasks, other.task_id, mine.token).verdict == "lost"
        assert store.settle(tasks, other.task_id, mine.token, "complete").verdict == "lost"
