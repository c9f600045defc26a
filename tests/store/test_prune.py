"""Prune over each store."""

from tests.sql import pass_time
from tests.store.steps import (
    NIL,
    REDISPATCH_AFTER,
    attempts,
    claimed,
    claimed_again,
    created,
    one,
    row,
    settled,
)


class TestPrune:
    def test_what_is_old_and_ended_goes_and_the_rest_stays(self, store, db, tasks):
        old, held = claimed(store, tasks), claimed(store, tasks)
        settled(store, tasks, old, "complete")
        store.settle(tasks, old.task_id, NIL, "complete")
        created(store, tasks)
        pass_time(db, REDISPATCH_AFTER + 1)
        store.redispatch(tasks, 500)
        store.sweep_end(store.sweep_begin("k1", "test", 45).sweep_id, ok=True, counts={})
        pass_time(db, 86_400)
        young = claimed(store, tasks)
        settled(store, tasks, young, "complete")
        assert store.prune(2 * 86_400) == 0
        assert store.prune(3600) == 1
        assert attempts(db, old.task_id) == []
        assert len(attempts(db, held.task_id)) == len(attempts(db, young.task_id)) == 1
        for table in ("sweeps", "refusals", "dispatches"):
            assert one(db, f"select count(*) from unstuck.{table}")["count"] == 0
        assert row(db, old.task_id)["status"] == "completed"

    def test_a_prune_is_bounded(self, store, db, tasks):
        for _ in range(5):
            settled(store, tasks, claimed(store, tasks), "complete")
        pass_time(db, 3600)
        counts = [store.call("prune", {"p_keep": 60.0, "p_limit": 2}, 5.0) for _ in range(4)]
        assert counts == [2, 2, 1, 0]

    def test_numbers_go_on_where_they_were_while_a_later_attempt_is_kept(self, store, db, tasks):
        first = claimed(store, tasks)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        pass_time(db, 3600)
        second = claimed_again(store, tasks, first.task_id)
        settled(store, tasks, second, "retry", reason="transient", after=0)
        assert store.prune(1800) == 1
        third = claimed_again(store, tasks, first.task_id)
        assert (third.number, third.tries) == (3, 3)
