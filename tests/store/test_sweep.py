"""Sweep over each store."""

import pytest

from functions.core.answers import Batch
from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    LEASE,
    PENDING_FOR,
    SILENT_FOR,
    at_once,
    attempts,
    by_foreigner,
    claimed,
    claimed_again,
    created,
    one,
    past_the_fence,
    put_back,
    row,
    swept,
)


class TestSweep:
    def test_with_nothing_overdue_it_does_nothing(self, store, db, tasks):
        claimed(store, tasks)
        created(store, tasks)
        assert store.sweep(tasks, 500) == Batch([], [], more=False)

    def test_a_lost_lease_puts_the_task_back(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE - A_MOMENT)
        assert swept(store, tasks) == []
        pass_time(db, 2)
        (rescued,) = swept(store, tasks, sweep_id=42)
        assert {
            name: vars(rescued)[name]
            for name in ("task_id", "kind", "was", "live", "number", "tries", "worker")
        } == {
            "task_id": attempt.task_id,
            "kind": "image",
            "was": "running",
            "live": True,
            "number": 1,
            "tries": 1,
            "worker": "worker-1",
        }
        assert (rescued.state, rescued.reason, rescued.cause) == (
            "pending",
            "lease_lost",
            "lease_lost",
        )
        assert 1 <= rescued.retry_after <= 2
        assert 1 <= rescued.late <= 2 + A_MOMENT
        (ended,), found = attempts(db, attempt.task_id), row(db, attempt.task_id)
        assert (ended["outcome"], ended["error"]) == (
            "retried",
            "The worker stopped without a word.",
        )
        assert ended["sweep_id"] == 42
        assert (found["status"], found["error_message"], found["finished_at"]) == (
            "pending",
            None,
            None,
        )
        assert found["scheduled_at"] == ended["retry_at"]

    def test_a_poison_task_fails_after_its_last_attempt(self, store, db, tasks):
        task_id = created(store, tasks)
        for _ in range(3):
            claimed_again(store, tasks, task_id)
            pass_time(db, LEASE + 1)
            (rescued,) = swept(store, tasks)
            pass_time(db, 20)
        assert (rescued.state, rescued.reason, rescued.retry_after) == (
            "failed",
            "attempts_exhausted",
            None,
        )
        found = row(db, task_id)
        assert (found["status"], found["reason"]) == ("failed", "attempts_exhausted")
        assert (
            found["error_message"]
            == "Gave up after 3 attempts. The last one: The worker stopped without a word."
        )
        assert found["finished_at"] is not None
        assert [one["outcome"] for one in attempts(db, task_id)] == ["retried", "retried", "failed"]

    @pytest.mark.parametrize(
        ("kind", "reason"), [("fails", "lease_lost"), ("uncertain", "uncertain")]
    )
    def test_a_lost_lease_is_final_where_the_rule_says_so(self, store, db, tasks, kind, reason):
        attempt = claimed(store, tasks, kind)
        pass_time(db, LEASE + 1)
        (rescued,) = swept(store, tasks)
        assert (rescued.state, rescued.reason, rescued.cause) == ("failed", reason, "lease_lost")
        assert row(db, attempt.task_id)["reason"] == reason

    def test_an_attempt_over_its_deadline_is_ended_though_it_beats(self, store, db, tasks):
        attempt = claimed(store, tasks, "hasty")
        pass_time(db, 79)
        store.beat(tasks, attempt.task_id, attempt.token)
        assert swept(store, tasks) == []
        pass_time(db, 2)
        (rescued,) = swept(store, tasks)
        assert (rescued.state, rescued.cause) == ("pending", "deadline")

    def test_after_a_restart_of_the_server_leases_count_from_the_restart(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        lease = "update unstuck.attempts set lease = make_interval(secs => %s)"
        db.execute(lease, (86_400 + 3600,))  # the suite's server started a day before it did
        assert swept(store, tasks) == []
        assert store.status(tasks, attempt.task_id).overdue is False
        db.execute(lease, (LEASE,))
        assert len(swept(store, tasks)) == 1

    @pytest.mark.parametrize(
        ("kind", "seconds"), [("hasty", 60), ("image", PENDING_FOR), ("patient", 7200)]
    )
    def test_a_task_that_nobody_claimed_fails_after_its_own_time(
        self, store, db, tasks, kind, seconds
    ):
        task_id = created(store, tasks, kind)
        pass_time(db, seconds - A_MOMENT)
        assert swept(store, tasks) == []
        pass_time(db, 2 * A_MOMENT)
        (rescued,) = swept(store, tasks, sweep_id=7)
        assert (rescued.was, rescued.live, rescued.state) == ("pending", False, "failed")
        assert rescued.reason == "never_claimed"
        found, (added,) = row(db, task_id), attempts(db, task_id)
        sentence = "No worker picked the task up in time."
        assert (found["status"], found["reason"], found["error_message"]) == (
            "failed",
            "never_claimed",
            sentence,
        )
        assert (added["number"], added["tries"], added["outcome"]) == (1, 0, "failed")
        assert (added["reason"], added["error"], added["sweep_id"]) == (
            "never_claimed",
            sentence,
            7,
        )

    def test_a_delayed_task_waits_from_the_time_for_which_it_was_asked(self, store, db, tasks):
        created(store, tasks, delay=3600)
        pass_time(db, 3600 + PENDING_FOR - 1)
        assert swept(store, tasks) == []
        pass_time(db, 2)
        assert len(swept(store, tasks)) == 1

    def test_a_task_that_was_put_back_may_wait_as_long_again(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, PENDING_FOR)
        assert [task.state for task in swept(store, tasks)] == ["pending"]
        assert swept(store, tasks) == []
        pass_time(db, PENDING_FOR + 3)
        assert [task.reason for task in swept(store, tasks)] == ["never_claimed"]
        assert [one["number"] for one in attempts(db, attempt.task_id)] == [1, 2]

    def test_a_running_task_without_an_attempt_is_judged_by_the_clock_of_the_table(
        self, store, db, tasks
    ):
        task_id = created(store, tasks)
        assert by_foreigner(db, task_id, "processing") == 1
        pass_time(db, SILENT_FOR - A_MOMENT)
        assert swept(store, tasks) == []
        pass_time(db, 2 * A_MOMENT)
        (rescued,) = swept(store, tasks)
        assert (rescued.was, rescued.live, rescued.state) == ("running", False, "pending")
        assert (rescued.reason, rescued.number, rescued.tries) == ("stale", 1, 1)
        (added,) = attempts(db, task_id)
        assert (added["outcome"], added["reason"]) == ("retried", "stale")
        assert added["error"] == "Nothing was heard of the task for too long."
        assert row(db, task_id)["status"] == "pending"

    def test_a_task_that_goes_stale_again_and_again_fails(self, store, db, tasks):
        task_id = created(store, tasks)
        seen = []
        for _ in range(3):
            by_foreigner(db, task_id, "processing")
            pass_time(db, SILENT_FOR + 1)
            (rescued,) = swept(store, tasks)
            seen.append((rescued.state, rescued.tries))
        assert seen == [("pending", 1), ("pending", 2), ("failed", 3)]
        assert row(db, task_id)["reason"] == "attempts_exhausted"

    def test_a_running_task_whose_attempt_lives_is_never_stale(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("update public.tasks set updated_at = updated_at - interval '1 day'")
        assert swept(store, tasks) == []
        assert store.status(tasks, attempt.task_id).state == "running"

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    def test_a_task_that_ended_is_never_touched(self, store, db, tasks, status):
        task_id = created(store, tasks)
        by_foreigner(db, task_id, status)
        pass_time(db, 10 * 86_400)
        before = row(db, task_id)
        assert swept(store, tasks) == []
        assert row(db, task_id) == before

    def test_it_takes_a_batch_and_says_that_there_is_more(self, store, db, tasks):
        for _ in range(5):
            created(store, tasks)
        for _ in range(5):
            claimed(store, tasks, "hasty")
        for task_id in [created(store, tasks, "patient") for _ in range(5)]:
            by_foreigner(db, task_id, "processing")
        pass_time(db, 3601)
        batches = []
        while len(batches) < 9:
            batch = store.sweep(tasks, 4)
            batches.append((len(batch.rescued), batch.more))
            if not batch.more:
                break
        assert batches == [(4, True), (4, True), (4, True), (3, False)]
        assert one(db, "select count(*) from unstuck.attempts where ended_at is null")["count"] == 0

    def test_it_can_be_asked_about_one_task(self, store, db, tasks):
        mine, other = claimed(store, tasks), claimed(store, tasks)
        pass_time(db, LEASE + 1)
        assert [task.task_id for task in swept(store, tasks, task_id=mine.task_id)] == [
            mine.task_id
        ]
        assert attempts(db, other.task_id)[0]["ended_at"] is None

    def test_it_passes_over_what_it_is_told_to_skip(self, store, db, tasks):
        skip, other = claimed(store, tasks), claimed(store, tasks)
        waiting, silent = created(store, tasks), created(store, tasks)
        by_foreigner(db, silent, "processing")
        pass_time(db, 3600)
        rescued = swept(store, tasks, skip=[skip.task_id, waiting, silent])
        assert [task.task_id for task in rescued] == [other.task_id]

    @pytest.mark.parametrize("how", ["lost", "never claimed", "stale"])
    def test_a_row_that_cannot_be_settled_is_reported_and_the_others_are_settled(
        self, store, db, tasks, how
    ):
        ids = [created(store, tasks, priority=priority) for priority in (1, 13, 2)]
        for task_id in ids:
            if how == "lost":
                claimed_again(store, tasks, task_id)
            elif how == "stale":
                by_foreigner(db, task_id, "processing")
        pass_time(db, 3600)
        db.execute(
            "alter table public.tasks add constraint unlucky check (status <> 'failed' or "
            "priority <> 13)"
        )
        db.execute(
            "alter table public.tasks add constraint unlucky2 check (status <> 'pending' or "
            "priority <> 13) not valid"
        )
        try:
            answer = store.sweep(tasks, 500)
            assert {task.task_id for task in answer.rescued} == {ids[0], ids[2]}
            (bad,) = answer.unsweepable
            assert (bad.task_id, bad.kind, bad.code) == (ids[1], "image", "23514")
            assert "unlucky" in bad.error
            assert row(db, ids[1])["status"] == {"never claimed": "pending"}.get(how, "processing")
            assert len(attempts(db, ids[1])) == (how == "lost")
            assert store.sweep(tasks, 500, skip=[ids[1]]).unsweepable == []
        finally:
            db.execute("alter table public.tasks drop constraint unlucky, drop constraint unlucky2")
        assert [task.task_id for task in swept(store, tasks)] == [ids[1]]

    def test_even_in_batches_of_one_a_bad_row_does_not_stop_the_others(self, store, db, tasks):
        for priority in (13, 13, 1):
            created(store, tasks, priority=priority)
        pass_time(db, PENDING_FOR + 1)
        db.execute(
            "alter table public.tasks add constraint unlucky check (status <> 'failed' or "
            "priority <> 13)"
        )
        skip: list[str] = []
        try:
            while (batch := store.sweep(tasks, 1, skip=skip)).more:
                skip += [task.task_id for task in batch.unsweepable]
                assert len(skip) <= 2
        finally:
            db.execute("alter table public.tasks drop constraint unlucky")
        assert one(db, "select status from public.tasks where priority = 1")["status"] == "failed"

    @pytest.mark.parametrize("status", ["pending", "completed", "failed", "cancelled"])
    @pytest.mark.parametrize("kind", ["image", "once"])
    def test_a_task_that_somebody_moved_is_left_to_them_when_its_attempt_ends(
        self, store, db, tasks, kind, status
    ):
        attempt = claimed(store, tasks, kind)
        past_the_fence(db, attempt.task_id, status=status)
        pass_time(db, LEASE + 1)
        before = row(db, attempt.task_id)
        (rescued,) = swept(store, tasks)
        assert (rescued.state, rescued.retry_after) == ("overtaken", None)
        assert row(db, attempt.task_id) == before
        assert [one["outcome"] for one in attempts(db, attempt.task_id)] == ["overtaken"]

    def test_a_held_task_that_was_put_back_does_not_fail_before_its_attempt_ended(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        put_back(db, attempt.task_id)
        pass_time(db, PENDING_FOR + 1)
        db.execute(
            "update unstuck.attempts set lease_until = clock_timestamp() + lease, "
            "deadline_at = '9999-01-01'"
        )
        assert swept(store, tasks) == []
        pass_time(db, LEASE + 1)
        store.sweep(tasks, 500)
        store.sweep(tasks, 500)
        assert [one["outcome"] for one in attempts(db, attempt.task_id)] == ["overtaken", "failed"]
        put_back(db, attempt.task_id)
        assert store.claim(tasks, None, "w").verdict == "claimed"

    def test_two_sweeps_at_once_settle_each_task_once(self, store, db, tasks):
        wanted = {created(store, tasks) for _ in range(100)} | {
            claimed(store, tasks).task_id for _ in range(100)
        }
        pass_time(db, PENDING_FOR + 1)

        def sweep() -> list[str]:
            found = []
            for _ in range(20):
                found += [task.task_id for task in store.sweep(tasks, 25).rescued]
            return found

        rescued = [task_id for some in at_once(*[sweep] * 4) for task_id in some]
        assert sorted(rescued) == sorted(wanted)
        assert one(db, "select count(*) from unstuck.attempts")["count"] == 200

    def test_rows_that_somebody_has_locked_are_left_for_the_next_sweep(self, store, db, tasks):
        locked, other = claimed(store, tasks), claimed(store, tasks)
        pass_time(db, LEASE + 1)
        with db.transaction():
            db.execute("select from public.tasks where id = %s for update", (locked.task_id,))
            assert [task.task_id for task in swept(store, tasks)] == [other.task_id]
        assert [task.task_id for task in swept(store, tasks)] == [locked.task_id]
