"""Claim over each store."""

import json
from collections import Counter
from uuid import uuid4

import pytest
from psycopg.errors import InvalidParameterValue

from functions.core.answers import ClaimRefusal, NotClaimed
from functions.core.record import plain
from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    DEADLINE,
    LEASE,
    NIL,
    PENDING_FOR,
    at_once,
    attempts,
    by_foreigner,
    claimed,
    claimed_again,
    created,
    one,
    put_back,
    row,
    settled,
    swept,
)

RULE_KEYS = ("pending_for", "run_for", "attempts", "lease", "on_lost", "backoff_first")


class TestRules:
    """A worker that sends the rules itself (docs/how-to/pull-workers.md)."""

    @pytest.mark.parametrize("missing", [*RULE_KEYS, "*"])
    def test_rules_that_lack_something_are_an_error_and_not_a_none(self, db, tasks, missing):
        rules = json.loads(tasks.rules_json)
        del (rules if missing == "*" else rules["*"])[missing]
        with pytest.raises(InvalidParameterValue) as error:
            db.execute("select unstuck.tasks_claim(null, 'gpu-7', %s)", (json.dumps(rules),))
        assert error.value.diag.message_hint == "Send what `unstuck sql --rules` prints."

    def test_no_rules_are_an_error_too(self, db):
        with pytest.raises(InvalidParameterValue):
            db.execute("select unstuck.tasks_claim(null, 'gpu-7', '{}')")


class TestClaim:
    def test_a_given_task_is_claimed_with_all_that_the_worker_needs(self, store, db, tasks):
        task_id = store.create(tasks, "image", {"prompt": "a cat"}).task_id
        answer = store.claim(tasks, task_id, "worker-1")
        (attempt,) = attempts(db, task_id)
        assert plain(answer) == {
            "verdict": "claimed",
            "task_id": task_id,
            "kind": "image",
            "state": "running",
            "token": str(attempt["token"]),
            "number": 1,
            "tries": 1,
            "input": {"prompt": "a cat"},
            "rescued": None,
            "checkpoint": {},
            "is_readable": True,
        }
        found = row(db, task_id)
        assert found["status"] == "processing"
        assert found["started_at"] == found["updated_at"] == attempt["started_at"]
        assert attempt["worker"] == "worker-1"
        assert (attempt["lease_until"] - attempt["started_at"]).total_seconds() == LEASE
        assert (attempt["deadline_at"] - attempt["started_at"]).total_seconds() == DEADLINE

    def test_a_task_that_is_held_is_not_claimed_again(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = store.claim(tasks, attempt.task_id, "worker-2")
        assert (answer.verdict, answer.state) == ("held", "running")
        assert LEASE - A_MOMENT < answer.retry_after <= LEASE
        assert len(attempts(db, attempt.task_id)) == 1

    def test_a_task_that_is_not_due_is_early_and_says_for_how_long(self, store, tasks):
        answer = store.claim(tasks, created(store, tasks, delay=60), "w")
        assert answer.verdict == "early"
        assert 60 - A_MOMENT < answer.retry_after <= 60

    @pytest.mark.parametrize("outcome", ["complete", "fail"])
    def test_a_task_that_ended_is_not_claimed(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, outcome)
        answer = store.claim(tasks, attempt.task_id, "w")
        assert answer.verdict == "ended"
        assert answer.state == {"complete": "completed", "fail": "failed"}[outcome]
        assert len(attempts(db, attempt.task_id)) == 1

    def test_a_cancelled_task_is_not_claimed(self, store, db, tasks):
        task_id = created(store, tasks)
        assert by_foreigner(db, task_id, "cancelled") == 1
        answer = store.claim(tasks, task_id, "w")
        assert (answer.verdict, answer.state) == ("ended", "cancelled")

    def test_a_task_that_is_not_there_is_missing(self, store, tasks):
        assert store.claim(tasks, NIL, "w") == NotClaimed(ClaimRefusal.MISSING)

    def test_without_a_pending_task_there_is_none(self, store, tasks):
        claimed(store, tasks)
        assert store.claim(tasks, None, "w") == NotClaimed(ClaimRefusal.NONE)

    def test_the_next_task_is_the_most_urgent_and_then_the_oldest(self, store, tasks):
        wanted = [created(store, tasks, priority=priority) for priority in (0, 5, 0, 5, -1)]
        taken = [claimed_again(store, tasks, None).task_id for _ in wanted]
        assert taken == [wanted[n] for n in (1, 3, 0, 2, 4)]

    def test_the_next_task_can_be_asked_for_by_kind(self, store, tasks):
        created(store, tasks, "image", priority=9)
        wanted = created(store, tasks, "patient")
        assert store.claim(tasks, None, "w", ["once", "patient"]).task_id == wanted
        assert store.claim(tasks, None, "w", ["once", "patient"]).verdict == "none"
        assert store.claim(tasks, None, "w", []).verdict == "none"

    def test_the_next_task_is_never_one_that_the_sweep_wants(self, store, db, tasks):
        late = {kind: created(store, tasks, kind) for kind in ("hasty", "image", "patient")}
        pass_time(db, 4 * 60 + 1)
        assert store.claim(tasks, None, "w", ["hasty"]).verdict == "none"
        pass_time(db, 4 * PENDING_FOR - (4 * 60 + 1))
        assert store.claim(tasks, None, "w", ["image"]).verdict == "none"
        assert {task.task_id for task in swept(store, tasks)} == {late["hasty"], late["image"]}
        assert claimed_again(store, tasks, None).task_id == late["patient"]

    def test_a_given_task_is_claimed_however_long_it_waited(self, store, db, tasks):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        assert store.claim(tasks, task_id, "w").verdict == "claimed"

    @pytest.mark.parametrize("given", [True, False])
    def test_a_claim_whose_answer_was_lost_can_be_asked_for_again(self, store, db, tasks, given):
        task_id = created(store, tasks)
        wanted = {
            "p_task": task_id if given else None,
            "p_worker": "w",
            "p_rules": tasks.rules_json,
            "p_token": str(uuid4()),
        }
        first = store.call("tasks_claim", dict(wanted), 5.0)
        again = store.call("tasks_claim", wanted | {"p_again": True}, 5.0)
        assert again == first
        assert len(attempts(db, task_id)) == 1

    def test_a_claim_that_never_arrived_can_be_asked_for_again(self, store, tasks):
        wanted = {
            "p_task": created(store, tasks),
            "p_worker": "w",
            "p_rules": tasks.rules_json,
            "p_again": True,
        }
        assert store.call("tasks_claim", wanted, 5.0)["verdict"] == "claimed"

    def test_an_expired_attempt_is_taken_over_at_once(self, store, db, tasks):
        zombie = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        answer = store.claim(tasks, zombie.task_id, "worker-2")
        assert (answer.verdict, answer.number, answer.tries) == ("claimed", 2, 2)
        assert [task.reason for task in answer.rescued] == ["lease_lost"]
        first, second = attempts(db, zombie.task_id)
        assert (first["outcome"], first["reason"], second["outcome"]) == (
            "retried",
            "lease_lost",
            None,
        )
        assert row(db, zombie.task_id)["status"] == "processing"

    def test_an_expired_last_attempt_ends_the_task_instead(self, store, db, tasks):
        zombie = claimed(store, tasks, "once")
        pass_time(db, LEASE + 1)
        answer = store.claim(tasks, zombie.task_id, "worker-2")
        assert (answer.verdict, answer.state) == ("ended", "failed")
        assert [task.reason for task in answer.rescued] == ["attempts_exhausted"]
        assert row(db, zombie.task_id)["status"] == "failed"

    def test_retries_are_counted_and_releases_are_not(self, store, db, tasks):
        task_id = created(store, tasks)
        seen = []
        for outcome in ("release", "retry", "release", "release", "complete"):
            attempt = claimed_again(store, tasks, task_id)
            seen.append((attempt.number, attempt.tries))
            settled(store, tasks, attempt, outcome, reason="shutdown", after=0)
        assert seen == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
        assert row(db, task_id)["status"] == "completed"

    @pytest.mark.parametrize("outcome", ["complete", "fail"])
    def test_a_task_that_ended_and_was_put_back_begins_anew(self, store, db, tasks, outcome):
        task_id = created(store, tasks)
        first = claimed_again(store, tasks, task_id)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        second = claimed_again(store, tasks, task_id)
        store.checkpoint(tasks, task_id, second.token, "step", {"n": 1})
        settled(store, tasks, second, outcome)
        put_back(db, task_id)
        third = claimed_again(store, tasks, task_id)
        assert (third.number, third.tries, third.checkpoint) == (3, 1, {})

    def test_a_task_that_was_never_claimed_and_was_put_back_begins_anew(self, store, db, tasks):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        swept(store, tasks)
        put_back(db, task_id)
        attempt = claimed_again(store, tasks, task_id)
        assert (attempt.number, attempt.tries) == (2, 1)

    def test_a_held_task_that_somebody_put_back_waits_for_the_end_of_its_attempt(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        put_back(db, attempt.task_id)
        answer = store.claim(tasks, attempt.task_id, "worker-2")
        assert (answer.verdict, answer.state) == ("held", "pending")
        assert store.settle(tasks, attempt.task_id, attempt.token, "complete").verdict == "lost"
        assert store.claim(tasks, attempt.task_id, "worker-2").verdict == "claimed"

    def test_a_held_task_that_somebody_put_back_does_not_stand_before_the_others(
        self, store, db, tasks
    ):
        held = claimed(store, tasks, priority=9)
        put_back(db, held.task_id)
        other = created(store, tasks)
        assert store.claim(tasks, None, "worker-2").task_id == other
        assert store.claim(tasks, None, "worker-2").verdict == "none"

    def test_sixteen_workers_claim_each_of_two_hundred_tasks_once(self, store, db, tasks):
        wanted = {created(store, tasks) for _ in range(200)}

        def work() -> list[str]:
            taken = []
            while (answer := store.claim(tasks, None, "w")).verdict == "claimed":
                taken.append(answer.task_id)
            return taken

        taken = [task_id for some in at_once(*[work] * 16) for task_id in some]
        # a worker stops when all that is left is locked by others, who have it then
        assert sorted(taken) == sorted(wanted)
        assert (
            one(db, "select count(*) from unstuck.attempts where ended_at is null")["count"] == 200
        )

    @pytest.mark.parametrize("kinds", [None, ["image"]], ids=["any kind", "by kind"])
    def test_a_task_that_somebody_has_locked_is_none_for_the_others(self, store, db, tasks, kinds):
        task_id = created(store, tasks)
        with db.transaction():
            db.execute("select from tasks where id = %s for update", (task_id,))
            assert store.claim(tasks, None, "worker", kinds).verdict == "none"
        assert store.claim(tasks, None, "worker", kinds).task_id == task_id

    def test_of_eight_workers_that_want_one_task_one_gets_it(self, store, db, tasks):
        for _ in range(10):
            task_id = created(store, tasks)
            answers = at_once(*[lambda task_id=task_id: store.claim(tasks, task_id, "w")] * 8)
            assert Counter(answer.verdict for answer in answers) == {"claimed": 1, "held": 7}
            assert len(attempts(db, task_id)) == 1

    def test_of_eight_workers_that_want_one_expired_task_one_takes_it_over(self, store, db, tasks):
        for _ in range(10):
            zombie = claimed(store, tasks)
            pass_time(db, LEASE + 1)
            answers = at_once(
                *[lambda task_id=zombie.task_id: store.claim(tasks, task_id, "w")] * 8
            )
            assert Counter(answer.verdict for answer in answers) == {"claimed": 1, "held": 7}
            assert [attempt["number"] for attempt in attempts(db, zombie.task_id)] == [1, 2]


class TestKindsOfTheCaller:
    """A worker names the kinds that it can do."""

    def test_a_given_task_of_another_kind_stays_as_it_is(self, store, db, tasks):
        task_id = created(store, tasks, "hasty")
        before = row(db, task_id)
        for kinds in ([], ["image"], ["image", ""]):
            answer = store.claim(tasks, task_id, "w", kinds)
            assert (answer.verdict, answer.kind, answer.state) == ("elsewhere", "hasty", "pending")
        assert (row(db, task_id), attempts(db, task_id)) == (before, [])
        assert store.claim(tasks, task_id, "w", ["image", "hasty"]).verdict == "claimed"

    def test_a_caller_without_any_kind_is_given_none(self, store, tasks):
        created(store, tasks)
        assert store.claim(tasks, None, "w", []).verdict == "none"

    @pytest.mark.parametrize("reason", ["no_handler", "transient"])
    def test_a_worker_that_could_not_begin_burns_no_try(self, store, db, tasks, reason):
        task_id = created(store, tasks, "once")
        for number in range(1, 11):
            attempt = claimed_again(store, tasks, task_id)
            assert (attempt.number, attempt.tries) == (number, 1)
            answer = settled(store, tasks, attempt, "return", reason=reason, after=60)
            assert (answer.state, round(answer.retry_after)) == ("pending", 60)
            pass_time(db, 61)
