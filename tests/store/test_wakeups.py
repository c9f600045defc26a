"""A push is a wake-up: the task that it names says that there is work, and the claim takes the most
urgent of all that may start. Over each store."""

import pytest

from functions.core.policy import Watch
from functions.core.record import replace
from tests.sql import pass_time
from tests.store.steps import LEASE, attempts, claimed, claimed_again, created, settled


def woken(store, watch, task_id, kinds=None):
    return store.claim(watch, task_id, "w", kinds, chooses=True)


KINDS = pytest.mark.parametrize("kinds", [None, ["image", "patient"]], ids=["any", "by kind"])


class TestWakeUp:
    @KINDS
    def test_the_push_of_one_task_starts_the_most_urgent_and_then_the_oldest(
        self, store, tasks, kinds
    ):
        waiting = [created(store, tasks, priority=priority) for priority in (0, 0, 1000, 5)]
        taken = [woken(store, tasks, task, kinds).task_id for task in waiting]
        assert taken == [waiting[n] for n in (2, 3, 0, 1)]

    @KINDS
    def test_no_wake_up_is_lost_as_many_pushes_as_tasks_start_them_all(self, store, tasks, kinds):
        waiting = [created(store, tasks, priority=number % 3) for number in range(9)]
        taken = [woken(store, tasks, task, kinds).task_id for task in waiting]
        assert sorted(taken) == sorted(waiting)

    def test_the_push_of_a_task_that_was_taken_starts_another_or_says_what_became_of_it(
        self, store, tasks
    ):
        first, second = created(store, tasks), created(store, tasks, priority=1)
        attempt = woken(store, tasks, first)
        assert attempt.task_id == second
        assert woken(store, tasks, second).task_id == first
        assert woken(store, tasks, first).verdict == "held"
        settled(store, tasks, attempt, "complete")
        assert woken(store, tasks, second).verdict == "ended"

    def test_the_push_of_a_task_whose_time_has_not_come_comes_back_then(self, store, db, tasks):
        later, other = created(store, tasks, delay=60), created(store, tasks)
        answer = woken(store, tasks, later)
        assert (answer.verdict, answer.task_id) == ("early", later)
        pass_time(db, 61)
        assert {woken(store, tasks, task).task_id for task in (later, other)} == {later, other}

    def test_the_push_of_a_paused_task_starts_another_and_then_comes_back(self, store, db, tasks):
        paused, other = created(store, tasks, "image"), created(store, tasks, "patient")
        store.pause(tasks, "image", "ada", None, 600.0)
        assert woken(store, tasks, paused).task_id == other
        answer = woken(store, tasks, paused)
        assert (answer.verdict, answer.task_id) == ("paused", paused)
        assert answer.retry_after > 0
        assert attempts(db, paused) == []

    def test_a_lost_task_is_rescued_by_its_own_push_and_goes_on_at_once(self, store, db, tasks):
        lost = claimed(store, tasks)
        created(store, tasks, priority=9)
        pass_time(db, LEASE + 1)
        answer = woken(store, tasks, lost.task_id)
        assert (answer.task_id, answer.number) == (lost.task_id, 2)

    def test_a_worker_is_given_no_kind_that_it_cannot_do(self, store, tasks):
        created(store, tasks, "hasty", priority=9)
        image = created(store, tasks, "image")
        assert woken(store, tasks, image, ["image"]).task_id == image

    def test_the_push_of_a_kind_that_this_worker_lacks_starts_what_it_can(self, store, tasks):
        hasty, image = created(store, tasks, "hasty"), created(store, tasks, "image")
        assert woken(store, tasks, hasty, ["image"]).task_id == image
        answer = woken(store, tasks, hasty, ["image"])
        assert (answer.verdict, answer.task_id) == ("elsewhere", hasty)

    def test_a_push_of_a_task_that_is_not_there_starts_nothing_more_than_what_waits(
        self, store, tasks
    ):
        gone = "00000000-0000-0000-0000-000000000001"
        assert woken(store, tasks, gone).verdict == "missing"
        waiting = created(store, tasks)
        assert woken(store, tasks, gone).task_id == waiting

    def test_a_wake_up_whose_answer_was_lost_is_answered_the_same_again(self, store, tasks):
        first, urgent = created(store, tasks), created(store, tasks, priority=9)
        attempt = woken(store, tasks, first)
        again = store.claim(tasks, first, "w", token=attempt.token, chooses=True)
        assert (again.task_id, again.token) == (urgent, attempt.token)


class TestNamed:
    @pytest.fixture
    def named(self, tasks: Watch) -> Watch:
        rule = replace(tasks.rule("image"), dispatch="named")
        return replace(tasks, rules=tasks.rules | {"image": rule})

    @KINDS
    def test_the_push_of_such_a_kind_starts_its_task_and_no_other_push_does(
        self, store, named, kinds
    ):
        first, urgent = (created(store, named, "image", priority=n) for n in (0, 9))
        other = created(store, named, "patient")
        assert woken(store, named, other, kinds).task_id == other
        assert woken(store, named, other, kinds).verdict == "held"
        assert woken(store, named, first, kinds).task_id == first
        assert woken(store, named, first, kinds).verdict == "held"
        assert woken(store, named, urgent, kinds).task_id == urgent

    def test_who_pulls_takes_it_in_its_turn(self, store, named):
        task_id = created(store, named, "image")
        assert claimed_again(store, named, None).task_id == task_id
