"""Redispatch over each store."""

from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    PENDING_FOR,
    REDISPATCH_AFTER,
    claimed,
    claimed_again,
    created,
    settled,
    swept,
)


class TestRedispatch:
    def test_a_task_whose_push_seems_lost_is_sent_again_once_in_each_period(self, store, db, tasks):
        task_id = created(store, tasks)
        claimed(store, tasks)
        assert store.redispatch(tasks, 500) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        (sent,) = store.redispatch(tasks, 500)
        assert (sent.task_id, sent.kind, sent.times) == (task_id, "image", 1)
        assert REDISPATCH_AFTER + 1 <= sent.age <= REDISPATCH_AFTER + 1 + A_MOMENT
        assert store.redispatch(tasks, 500) == []
        pass_time(db, REDISPATCH_AFTER - 1)
        assert store.redispatch(tasks, 500) == []
        pass_time(db, 2)
        assert [again.times for again in store.redispatch(tasks, 500)] == [2]

    def test_after_a_long_silence_of_the_scheduler_a_task_is_sent_again_before_it_fails(
        self, store, db, tasks
    ):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        assert [sent.times for sent in store.redispatch(tasks, 500)] == [1]
        assert swept(store, tasks) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        assert store.redispatch(tasks, 500) == []
        assert [task.task_id for task in swept(store, tasks)] == [task_id]

    def test_the_same_goes_for_a_task_that_was_sent_again_before_an_earlier_try(
        self, store, db, tasks
    ):
        task_id = created(store, tasks)
        pass_time(db, REDISPATCH_AFTER + 1)
        store.redispatch(tasks, 500)
        pass_time(db, 1)
        settled(
            store, tasks, claimed_again(store, tasks, task_id), "retry", reason="transient", after=0
        )
        pass_time(db, PENDING_FOR + 1)
        assert [sent.times for sent in store.redispatch(tasks, 500)] == [2]
        assert swept(store, tasks) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        assert store.redispatch(tasks, 500) == []
        assert [task.task_id for task in swept(store, tasks)] == [task_id]

    def test_each_kind_has_its_own_period(self, store, db, tasks):
        hasty, _ = created(store, tasks, "hasty"), created(store, tasks)
        pass_time(db, 21)
        assert [sent.task_id for sent in store.redispatch(tasks, 500)] == [hasty]

    def test_a_task_that_is_not_due_yet_is_not_sent(self, store, db, tasks):
        created(store, tasks, delay=3600)
        pass_time(db, 1800)
        assert store.redispatch(tasks, 500) == []

    def test_the_oldest_are_sent_first_and_the_others_next_time(self, store, db, tasks):
        wanted = []
        for _ in range(5):
            wanted.append(created(store, tasks))
            pass_time(db, 1)
        pass_time(db, REDISPATCH_AFTER)
        sent = [{task.task_id for task in store.redispatch(tasks, 2)} for _ in range(4)]
        assert sent == [set(wanted[:2]), set(wanted[2:4]), set(wanted[4:]), set()]

    def test_while_workers_take_others_a_task_is_sent_again_ever_more_rarely(
        self, store, db, tasks
    ):
        """Else the pushes of a slow queue make it slower, and it never gets out of it."""
        created(store, tasks)
        periods = []
        for period in range(1, int(PENDING_FOR / REDISPATCH_AFTER)):
            pass_time(db, REDISPATCH_AFTER + 1)
            claimed(store, tasks, "hasty")
            if store.redispatch(tasks, 500):
                periods.append(period)
        assert periods == [1, 2, 4]
