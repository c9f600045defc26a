"""Hooks over each store."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from functions.errors import StoreError
from tests.sql import pass_time
from tests.store.steps import (
    LEASE,
    PENDING_FOR,
    Db,
    attempts,
    claimed,
    claimed_again,
    created,
    row,
    settled,
    swept,
)


class TestHooks:
    @pytest.fixture
    def said(self, db: Db) -> Callable[[], list[tuple[Any, ...]]]:
        def said() -> list[tuple[Any, ...]]:
            found = db.execute("select * from public.said").fetchall()
            return [(one["hook"], one["task_id"], one["number"], one["what"]) for one in found]

        return said

    def test_each_is_called_once_with_the_task_and_its_attempt(self, store, hooked, said):
        attempt = claimed(store, hooked)
        task_id = attempt.task_id
        for _ in range(2):
            settled(store, hooked, attempt, "complete", result={"n": 1})
        assert said() == [
            ("created", task_id, None, None),
            ("completed", task_id, 1, '{"n": 1}'),
            ("ended", task_id, 1, None),
        ]

    def test_a_create_that_finds_a_task_calls_none(self, store, hooked, said):
        for _ in range(2):
            store.create(hooked, "image", {}, key="k1")
        assert len(said()) == 1

    def test_a_retry_calls_none_and_the_last_failure_one(self, store, hooked, said):
        task_id = created(store, hooked)
        for _ in range(3):
            settled(
                store,
                hooked,
                claimed_again(store, hooked, task_id),
                "retry",
                reason="transient",
                after=0,
            )
        assert said()[1:] == [("failed", task_id, 3, "transient_exhausted")]

    def test_a_sweep_calls_one_for_each_task_that_it_failed(self, store, db, hooked, said):
        lost, retried = claimed(store, hooked, "once").task_id, claimed(store, hooked).task_id
        waiting = created(store, hooked)
        pass_time(db, PENDING_FOR + 1)
        assert len(swept(store, hooked)) == 3
        failed = {
            task_id: (number, what) for hook, task_id, number, what in said() if hook == "failed"
        }
        assert failed == {lost: (1, "attempts_exhausted"), waiting: (1, "never_claimed")}
        assert retried not in failed

    def test_a_task_that_somebody_moved_calls_none(self, store, db, hooked, said):
        swept_later, settled_later = claimed(store, hooked, "once"), claimed(store, hooked, "once")
        db.execute("alter table public.hooked disable trigger unstuck_fence")
        db.execute("update public.hooked set status = 'completed'")
        db.execute("alter table public.hooked enable trigger unstuck_fence")
        store.settle(hooked, settled_later.task_id, settled_later.token, "fail")
        pass_time(db, LEASE + 1)
        store.sweep(hooked, 500)
        assert {hook for hook, *_ in said()} == {"created"}
        assert attempts(db, swept_later.task_id)[0]["outcome"] == "overtaken"

    def test_one_that_fails_takes_the_settle_back(self, store, db, hooked, said):
        attempt = claimed(store, hooked)
        with pytest.raises(StoreError, match="the hook refuses") as refused:
            store.settle(
                hooked, attempt.task_id, attempt.token, "complete", result={"refuse": True}
            )
        assert (refused.value.retryable, refused.value.code) == (False, "P0001")
        assert row(db, attempt.task_id, "hooked")["status"] == "processing"
        assert attempts(db, attempt.task_id)[0]["ended_at"] is None
        settled(store, hooked, attempt, "complete", result={})
        assert [hook for hook, *_ in said()] == ["created", "completed", "ended"]

    def test_one_that_fails_in_a_sweep_does_not_stop_the_others(self, store, db, hooked, said):
        bad = created(store, hooked, metadata={"refuse": True})
        good = [created(store, hooked) for _ in range(3)]
        pass_time(db, PENDING_FOR + 1)
        answer = store.sweep(hooked, 500)
        assert {task.task_id for task in answer.rescued} == set(good)
        assert [(task.task_id, task.code) for task in answer.unsweepable] == [(bad, "P0001")]
        assert Counter(hook for hook, *_ in said()) == {"created": 4, "failed": 3}
        assert row(db, bad, "hooked")["status"] == "pending"

    def test_what_a_person_does_calls_one_for_each_task_that_moved(self, store, hooked, said):
        held, waiting = claimed(store, hooked).task_id, created(store, hooked)
        for _ in range(2):
            store.operate(hooked, "cancel", [held])
            store.operate(hooked, "fail", [waiting])
        for _ in range(2):
            store.operate(hooked, "retry", [held, waiting])
        assert Counter(said()) == {
            ("created", held, None, None): 1,
            ("created", waiting, None, None): 1,
            ("cancelled", held, 1, "cancelled"): 1,
            ("failed", waiting, 1, "by_hand"): 1,
            ("reopened", held, None, None): 1,
            ("reopened", waiting, None, None): 1,
        }

    def test_one_that_refuses_a_task_says_why_and_with_which_status(self, store, db, hooked, said):
        with pytest.raises(StoreError) as refused:
            store.create(hooked, "image", {}, metadata={"dear": True})
        assert (refused.value.code, refused.value.retryable) == ("PT402", False)
        assert str(refused.value) == "hooked_create: It costs too much."
        assert said() == db.execute("select from public.hooked").fetchall() == []

    def test_a_task_is_not_opened_again_when_a_hook_refuses(self, store, db, hooked, said):
        task_id = created(store, hooked, metadata={"closed": True})
        store.operate(hooked, "cancel", [task_id])
        with pytest.raises(StoreError, match="the hook refuses"):
            store.operate(hooked, "retry", [task_id])
        assert row(db, task_id, "hooked")["status"] == "cancelled"
        assert [hook for hook, *_ in said()] == ["created", "cancelled"]

    def test_a_batch_calls_them_in_the_order_of_the_owners(self, store, db, hooked, said):
        owners = {created(store, hooked, owner=owner): owner for owner in ("d", "a", "c", "b")}
        pass_time(db, PENDING_FOR + 1)
        store.sweep(hooked, 500)
        store.operate(hooked, "retry", list(owners))
        store.operate(hooked, "cancel", list(owners))
        for hook in ("failed", "reopened", "cancelled"):
            assert [owners[task_id] for name, task_id, *_ in said() if name == hook] == [
                "a",
                "b",
                "c",
                "d",
            ]

    def test_each_run_of_the_sweep_calls_one(self, store, hooked, tasks, said):
        for watch in (hooked, tasks):
            store.orphans(watch, store.sweep_begin(None, "test", 0.0).sweep_id)
        assert said() == [("swept", "-", None, None)]
