"""Fence over each store."""

import pytest

from tests.sql import pass_time
from tests.store.steps import by_foreigner, claimed, created, one, refusals, row, settled, swept


class TestFence:
    @pytest.mark.parametrize("ended", ["completed", "failed", "cancelled"])
    @pytest.mark.parametrize("wanted", ["pending", "processing", "completed", "failed"])
    def test_no_foreign_write_moves_a_task_that_ended(self, store, db, tasks, ended, wanted):
        task_id = created(store, tasks)
        by_foreigner(db, task_id, ended)
        moved = by_foreigner(db, task_id, wanted)
        assert (moved, row(db, task_id)["status"]) == (int(ended == wanted), ended)
        assert refusals(db, task_id) == ([] if ended == wanted else [("fence", wanted, "ended")])

    @pytest.mark.parametrize(
        "write",
        ["result = '{}'", "error_message = 'no'", "reason = null", "reason = 'x', metadata = '{}'"],
    )
    def test_no_foreign_write_changes_how_a_task_ended(self, store, db, tasks, write):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="handler_error")
        before = row(db, attempt.task_id)
        assert db.execute(f"update public.tasks set {write} where status = 'failed'").rowcount == 0
        assert row(db, attempt.task_id) == before
        assert refusals(db, attempt.task_id) == [("fence", "failed", "ended")]

    def test_a_note_on_a_task_that_ended_passes_and_its_end_stays_dated(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "complete")
        before = row(db, attempt.task_id)
        note = """update public.tasks set metadata = '{"seen": true}',
            finished_at = clock_timestamp() + interval '1 h'"""
        assert db.execute(note).rowcount == 1
        assert row(db, attempt.task_id) == before | {"metadata": {"seen": True}}
        assert refusals(db, attempt.task_id) == []

    @pytest.mark.parametrize("wanted", ["pending", "completed", "failed", "cancelled"])
    def test_no_foreign_write_ends_a_task_that_is_held(self, store, db, tasks, wanted):
        attempt = claimed(store, tasks)
        assert by_foreigner(db, attempt.task_id, wanted) == 0
        assert refusals(db, attempt.task_id) == [("fence", wanted, "held")]
        settled(store, tasks, attempt, "complete")

    def test_what_was_refused_names_the_writer(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("set application_name = 'edge-function'")
        by_foreigner(db, attempt.task_id, "failed")
        assert one(db, "select writer from unstuck.refusals")["writer"] == "edge-function"

    def test_a_worker_without_a_guard_may_run_a_task_of_its_own(self, store, db, tasks):
        task_id = created(store, tasks)
        for status in ("processing", "completed"):
            assert by_foreigner(db, task_id, status) == 1
        assert refusals(db, task_id) == []

    def test_other_columns_of_a_held_task_may_be_written(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("update public.tasks set metadata = '{\"seen\": true}'")
        settled(store, tasks, attempt, "complete")
        assert row(db, attempt.task_id)["metadata"] == {"seen": True}

    def test_one_refused_row_does_not_stop_the_others_of_a_statement(self, store, db, tasks):
        held, free = claimed(store, tasks).task_id, created(store, tasks)
        assert db.execute("update public.tasks set status = 'cancelled'").rowcount == 1
        assert [row(db, task_id)["status"] for task_id in (held, free)] == [
            "processing",
            "cancelled",
        ]

    @pytest.mark.parametrize("outcome", [None, "complete"])
    def test_deleting_is_allowed(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        if outcome:
            settled(store, tasks, attempt, outcome)
        assert db.execute("delete from public.tasks").rowcount == 1

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_a_settle_passes(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, outcome)
        assert row(db, attempt.task_id)["status"] != "processing"
        assert refusals(db, attempt.task_id) == []

    def test_a_sweep_passes(self, store, db, tasks):
        held, waiting, silent = (
            claimed(store, tasks).task_id,
            created(store, tasks),
            created(store, tasks),
        )
        by_foreigner(db, silent, "processing")
        pass_time(db, 3600)
        assert len(swept(store, tasks)) == 3
        assert [row(db, one)["status"] for one in (held, waiting, silent)] == [
            "pending",
            "failed",
            "pending",
        ]
