"""Overview over each store."""

from functions.core.record import plain
from tests.sql import pass_time
from tests.store.steps import NIL, claimed, created, settled


class TestOverview:
    def test_it_counts_what_is_open_overdue_and_ended(self, store, db, tasks, hooked):
        created(store, tasks)
        created(store, tasks, "hasty")
        pass_time(db, 100)
        settled(store, tasks, claimed(store, tasks), "complete")
        settled(store, tasks, claimed(store, tasks), "fail", reason="handler_error")
        store.settle(tasks, claimed(store, tasks).task_id, NIL, "complete")
        claimed(store, hooked)
        found = store.overview(tasks)
        counted = {(group.state, group.kind): group.count for group in found.open}
        assert counted == {
            ("pending", "hasty"): 1,
            ("pending", "image"): 1,
            ("running", "image"): 1,
        }
        assert 100 <= next(group.oldest for group in found.open if group.state == "pending") < 101
        assert (found.live, found.live_by_kind, found.refused) == (1, {"image": 1}, 1)
        assert found.overdue.count == 1
        assert 40 <= found.overdue.oldest < 41
        ended = {(group.outcome, group.reason): group.count for group in found.ended}
        assert ended == {("completed", None): 1, ("failed", "handler_error"): 1}

    def test_of_an_empty_table_it_tells_nothing(self, store, tasks):
        assert plain(store.overview(tasks)) == {
            "open": [],
            "live": 0,
            "live_by_kind": {},
            "overdue": {"count": 0, "oldest": None, "unjudged": 0},
            "ended": [],
            "refused": 0,
            "last_sweep": None,
            "estimated": False,
        }

    def test_it_shows_the_last_sweep(self, store, db, tasks):
        run = store.sweep_begin(None, "test", 45).sweep_id
        store.sweep_end(run, ok=True, counts={"failed": 3})
        pass_time(db, 90)
        last = store.overview(tasks).last_sweep
        assert (last.ok, last.counts) == (True, {"failed": 3})
        assert 90 <= last.ago < 91
