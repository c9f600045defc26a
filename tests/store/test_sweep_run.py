"""Run over each store."""

from collections import Counter

import pytest

from functions.core.answers import SweepNotBegun, SweepRefusal
from tests.sql import pass_time
from tests.store.steps import at_once, one


class TestRun:
    def test_a_run_is_begun_and_ended(self, store, db):
        begun = store.sweep_begin("2026-01-01T00:00:00Z", "scheduler", 45)
        assert begun.verdict == "begun"
        store.sweep_end(begun.sweep_id, ok=True, counts={"failed": 2})
        run = one(db, "select * from unstuck.sweeps")
        assert (run["id"], run["key"], run["by"]) == (
            begun.sweep_id,
            "2026-01-01T00:00:00Z",
            "scheduler",
        )
        assert (run["ok"], run["counts"], run["error"]) == (True, {"failed": 2}, None)
        assert run["ended_at"] >= run["started_at"]

    def test_a_key_that_was_swept_is_a_duplicate(self, store):
        store.sweep_end(store.sweep_begin("k1", "test", 45).sweep_id, ok=True, counts={})
        assert store.sweep_begin("k1", "test", 45) == SweepNotBegun(SweepRefusal.DUPLICATE)
        assert store.sweep_begin("k2", "test", 45).verdict == "begun"

    @pytest.mark.parametrize("key", ["k1", "k2", None])
    def test_while_a_run_is_at_it_no_other_begins(self, store, key):
        store.sweep_begin("k1", "test", 45)
        assert store.sweep_begin(key, "test", 45) == SweepNotBegun(SweepRefusal.RUNNING)

    @pytest.mark.parametrize("key", ["k1", "k2", None])
    def test_a_run_that_died_is_replaced_after_its_budget(self, store, db, key):
        store.sweep_begin("k1", "test", 45)
        pass_time(db, 46)
        assert store.sweep_begin(key, "test", 45).verdict == "begun"

    def test_a_run_that_failed_can_be_repeated_with_its_key(self, store, db):
        store.sweep_end(
            store.sweep_begin("k1", "test", 45).sweep_id, ok=False, counts={}, error="no database"
        )
        assert store.sweep_begin("k1", "test", 45).verdict == "begun"
        run = one(db, "select * from unstuck.sweeps")
        assert (run["ok"], run["ended_at"], run["error"]) == (None, None, None)

    def test_runs_without_a_key_are_never_duplicates(self, store):
        for _ in range(2):
            begun = store.sweep_begin(None, "test", 45)
            assert begun.verdict == "begun"
            store.sweep_end(begun.sweep_id, ok=True, counts={})

    def test_of_eight_calls_with_one_key_at_once_one_begins(self, store):
        answers = at_once(*[lambda: store.sweep_begin("k1", "test", 45)] * 8)
        assert Counter(answer.verdict for answer in answers) == {"begun": 1, "running": 7}
