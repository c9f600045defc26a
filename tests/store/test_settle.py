"""Settle over each store."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.core.answers import Lost
from functions.errors import StoreError
from functions.store import Answer
from tests.sql import pass_time
from tests.store.steps import (
    LEASE,
    NIL,
    attempts,
    claimed,
    claimed_again,
    created,
    one,
    past_the_fence,
    put_back,
    refusals,
    row,
    settled,
    swept,
)


class TestSettle:
    def test_complete_keeps_the_result(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = settled(
            store, tasks, attempt, "complete", result={"url": "https://example.org/cat.png"}
        )
        assert (answer.state, answer.reason, answer.retry_after) == ("completed", None, None)
        found, (ended,) = row(db, attempt.task_id), attempts(db, attempt.task_id)
        assert (found["status"], found["result"]) == (
            "completed",
            {"url": "https://example.org/cat.png"},
        )
        assert (found["error_message"], found["reason"]) == (None, None)
        assert (ended["outcome"], ended["sweep_id"]) == ("completed", None)
        assert found["finished_at"] >= ended["ended_at"] >= ended["started_at"]

    def test_fail_keeps_the_sentence_for_the_user_and_the_detail_for_the_operator(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        answer = settled(
            store,
            tasks,
            attempt,
            "fail",
            reason="handler_error",
            error="No such picture.",
            detail="KeyError: 'cat'",
        )
        assert (answer.state, answer.reason, answer.error) == (
            "failed",
            "handler_error",
            "No such picture.",
        )
        found, (ended,) = row(db, attempt.task_id), attempts(db, attempt.task_id)
        assert (found["status"], found["error_message"]) == ("failed", "No such picture.")
        assert (found["reason"], ended["detail"]) == ("handler_error", "KeyError: 'cat'")
        assert "KeyError" not in str(found)

    def test_fail_without_a_sentence_gets_one(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="out_of_memory")
        assert (
            row(db, attempt.task_id)["error_message"]
            == "The work needed more memory than it may use."
        )

    def test_retry_puts_the_task_back_after_the_backoff_of_its_rule(self, store, db, tasks):
        task_id = created(store, tasks, "image")
        for shortest, longest in ((1, 2), (4, 8)):  # first 2 s, factor 4, jittered down to a half
            attempt = claimed_again(store, tasks, task_id)
            answer = settled(
                store, tasks, attempt, "retry", reason="transient", error="The provider is busy."
            )
            assert (answer.state, answer.reason) == ("pending", "transient")
            assert shortest <= answer.retry_after <= longest
            found = row(db, task_id)
            ended = attempts(db, task_id)[-1]
            assert (found["status"], found["error_message"], found["finished_at"]) == (
                "pending",
                None,
                None,
            )
            assert (ended["outcome"], ended["error"]) == ("retried", "The provider is busy.")
            assert found["scheduled_at"] == ended["retry_at"]
            assert store.claim(tasks, task_id, "w").verdict == "early"
            pass_time(db, longest)

    def test_the_backoff_grows_to_its_longest_and_is_jittered(self, db, tasks):
        query = (
            "select extract(epoch from unstuck.backoff(unstuck.rule(%s, 'image'), %s))::float8 "
            "as seconds"
        )
        for tries, longest in ((1, 2.0), (2, 8.0), (3, 20.0), (4, 20.0), (1000, 20.0)):
            waits = [one(db, query, tasks.rules_json, tries)["seconds"] for _ in range(20)]
            assert longest / 2 <= min(waits) < max(waits) <= longest

    def test_a_delay_overrides_the_backoff(self, store, tasks):
        attempt = claimed(store, tasks)
        answer = settled(store, tasks, attempt, "retry", reason="transient", after=3600)
        assert answer.retry_after == pytest.approx(3600)

    def test_release_puts_the_task_back_at_once(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = settled(store, tasks, attempt, "release", reason="shutdown")
        assert (answer.state, answer.retry_after) == ("pending", 0)
        assert attempts(db, attempt.task_id)[0]["outcome"] == "released"
        assert store.claim(tasks, None, "w").task_id == attempt.task_id

    @pytest.mark.parametrize(
        ("kind", "reason"), [("uncertain", "uncertain"), ("fails", "shutdown")]
    )
    def test_a_release_of_work_that_must_not_be_repeated_is_a_loss(
        self, store, tasks, kind, reason
    ):
        attempt = claimed(store, tasks, kind)
        answer = settled(store, tasks, attempt, "release", reason="shutdown")
        assert (answer.state, answer.reason) == ("failed", reason)

    @pytest.mark.parametrize("kind", ["hasty", "uncertain"])
    def test_what_had_not_begun_is_put_back_and_counts_unless_the_worker_was_shut_down(
        self, store, db, tasks, kind
    ):
        task_id = created(store, tasks, kind)
        reasons = ["shutdown", "crashed", "deadline", "out_of_memory"]
        answers = [
            settled(
                store, tasks, claimed_again(store, tasks, task_id), "return", reason=reason, after=0
            )
            for reason in reasons
        ]
        assert [answer.state for answer in answers] == ["pending"] * 3 + ["failed"]
        assert answers[-1].reason == "attempts_exhausted"
        assert [attempt["tries"] for attempt in attempts(db, task_id)] == [1, 1, 2, 3]

    def test_what_had_not_begun_fails_where_a_loss_is_to_fail_but_not_for_a_shutdown(
        self, store, tasks
    ):
        task_id = created(store, tasks, "fails")
        answers = [
            settled(store, tasks, claimed_again(store, tasks, task_id), "return", reason=reason)
            for reason in ("shutdown", "deadline")
        ]
        assert [(answer.state, answer.reason) for answer in answers] == [
            ("pending", "shutdown"),
            ("failed", "deadline"),
        ]

    def test_after_ten_free_releases_a_release_counts(self, store, db, tasks):
        task_id = created(store, tasks)
        states = []
        while "failed" not in states:
            attempt = claimed_again(store, tasks, task_id)
            states.append(
                settled(store, tasks, attempt, "release", reason="shutdown", after=0).state
            )
            assert len(states) < 20
        assert states == ["pending"] * 12 + ["failed"]
        outcomes = Counter(attempt["outcome"] for attempt in attempts(db, task_id))
        assert outcomes == {"released": 10, "retried": 2, "failed": 1}
        assert attempts(db, task_id)[-1]["reason"] == "attempts_exhausted"

    def test_a_task_that_begins_anew_has_its_ten_free_releases_again(self, store, db, tasks):
        task_id = created(store, tasks)
        for _ in range(12):
            attempt = claimed_again(store, tasks, task_id)
            settled(store, tasks, attempt, "fail")
            put_back(db, task_id)
        for _ in range(10):
            attempt = claimed_again(store, tasks, task_id)
            settled(store, tasks, attempt, "release", reason="shutdown")
        assert {one["outcome"] for one in attempts(db, task_id)[12:]} == {"released"}

    @pytest.mark.parametrize(
        ("cause", "reason", "sentence"),
        [
            (
                "transient",
                "transient_exhausted",
                "Gave up after 3 attempts that each failed for a passing reason.",
            ),
            (
                "handler_error",
                "attempts_exhausted",
                "Gave up after 3 attempts. The last one: The work failed.",
            ),
            (
                "crashed",
                "attempts_exhausted",
                "Gave up after 3 attempts. The last one: The process that did the work crashed.",
            ),
        ],
    )
    def test_a_task_without_attempts_left_fails_and_says_why(
        self, store, db, tasks, cause, reason, sentence
    ):
        task_id = created(store, tasks)
        states = []
        for _ in range(3):
            attempt = claimed_again(store, tasks, task_id)
            answer = settled(store, tasks, attempt, "retry", reason=cause, after=0)
            states.append(answer.state)
        assert states == ["pending", "pending", "failed"]
        assert (answer.reason, answer.error, answer.retry_after) == (reason, sentence, None)
        found = row(db, task_id)
        assert (found["status"], found["reason"], found["error_message"]) == (
            "failed",
            reason,
            sentence,
        )
        last = attempts(db, task_id)[-1]
        assert (last["outcome"], last["reason"], last["cause"]) == ("failed", reason, cause)

    def test_a_task_with_one_attempt_says_so(self, store, tasks):
        answer = settled(store, tasks, claimed(store, tasks, "once"), "retry", reason="deadline")
        assert (
            answer.error
            == "Gave up after 1 attempt. The last one: The work took longer than it may."
        )

    @pytest.mark.parametrize("cause", ["crashed", "deadline", "out_of_memory"])
    @pytest.mark.parametrize("kind", ["fails", "uncertain"])
    def test_a_loss_is_final_where_the_rule_says_so(self, store, db, tasks, kind, cause):
        attempt = claimed(store, tasks, kind)
        answer = settled(store, tasks, attempt, "retry", reason=cause)
        assert (answer.state, answer.reason) == (
            "failed",
            cause if kind == "fails" else "uncertain",
        )
        assert attempts(db, attempt.task_id)[0]["cause"] == cause

    @pytest.mark.parametrize("cause", ["transient", "handler_error"])
    @pytest.mark.parametrize("kind", ["fails", "uncertain"])
    def test_what_is_no_loss_is_retried_even_there(self, store, tasks, kind, cause):
        answer = settled(store, tasks, claimed(store, tasks, kind), "retry", reason=cause)
        assert (answer.state, answer.reason) == ("pending", cause)

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release", "return"])
    def test_a_settle_whose_answer_was_lost_can_be_repeated(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        first = settled(store, tasks, attempt, outcome, reason="shutdown", error="Because.")
        again = settled(store, tasks, attempt, outcome, reason="shutdown", error="Because.")
        same = ("state", "reason", "error", "number", "tries")
        assert [vars(again)[name] for name in same] == [vars(first)[name] for name in same]
        assert again.repeat is True
        assert refusals(db, attempt.task_id) == []
        assert len(attempts(db, attempt.task_id)) == 1

    @pytest.mark.parametrize("outcome", ["retry", "release"])
    def test_a_last_settle_whose_answer_was_lost_can_be_repeated(self, store, db, tasks, outcome):
        task_id = created(store, tasks, "once")
        for _ in range(10 if outcome == "release" else 0):
            settled(
                store, tasks, claimed_again(store, tasks, task_id), "release", reason="shutdown"
            )
        last = claimed_again(store, tasks, task_id)
        for _ in range(2):
            answer = settled(store, tasks, last, outcome, reason="shutdown")
            assert (answer.state, answer.reason) == ("failed", "attempts_exhausted")
        assert refusals(db, task_id) == []

    def test_a_repeated_settle_does_not_touch_the_next_attempt(self, store, db, tasks):
        first = claimed(store, tasks)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        second = claimed_again(store, tasks, first.task_id)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        assert row(db, first.task_id)["status"] == "processing"
        assert attempts(db, first.task_id)[1]["ended_at"] is None
        settled(store, tasks, second, "complete")

    def test_another_word_after_the_first_is_lost_and_filed(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", error="No.")
        answer = store.settle(
            tasks, attempt.task_id, attempt.token, "complete", result={"late": True}
        )
        assert (answer.verdict, answer.outcome) == ("lost", "failed")
        assert refusals(db, attempt.task_id) == [("verb", "complete", "failed")]
        assert (row(db, attempt.task_id)["status"], row(db, attempt.task_id)["result"]) == (
            "failed",
            None,
        )

    def test_the_late_result_of_a_zombie_is_refused_and_that_of_its_successor_kept(
        self, store, db, tasks
    ):
        zombie = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        second = claimed_again(store, tasks, zombie.task_id)
        late = store.settle(tasks, zombie.task_id, zombie.token, "complete", result={"by": 1})
        settled(store, tasks, second, "complete", result={"by": 2})
        later = store.settle(tasks, zombie.task_id, zombie.token, "complete", result={"by": 1})
        assert [late.verdict, later.verdict] == ["lost", "lost"]
        assert row(db, zombie.task_id)["result"] == {"by": 2}
        assert refusals(db, zombie.task_id) == [("verb", "complete", "retried")] * 2

    def test_what_the_sweep_failed_is_not_taken_for_a_repeat(self, store, db, tasks):
        zombie = claimed(store, tasks, "once")
        pass_time(db, LEASE + 1)
        swept(store, tasks)
        for outcome in ("fail", "retry"):
            assert store.settle(tasks, zombie.task_id, zombie.token, outcome).verdict == "lost"
        assert len(refusals(db, zombie.task_id)) == 2

    def test_an_unknown_token_is_lost_and_filed(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = store.settle(tasks, attempt.task_id, NIL, "complete")
        assert answer == Lost()
        assert refusals(db, attempt.task_id) == [("verb", "complete", "unknown token")]
        assert row(db, attempt.task_id)["status"] == "processing"

    def test_an_unknown_outcome_is_refused(self, store, db, tasks):
        attempt = claimed(store, tasks)
        with pytest.raises(StoreError, match="unknown outcome") as refused:
            store.settle(tasks, attempt.task_id, attempt.token, "completed")
        assert not refused.value.retryable
        assert attempts(db, attempt.task_id)[0]["ended_at"] is None

    def test_a_task_that_somebody_moved_is_left_to_them(self, store, db, tasks):
        attempt = claimed(store, tasks)
        past_the_fence(db, attempt.task_id, status="cancelled")
        for _ in range(2):
            answer = store.settle(tasks, attempt.task_id, attempt.token, "complete", result={})
            assert (answer.verdict, answer.outcome) == ("lost", "overtaken")
        assert row(db, attempt.task_id)["status"] == "cancelled"
        assert attempts(db, attempt.task_id)[0]["outcome"] == "overtaken"
        assert refusals(db, attempt.task_id) == [("verb", "complete", "overtaken")] * 2

    def test_a_deleted_task_ends_its_attempt(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("delete from public.tasks")
        assert store.settle(tasks, attempt.task_id, attempt.token, "complete").verdict == "lost"
        assert attempts(db, attempt.task_id)[0]["outcome"] == "overtaken"

    def test_a_result_that_the_table_refuses_leaves_all_as_it_was(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute(
            "alter table public.tasks add constraint small check (result is null or result ->> "
            "'n' <> '13')"
        )
        try:
            with pytest.raises(StoreError, match="small") as refused:
                store.settle(tasks, attempt.task_id, attempt.token, "complete", result={"n": 13})
        finally:
            db.execute("alter table public.tasks drop constraint small")
        assert (refused.value.retryable, refused.value.code) == (False, "23514")
        assert row(db, attempt.task_id)["status"] == "processing"
        assert attempts(db, attempt.task_id)[0]["ended_at"] is None

    def test_when_settle_and_sweep_race_exactly_one_wins_and_the_ledger_agrees(
        self, store, db, tasks
    ):
        wins = Counter()
        races = [claimed(store, tasks) for _ in range(200)]
        pass_time(db, LEASE + 1)
        with ThreadPoolExecutor(2) as threads:
            start = threading.Barrier(2)

            def settle(attempt: Answer) -> Answer:
                start.wait()
                return store.settle(
                    tasks, attempt.task_id, attempt.token, "complete", result={"by": "worker"}
                )

            def sweep(attempt: Answer) -> Answer:
                start.wait()
                return store.sweep(tasks, 1, task_id=attempt.task_id)

            rounds = [
                (threads.submit(settle, attempt), threads.submit(sweep, attempt))
                for attempt in races
            ]
        for attempt, (settling, sweeping) in zip(races, rounds, strict=True):
            said, rescued = settling.result().verdict, len(sweeping.result().rescued)
            wins[said] += 1
            assert (said, rescued) in {("settled", 0), ("lost", 1)}
            (ended,) = attempts(db, attempt.task_id)
            found = row(db, attempt.task_id)
            truth = (found["status"], found["result"], ended["outcome"])
            if said == "settled":
                assert truth == ("completed", {"by": "worker"}, "completed")
            else:
                assert truth == ("pending", None, "retried")
        assert wins.total() == 200
