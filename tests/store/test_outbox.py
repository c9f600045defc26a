"""Outbox over each store."""

from functions.core.policy import Watch
from functions.store import Store
from tests.sql import pass_time
from tests.store.steps import PENDING_FOR, Db, claimed, created, settled, swept


class TestOutbox:
    """What people are to be told of: the tasks that a sweep failed, where the watch says
    `notify`."""

    def failed(self, store: Store, db: Db, watch: Watch, count: int) -> list[str]:
        task_ids = sorted(created(store, watch) for _ in range(count))
        pass_time(db, PENDING_FOR + 1)
        swept(store, watch)
        return task_ids

    def test_a_message_tells_of_all_that_waits_and_is_taken_once(self, store, db, hooked):
        task_ids = self.failed(store, db, hooked, 2)
        message = store.outbox_take(60)
        assert sorted(task.task_id for task in message.tasks) == task_ids
        assert {(task.watch, task.kind, task.reason) for task in message.tasks} == {
            ("hooked", "image", "never_claimed")
        }
        assert store.outbox_take(60) is None

    def test_one_that_was_not_sent_comes_again_with_its_name_and_one_that_was_does_not(
        self, store, db, hooked
    ):
        self.failed(store, db, hooked, 1)
        first = store.outbox_take(60)
        store.outbox_end(first.message, "the receiver answered 503", 30)
        pass_time(db, 31)
        again = store.outbox_take(60)
        assert (again.message, again.times) == (first.message, 2)
        for _ in range(2):
            store.outbox_end(first.message)
        pass_time(db, 3600)
        assert store.outbox_take(60) is None

    def test_one_that_is_given_up_does_not_come_again(self, store, db, hooked):
        self.failed(store, db, hooked, 1)
        store.outbox_end(store.outbox_take(60).message, "the receiver answered 404")
        pass_time(db, 3600)
        assert store.outbox_take(60) is None
        assert db.execute("select outcome, error from unstuck.outbox").fetchone() == {
            "outcome": "given up",
            "error": "the receiver answered 404",
        }

    def test_a_worker_s_own_failure_is_told_and_its_success_is_not(self, store, db, hooked):
        failed = claimed(store, hooked)
        settled(store, hooked, failed, "fail")
        settled(store, hooked, claimed(store, hooked), "complete")
        (told,) = store.outbox_take(60).tasks
        assert (told.task_id, told.state) == (failed.task_id, "failed")

    def test_a_callback_is_told_of_its_task_alone_whatever_the_end(self, store, db, tasks):
        url = "https://api.example.com/done"
        one = store.create(tasks, "image", {}, callback=url).task_id
        token = store.claim(tasks, one, "w").token
        settled(store, tasks, claimed(store, tasks), "complete")
        store.settle(tasks, one, token, "complete", result={})
        assert store.outbox_take(60) is None, "the default address is not told of it"
        message = store.outbox_take(60, None, ["default", "callback"])
        assert (message.address, message.url) == ("callback", url)
        assert [(task.task_id, task.state) for task in message.tasks] == [(one, "completed")]
