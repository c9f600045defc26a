"""Checkpoint over each store."""

import pytest

from functions.core.answers import Held
from tests.sql import pass_time
from tests.store.steps import (
    LEASE,
    SILENT_FOR,
    by_foreigner,
    claimed,
    claimed_again,
    refusals,
    settled,
    swept,
)


class TestCheckpoint:
    def test_checkpoints_add_up_and_the_last_word_on_a_name_counts(self, store, db, tasks):
        attempt = claimed(store, tasks)

        def save(name, data):
            return store.checkpoint(tasks, attempt.task_id, attempt.token, name, data)

        assert save("upload", {"url": "a"}) == Held()
        save("render", [1, 2])
        save("upload", {"url": "b"})
        assert store.payload(tasks, attempt.task_id).checkpoints == {
            "upload": {"url": "b"},
            "render": [1, 2],
        }

    def test_a_checkpoint_is_a_beat(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE - 1)
        store.checkpoint(tasks, attempt.task_id, attempt.token, "step", 1)
        pass_time(db, LEASE - 1)
        assert swept(store, tasks) == []

    @pytest.mark.parametrize("how", ["retry", "release", "sweep", "take over"])
    def test_the_next_attempt_begins_with_the_checkpoints_of_the_last(self, store, db, tasks, how):
        attempt = claimed(store, tasks)
        store.checkpoint(tasks, attempt.task_id, attempt.token, "step", {"n": 1})
        if how in {"retry", "release"}:
            settled(store, tasks, attempt, how, reason="transient", after=0)
        else:
            pass_time(db, LEASE + 1)
        if how == "sweep":
            swept(store, tasks)
            pass_time(db, 60)
        assert claimed_again(store, tasks, attempt.task_id).checkpoint == {"step": {"n": 1}}

    def test_checkpoints_outlive_a_stretch_in_the_hands_of_a_worker_without_a_guard(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        store.checkpoint(tasks, attempt.task_id, attempt.token, "step", {"n": 1})
        settled(store, tasks, attempt, "retry", reason="transient", after=0)
        by_foreigner(db, attempt.task_id, "processing")
        pass_time(db, SILENT_FOR + 1)
        assert [task.cause for task in swept(store, tasks)] == ["stale"]
        pass_time(db, 60)
        assert claimed_again(store, tasks, attempt.task_id).checkpoint == {"step": {"n": 1}}

    def test_a_checkpoint_of_an_attempt_that_ended_is_lost(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "retry", reason="transient")
        answer = store.checkpoint(tasks, attempt.task_id, attempt.token, "step", 1)
        assert (answer.verdict, answer.reason) == ("lost", "transient")
        assert store.payload(tasks, attempt.task_id).checkpoints == {}
        assert refusals(db, attempt.task_id) == [("verb", "checkpoint", "retried")]
