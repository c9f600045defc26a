"""What every store has to do for users: their tasks are theirs, and the rules for each of them hold
whoever races."""

from collections import Counter

import pytest

from functions.core.answers import AlreadyEnded
from functions.core.record import replace
from functions.core.states import State
from tests.sql import pass_time
from tests.store.steps import (
    DEADLINE,
    PENDING_FOR,
    at_once,
    attempts,
    claimed,
    claimed_again,
    created,
    refusals,
    row,
    settled,
)


@pytest.fixture
def limited(tasks):
    """The own table, three creates a minute for each user."""
    return replace(tasks, create_per_minute=3)


class TestOneActive:
    """The kind `alone` is `one_active`."""

    def test_a_user_has_one_open_task_of_the_kind(self, store, tasks):
        first = created(store, tasks, "alone", owner="ann")
        answer = store.create(tasks, "alone", {"n": 2}, owner="ann")
        assert (answer.verdict, answer.task_id, answer.state) == ("active", first, "pending")
        claimed_again(store, tasks, first)
        assert store.create(tasks, "alone", {"n": 2}, owner="ann").state == "running"

    def test_other_users_and_other_kinds_are_free(self, store, tasks):
        created(store, tasks, "alone", owner="ann")
        created(store, tasks, "alone", owner="bob")
        created(store, tasks, "alone")
        created(store, tasks, "image", owner="ann")
        assert store.create(tasks, "alone", {}).verdict == "active", (
            "tasks of nobody are one user's"
        )

    @pytest.mark.parametrize("outcome", ["complete", "fail"])
    def test_the_end_of_the_task_makes_room(self, store, tasks, outcome):
        settled(store, tasks, claimed(store, tasks, "alone", owner="ann"), outcome)
        created(store, tasks, "alone", owner="ann")

    def test_a_cancel_makes_room(self, store, tasks):
        store.cancel(tasks, created(store, tasks, "alone", owner="ann"), owner="ann")
        created(store, tasks, "alone", owner="ann")

    def test_its_key_finds_the_task_and_not_the_rule(self, store, tasks):
        first = created(store, tasks, "alone", owner="ann", key="k1")
        again = store.create(tasks, "alone", {}, owner="ann", key="k1")
        assert (again.verdict, again.task_id) == ("exists", first)

    def test_eight_creates_at_once_let_one_through(self, store, tasks):
        answers = at_once(*[lambda: store.create(tasks, "alone", {}, owner="ann")] * 8)
        assert Counter(answer.verdict for answer in answers) == {"created": 1, "active": 7}
        assert len({answer.task_id for answer in answers}) == 1

    def test_an_overdue_task_is_healed_first_and_does_not_lock_its_user_out(self, store, db, tasks):
        stuck = created(store, tasks, "alone", owner="ann")
        pass_time(db, PENDING_FOR + 1)
        answer = store.create(tasks, "alone", {}, owner="ann")
        assert answer.verdict == "created"
        assert [(task.task_id, task.reason) for task in answer.rescued] == [
            (stuck, "never_claimed")
        ]
        assert row(db, stuck)["status"] == "failed"

    def test_an_overdue_task_that_has_tries_left_is_pending_again_and_still_the_one(
        self, store, db, tasks
    ):
        stuck = claimed(store, tasks, "alone", owner="ann").task_id
        pass_time(db, DEADLINE + 1)
        answer = store.create(tasks, "alone", {}, owner="ann")
        assert (answer.verdict, answer.task_id, answer.state) == ("active", stuck, "pending")
        assert [task.reason for task in answer.rescued] == ["deadline"]

    def test_another_writer_of_the_table_is_held_to_it_as_well(self, store, db, tasks):
        insert = (
            "insert into public.tasks (kind, owner, one_active) values ('alone', 'ann', true) "
            "on conflict do nothing"
        )
        assert [db.execute(insert).rowcount for _ in range(2)] == [1, 0]
        assert store.create(tasks, "alone", {}, owner="ann").verdict == "active"

    def test_a_person_does_not_start_a_second_one_again(self, store, db, tasks):
        ended = [settled_task(store, tasks) for _ in range(3)]
        assert len(store.operate(tasks, "retry", ended)) == 1
        assert store.operate(tasks, "retry", ended) == []
        assert Counter(row(db, task_id)["status"] for task_id in ended) == {
            "pending": 1,
            "failed": 2,
        }


def settled_task(store, tasks):
    attempt = claimed(store, tasks, "alone", owner="ann")
    settled(store, tasks, attempt, "fail")
    return attempt.task_id


class TestCreatePerMinute:
    def test_a_user_creates_so_many_and_is_told_when_there_is_room(self, store, db, limited):
        for _ in range(3):
            created(store, limited, owner="ann")
            pass_time(db, 10)
        answer = store.create(limited, "image", {}, owner="ann")
        assert answer.verdict == "limited"
        assert 28 < answer.retry_after <= 30, "the first of the three was made 30 s ago"
        pass_time(db, answer.retry_after)
        created(store, limited, owner="ann")

    def test_the_limit_is_each_users_own_and_knows_no_kinds(self, store, limited):
        for kind in ("image", "once", "fails"):
            created(store, limited, kind, owner="ann")
        assert store.create(limited, "hasty", {}, owner="ann").verdict == "limited"
        created(store, limited, owner="bob")

    def test_tasks_of_nobody_are_not_limited(self, store, limited):
        for _ in range(5):
            created(store, limited)

    def test_its_key_finds_the_task_and_not_the_limit(self, store, limited):
        for n in range(3):
            created(store, limited, owner="ann", key=f"k{n}")
        assert store.create(limited, "image", {}, owner="ann", key="k0").verdict == "exists"

    def test_eight_creates_at_once_let_three_through(self, store, limited):
        answers = at_once(*[lambda: store.create(limited, "image", {}, owner="ann")] * 8)
        assert Counter(answer.verdict for answer in answers) == {"created": 3, "limited": 5}


class TestOwner:
    def test_the_task_of_another_user_is_missing(self, store, tasks):
        task_id = created(store, tasks, owner="ann")
        assert store.status(tasks, task_id, owner="ann").task_id == task_id
        assert store.status(tasks, task_id).task_id == task_id
        assert store.status(tasks, task_id, owner="bob") is None
        assert store.status(tasks, created(store, tasks), owner="bob") is None

    def test_the_poll_of_another_user_heals_nothing(self, store, db, tasks):
        task_id = created(store, tasks, owner="ann")
        pass_time(db, PENDING_FOR + 1)
        store.status(tasks, task_id, owner="bob")
        assert row(db, task_id)["status"] == "pending"


class TestCancel:
    def test_a_pending_task_ends_with_a_reason(self, store, db, tasks):
        task_id = created(store, tasks, owner="ann")
        answer = store.cancel(tasks, task_id, owner="ann")
        assert (answer.verdict, answer.state, answer.reason) == (
            "cancelled",
            "cancelled",
            "cancelled",
        )
        assert (row(db, task_id)["status"], attempts(db, task_id)[0]["outcome"]) == (
            "cancelled",
            "cancelled",
        )

    def test_the_worker_that_is_at_it_finds_its_lease_lost(self, store, db, tasks):
        attempt = claimed(store, tasks, owner="ann")
        assert store.cancel(tasks, attempt.task_id).number == 1
        assert store.beat(tasks, attempt.task_id, attempt.token).reason == "cancelled"
        assert store.settle(tasks, attempt.task_id, attempt.token, "complete").verdict == "lost"
        assert row(db, attempt.task_id)["status"] == "cancelled"
        assert refusals(db, attempt.task_id) == [
            ("verb", "beat", "cancelled"),
            ("verb", "complete", "cancelled"),
        ]

    def test_twice_is_once(self, store, db, tasks):
        task_id = created(store, tasks)
        store.cancel(tasks, task_id)
        assert store.cancel(tasks, task_id) == AlreadyEnded(task_id, State.CANCELLED)
        assert len(attempts(db, task_id)) == 1

    def test_what_has_ended_stays_as_it_is(self, store, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "complete")
        assert store.cancel(tasks, attempt.task_id).state == "completed"

    def test_the_task_of_another_user_is_missing_and_goes_on(self, store, db, tasks):
        task_id = created(store, tasks, owner="ann")
        assert store.cancel(tasks, task_id, owner="bob") is None
        assert store.cancel(tasks, "00000000-0000-4000-8000-000000000000") is None
        assert row(db, task_id)["status"] == "pending"

    def test_a_cancel_and_a_claim_at_once_leave_a_cancelled_task_that_nobody_holds(
        self, store, db, tasks
    ):
        for _ in range(5):
            task_id = created(store, tasks)
            at_once(
                lambda t=task_id: store.cancel(tasks, t),
                lambda t=task_id: store.claim(tasks, t, "w"),
            )
            assert row(db, task_id)["status"] == "cancelled"
            assert [one for one in attempts(db, task_id) if one["ended_at"] is None] == []

    def test_a_table_of_others_is_cancelled_in_its_own_words(self, store, db, jobs):
        key = db.execute(
            'insert into public."Media Jobs" default values returning "Job"'
        ).fetchone()["Job"]
        assert store.cancel(jobs, str(key)).state == "cancelled"
        assert (
            db.execute('select "State" from public."Media Jobs"').fetchone()["State"] == "withdrawn"
        )
        assert store.status(jobs, str(key), owner="ann") is None, "the table knows no owner"


class TestClaimAgain:
    """The worker elsewhere, whose claim was answered but not heard."""

    def test_the_same_token_is_the_same_claim(self, store, db, tasks):
        task_id = created(store, tasks)
        token = "6a8d24d4-7f0c-4c57-9d8b-3a1f5f4f8a01"
        first = store.claim(tasks, None, "w", token=token)
        created(store, tasks)
        again = store.claim(tasks, None, "w", token=token)
        assert first.task_id == again.task_id == task_id
        assert first.token == again.token == token
        assert len(attempts(db, task_id)) == 1
