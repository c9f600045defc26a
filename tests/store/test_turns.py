"""A task whose kind is being worked on waits for its turn: nobody fails it as never claimed, and
its push is not sent twice. Over each store."""

from tests.sql import pass_time
from tests.store.steps import (
    LEASE,
    PENDING_FOR,
    REDISPATCH_AFTER,
    claimed_again,
    created,
    one,
    settled,
    swept,
)

AT_MOST = 4 * PENDING_FOR


def worked_off(store, watch, attempt):
    settled(store, watch, attempt, "complete", result={})


class TestTurns:
    def test_a_burst_that_one_worker_takes_in_order_fails_for_nobody(self, store, db, tasks):
        """Twelve tasks, each as long as a quarter of the time that a task may wait."""
        ids = [created(store, tasks) for _ in range(12)]
        for _ in ids:
            attempt = claimed_again(store, tasks, None)
            pass_time(db, PENDING_FOR / 4)
            db.execute("update unstuck.attempts set lease_until = clock_timestamp() + lease")
            assert swept(store, tasks) == []
            worked_off(store, tasks, attempt)
        assert one(db, "select count(*) from tasks where status = 'completed'")["count"] == 12

    def test_when_the_workers_are_gone_its_time_counts_from_the_last_one(self, store, db, tasks):
        first, second = created(store, tasks), created(store, tasks)
        pass_time(db, PENDING_FOR - 10)
        worked_off(store, tasks, claimed_again(store, tasks, first))
        pass_time(db, PENDING_FOR - 10)
        assert swept(store, tasks) == []
        status = store.status(tasks, second)
        assert (status.overdue, 0 < status.pending_left <= 10) == (False, True)
        pass_time(db, 11)
        assert [task.task_id for task in swept(store, tasks)] == [second]

    def test_a_task_waits_for_its_turn_behind_other_kinds_too(self, store, db, tasks):
        first, second = created(store, tasks), created(store, tasks, "once")
        pass_time(db, PENDING_FOR - 10)
        worked_off(store, tasks, claimed_again(store, tasks, first))
        pass_time(db, 20)
        assert swept(store, tasks) == []
        pass_time(db, PENDING_FOR)
        assert [task.task_id for task in swept(store, tasks)] == [second]

    def test_one_of_a_kind_that_nobody_takes_does_not_wait_for_those_that_came_after_it(
        self, store, db, tasks
    ):
        left = created(store, tasks, "once")
        pass_time(db, PENDING_FOR - 10)
        worked_off(store, tasks, claimed_again(store, tasks, created(store, tasks)))
        pass_time(db, 20)
        assert [task.task_id for task in swept(store, tasks)] == [left]

    def test_there_is_a_bound_and_the_sentence_tells_of_the_queue(self, store, db, tasks):
        left = created(store, tasks)
        for _ in range(5):
            worked_off(store, tasks, claimed_again(store, tasks, created(store, tasks)))
            assert swept(store, tasks) == []
            pass_time(db, AT_MOST / 5)
        worked_off(store, tasks, claimed_again(store, tasks, created(store, tasks)))
        (rescued,) = swept(store, tasks)
        assert (rescued.task_id, rescued.reason) == (left, "never_claimed")
        assert rescued.error == "Its turn did not come in time: more tasks came than were done."

    def test_what_is_stuck_is_the_same_for_all_readers(self, store, db, tasks):
        first, second = created(store, tasks), created(store, tasks)
        pass_time(db, PENDING_FOR + 5)
        worked_off(store, tasks, claimed_again(store, tasks, first))
        assert store.preview(tasks, 10) == []
        assert store.overview(tasks).overdue.count == 0
        assert store.pulse(tasks).stuck.count == 0
        assert store.page(tasks, {"state": "stuck"}, 10).tasks == []
        (shown,) = store.page(tasks, {"state": "pending"}, 10).tasks
        assert (shown.task_id, shown.late) == (second, None)
        assert claimed_again(store, tasks, None).task_id == second

    def test_a_push_is_not_sent_again_while_tasks_before_it_are_claimed(self, store, db, tasks):
        ids = [created(store, tasks) for _ in range(4)]
        pass_time(db, REDISPATCH_AFTER)
        for task_id in ids[:3]:
            pass_time(db, REDISPATCH_AFTER / 2)
            worked_off(store, tasks, claimed_again(store, tasks, task_id))
            assert store.redispatch(tasks, 10) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        assert [task.task_id for task in store.redispatch(tasks, 10)] == [ids[3]]

    def test_a_push_is_sent_again_when_later_tasks_are_claimed_before_it(self, store, db, tasks):
        lost = created(store, tasks)
        pass_time(db, REDISPATCH_AFTER + 1)
        worked_off(store, tasks, claimed_again(store, tasks, created(store, tasks)))
        assert [task.task_id for task in store.redispatch(tasks, 10)] == [lost]

    def test_a_worker_that_died_does_not_keep_the_others_waiting(self, store, db, tasks):
        first, second = created(store, tasks), created(store, tasks, "once")
        claimed_again(store, tasks, first)
        pass_time(db, LEASE + PENDING_FOR + 1)
        assert {task.task_id for task in swept(store, tasks)} == {first, second}
