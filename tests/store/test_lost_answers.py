"""LostAnswers over each store."""

from typing import Any

import pytest

from functions.core.answers import SweepBegun, SweepNotBegun, SweepRefusal
from functions.errors import StoreError
from functions.store import Store
from tests.sql import pass_time
from tests.store.steps import PENDING_FOR, attempts, one, refusals, settled


class TestLostAnswers:
    """A verb that was done but whose answer never came is repeated by the store, and does no
    harm."""

    @pytest.fixture
    def forgetful(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
        really, lost = store.call, set()

        def call(function: str, arguments: dict[str, Any], limit: float) -> Any:
            answer = really(function, arguments, limit)
            if function not in lost:
                lost.add(function)
                raise StoreError("the connection broke", retryable=True)
            return answer

        monkeypatch.setattr(store, "call", call)
        return store

    def test_a_task_is_created_once(self, forgetful, db, tasks):
        task_id = forgetful.create(tasks, "image", {}, key="k1").task_id
        assert str(one(db, "select id from public.tasks")["id"]) == task_id

    @pytest.mark.parametrize("given", [True, False])
    def test_a_task_is_claimed_once(self, forgetful, db, tasks, given):
        task_ids = [forgetful.create(tasks, "image", {}).task_id for _ in range(2)]
        attempt = forgetful.claim(tasks, task_ids[0] if given else None, "w")
        assert (attempt.verdict, attempt.task_id) == ("claimed", task_ids[0])
        assert str(one(db, "select token from unstuck.attempts")["token"]) == attempt.token

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_an_attempt_beats_checks_in_and_is_settled_once(self, forgetful, db, tasks, outcome):
        attempt = forgetful.claim(tasks, forgetful.create(tasks, "image", {}).task_id, "w")
        assert forgetful.beat(tasks, attempt.task_id, attempt.token).verdict == "held"
        assert (
            forgetful.checkpoint(tasks, attempt.task_id, attempt.token, "step", 1).verdict == "held"
        )
        settled(forgetful, tasks, attempt, outcome, reason="shutdown")
        assert len(attempts(db, attempt.task_id)) == 1
        assert refusals(db, attempt.task_id) == []

    def test_a_run_begins_and_ends_once(self, forgetful, db):
        begun = forgetful.sweep_begin("k1", "test", 45)
        assert isinstance(begun, SweepBegun)
        assert begun.sweep_id == one(db, "select id from unstuck.sweeps")["id"]
        assert forgetful.sweep_begin("k2", "test", 45) == SweepNotBegun(SweepRefusal.RUNNING)
        forgetful.sweep_end(begun.sweep_id, ok=True, counts={})
        assert forgetful.sweep_begin("k1", "test", 45) == SweepNotBegun(SweepRefusal.DUPLICATE)

    def test_each_task_of_a_batch_is_reported_once(self, forgetful, db, tasks):
        requeued, *failed = (forgetful.create(tasks, "image", {}).task_id for _ in range(5))
        forgetful.claim(tasks, requeued, "w")
        pass_time(db, PENDING_FOR + 1)
        run, said = forgetful.sweep_begin(None, "test", 45).sweep_id, []
        while True:
            batch = forgetful.sweep(tasks, 2, sweep_id=run)
            said += [(task.task_id, task.state, task.number, task.reason) for task in batch.rescued]
            if not batch.more:
                break
        assert sorted(said) == sorted(
            [
                (requeued, "pending", 1, "deadline"),
                *((one, "failed", 1, "never_claimed") for one in failed),
            ]
        )

    @pytest.mark.parametrize("action", ["requeue", "cancel", "fail"])
    def test_what_a_person_did_is_done_once(self, forgetful, db, tasks, action):
        task_id = forgetful.create(tasks, "image", {}).task_id
        forgetful.claim(tasks, task_id, "w")
        assert forgetful.operate(tasks, action, [task_id]) == [task_id]
        assert len(attempts(db, task_id)) == 1
