"""Orphans over each store."""

from tests.sql import pass_time
from tests.store.steps import LEASE, attempts, claimed, swept


class TestOrphans:
    def test_an_attempt_whose_task_was_deleted_ends_after_its_lease(self, store, db, tasks):
        gone, there = claimed(store, tasks), claimed(store, tasks)
        db.execute("delete from public.tasks where id = %s", (gone.task_id,))
        assert (swept(store, tasks), store.orphans(tasks, 5)) == ([], 0)
        pass_time(db, LEASE + 1)
        assert store.orphans(tasks, 5) == 1
        (ended,) = attempts(db, gone.task_id)
        assert (ended["outcome"], ended["error"], ended["sweep_id"]) == (
            "overtaken",
            "The task was deleted.",
            5,
        )
        assert attempts(db, there.task_id)[0]["ended_at"] is None
        assert store.orphans(tasks, 6) == 0

    def test_they_end_in_the_call_that_tells_what_is_open_then(self, store, db, tasks):
        gone, there = claimed(store, tasks), claimed(store, tasks)
        db.execute("delete from public.tasks where id = %s", (gone.task_id,))
        pass_time(db, LEASE + 1)
        store.beat(tasks, there.task_id, there.token)
        tidied = store.tidy(tasks, 5)
        assert (tidied.orphaned, tidied.open.live) == (1, 1)
        assert [tasks.count for tasks in tidied.open.open] == [1]
