"""Look over each store."""

from typing import Any

from functions.core.policy import Watch
from functions.store import Store
from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    LEASE,
    SILENT_FOR,
    by_foreigner,
    claimed,
    claimed_again,
    created,
    settled,
    swept,
)


class TestLook:
    """What operators ask for: find, history and preview. They write nothing."""

    def found(self, store: Store, watch: Watch, **wanted: Any) -> list[str]:
        return [task.task_id for task in store.find(watch, wanted, 500)]

    def test_without_a_filter_the_open_tasks_are_found_in_the_order_of_their_keys(
        self, store, tasks
    ):
        waiting, held = created(store, tasks), claimed(store, tasks).task_id
        settled(store, tasks, claimed(store, tasks), "complete")
        assert self.found(store, tasks) == sorted([waiting, held])

    def test_tasks_are_found_by_what_they_are_and_how_they_ended(self, store, db, tasks):
        old = created(store, tasks, "patient", owner="ann")
        pass_time(db, 1000)
        young = created(store, tasks, "image", owner="bob")
        failed = claimed(store, tasks)
        settled(store, tasks, failed, "fail", reason="handler_error", error="No.")
        lost = claimed(store, tasks, "once")
        pass_time(db, LEASE + 1)
        swept(store, tasks, sweep_id=42)
        assert self.found(store, tasks, ids=[old, failed.task_id]) == [old]
        assert self.found(store, tasks, ids=[failed.task_id], states=["failed"]) == [failed.task_id]
        assert (
            self.found(store, tasks, kind="patient")
            == self.found(store, tasks, owner="ann")
            == [old]
        )
        assert self.found(store, tasks, owner="bob", kind="patient") == []
        assert self.found(store, tasks, states=["failed"], reason="handler_error") == [
            failed.task_id
        ]
        assert self.found(store, tasks, states=["failed"], sweep_id=42) == [lost.task_id]
        assert self.found(store, tasks, older_than=900) == [old]
        assert self.found(store, tasks, older_than=10) == sorted([old, young])
        assert self.found(store, tasks, ids=[]) == []

    def test_what_is_found_says_enough_to_act_on(self, store, db, tasks):
        attempt = claimed(store, tasks, owner="ann")
        pass_time(db, 10)
        (found,) = store.find(tasks, {}, 500)
        names = ("task_id", "state", "word", "kind", "owner", "number", "tries", "worker", "error")
        assert [vars(found)[name] for name in names] == [
            attempt.task_id,
            "running",
            "processing",
            "image",
            "ann",
            1,
            1,
            "worker-1",
            None,
        ]
        assert 10 <= found.age <= 10 + A_MOMENT

    def test_many_are_read_page_by_page(self, store, tasks):
        wanted = sorted(created(store, tasks) for _ in range(5))
        pages, after = [], None
        while page := store.find(tasks, {}, 2, after):
            pages.append([task.task_id for task in page])
            after = pages[-1][-1]
        assert pages == [wanted[:2], wanted[2:4], wanted[4:]]

    def test_the_history_of_a_task_is_its_attempts(self, store, tasks):
        task_id = created(store, tasks)
        assert store.history(tasks, task_id) == []
        first = claimed_again(store, tasks, task_id)
        store.checkpoint(tasks, task_id, first.token, "step", {"secret": 1})
        settled(
            store, tasks, first, "retry", reason="transient", error="Busy.", detail="503", after=0
        )
        claimed_again(store, tasks, task_id)
        history = store.history(tasks, task_id)
        names = ("number", "tries", "worker", "outcome", "reason", "error", "detail", "checkpoints")
        assert [[vars(one)[name] for name in names] for one in history] == [
            [1, 1, "worker-1", "retried", "transient", "Busy.", "503", ["step"]],
            [2, 2, "worker-1", None, None, None, None, ["step"]],
        ]
        assert "secret" not in str(history)

    def test_a_preview_is_what_the_next_sweep_does_and_does_it_not(self, store, db, tasks):
        assert store.preview(tasks, 500) == []
        claimed(store, tasks)
        claimed(store, tasks, "once")
        created(store, tasks)
        by_foreigner(db, created(store, tasks), "processing")
        pass_time(db, SILENT_FOR + 1)
        before = db.execute("select * from public.tasks order by id").fetchall()
        seen = store.preview(tasks, 500)
        assert db.execute("select * from public.tasks order by id").fetchall() == before
        same = ("task_id", "was", "state", "reason", "number", "tries")
        done = {tuple(vars(task)[name] for name in same) for task in swept(store, tasks)}
        assert {tuple(vars(task)[name] for name in same) for task in seen} == done
        assert len(done) == 4
        assert store.preview(tasks, 500) == []

    def test_what_is_stuck_is_counted_by_kind_and_reason(self, store, db, tasks):
        assert (store.stuck(tasks, 10).count, store.stuck(tasks, 10).groups) == (0, [])
        for _ in range(2):
            claimed(store, tasks)
        claimed(store, tasks, "once")
        created(store, tasks)
        pass_time(db, SILENT_FOR + 1)
        answer = store.stuck(tasks, 3)
        counted = {(g.kind, g.was, g.state, g.reason): g.count for g in answer.groups}
        assert counted == {
            ("image", "running", "pending", "deadline"): 2,
            ("once", "running", "failed", "attempts_exhausted"): 1,
            ("image", "pending", "failed", "never_claimed"): 1,
        }
        assert (answer.count, len(answer.tasks)) == (4, 3)
        assert all(SILENT_FOR < group.oldest < SILENT_FOR + 60 for group in answer.groups)

    def test_a_task_of_last_month_that_ran_outside_the_guard_is_not_started_again(
        self, store, db, tasks
    ):
        by_foreigner(db, created(store, tasks), "processing")
        pass_time(db, 30 * 86_400)
        young = created(store, tasks)
        by_foreigner(db, young, "processing")
        pass_time(db, 2 * 3600)
        would = {task.task_id: task.state for task in store.preview(tasks, 10)}
        done = {task.task_id: (task.state, task.reason) for task in swept(store, tasks)}
        assert done.pop(young) == ("pending", "stale")
        assert list(done.values()) == [("failed", "stale")]
        assert would == {young: "pending", next(iter(done)): "failed"}
