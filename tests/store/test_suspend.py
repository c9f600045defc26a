"""Suspend over each store."""

import pytest

from tests.sql import pass_time
from tests.store.steps import LEASE, claimed, claimed_again, swept


class TestSuspend:
    def test_when_most_leases_run_out_at_once_each_gets_one_more_once(
        self, store, db, tasks, policy
    ):
        for _ in range(12):
            claimed(store, tasks)
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 12
        assert swept(store, tasks) == []
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 0
        rescued = swept(store, tasks)
        assert len(rescued) == 12
        assert {task.tries for task in rescued} == {1}

    def test_a_worker_that_beats_again_is_granted_the_next_one_too(self, store, db, tasks, policy):
        held = [claimed(store, tasks) for _ in range(10)]
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 10
        for attempt in held:
            store.beat(tasks, attempt.task_id, attempt.token)
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 10

    @pytest.mark.parametrize(
        ("expired", "alive", "granted"), [(9, 0, 0), (10, 10, 0), (11, 10, 11), (10, 0, 10)]
    )
    def test_few_losses_are_the_workers_own(
        self, store, db, tasks, policy, expired, alive, granted
    ):
        for _ in range(expired):
            claimed(store, tasks)
        pass_time(db, LEASE + 1)
        for _ in range(alive):
            claimed(store, tasks)
        assert store.suspend(tasks, policy) == granted

    def test_a_run_is_told_for_how_long_and_of_which_tasks_nobody_was_heard(
        self, store, db, tasks, policy
    ):
        held = [claimed(store, tasks).task_id for _ in range(10)]
        pass_time(db, LEASE + 1)
        first = store.lapsed(tasks, policy)
        assert (first.suspended, first.unsure) == (10, [])
        assert 0 < first.left <= LEASE
        pass_time(db, LEASE + 1)
        second = store.lapsed(tasks, policy)
        assert (second.suspended, second.left) == (0, 0)
        assert sorted(second.unsure) == sorted(held)

    def test_a_deadline_is_not_put_off(self, store, db, tasks, policy):
        for _ in range(12):
            claimed(store, tasks, "hasty")
        pass_time(db, 81)
        assert store.suspend(tasks, policy) == 0
        assert len(swept(store, tasks)) == 12

    def test_watches_are_counted_apart(self, store, db, tasks, hooked, policy):
        for watch in [tasks] * 6 + [hooked] * 6:
            claimed(store, watch)
        pass_time(db, LEASE + 1)
        assert (store.suspend(tasks, policy), store.suspend(hooked, policy)) == (0, 0)

    def test_a_burst_that_kills_its_workers_at_each_try_is_put_off_once(
        self, store, db, tasks, policy
    ):
        ids = [claimed(store, tasks).task_id for _ in range(12)]
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 12
        for _ in range(2):
            pass_time(db, LEASE + 1)
            assert store.suspend(tasks, policy) == 0
            assert len(swept(store, tasks)) == 12
            pass_time(db, 20)
            for task_id in ids:
                claimed_again(store, tasks, task_id)

    def test_where_heartbeats_of_others_arrive_it_is_half_of_a_lease(
        self, store, db, tasks, policy
    ):
        for _ in range(12):
            claimed(store, tasks)
        other = claimed(store, tasks)
        pass_time(db, LEASE - 1)
        store.beat(tasks, other.task_id, other.token)
        pass_time(db, 2)
        store.beat(tasks, other.task_id, other.token)
        assert store.suspend(tasks, policy) == 12
        pass_time(db, LEASE / 2 - 1)
        assert swept(store, tasks) == []
        pass_time(db, 2)
        assert len(swept(store, tasks)) == 12
