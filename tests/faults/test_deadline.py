"""A handler that is at work at its deadline is ended then, whatever it does."""

import pytest

from tests.faults.world import LATE, LEASE, RUN_FOR, World, lives
from tests.waiting import eventually


@pytest.mark.parametrize("kind", LATE)
def test_a_handler_over_its_deadline_is_ended_at_its_deadline(shared: World, kind: str):
    task, answer = shared.run(f"late_{kind}")
    assert answer.status_code == 200
    (attempt,) = shared.attempts(task)
    assert (attempt["outcome"], attempt["reason"]) == ("failed", "deadline")
    took = (attempt["ended_at"] - attempt["started_at"]).total_seconds()
    print(f"figure: {kind} ended {took - RUN_FOR:+.2f} s after its deadline")
    assert RUN_FOR - 0.1 < took <= RUN_FOR + 1
    assert shared.task(task)["error_message"] == "The work took longer than it may."
    eventually(lambda: not lives(shared.handler(task)), 1, "the handler goes on")


def test_handlers_that_flood_their_guards_with_progress_keep_their_leases(shared: World):
    """Eight at once, so that the guards, in one process, cannot keep up: they still find time to
    beat."""
    tasks = [shared.create("floods", seconds=LEASE * 1.5) for _ in range(8)]
    answers = [shared.push(task) for task in tasks]
    for answer in answers:
        answer.result(30)
    for task in tasks:
        assert shared.history(task) == [("completed", None)]
        (attempt,) = shared.attempts(task)
        assert attempt["beats"] >= 3
        assert attempt["progress"] == {"fraction": 0.5, "message": "still at it"}


def test_the_task_that_missed_its_deadline_is_tried_again_where_the_rule_says_so(make):
    world = make(
        lambda policy: policy["watches"]["tasks"]["rules"]["late_spins"].update(
            on_lost="retry", attempts=2
        )
    )
    task = world.create("late_spins")
    world.push(task)
    assert world.ends(task, "failed")["reason"] == "attempts_exhausted"
    assert world.history(task) == [("retried", "deadline"), ("failed", "attempts_exhausted")]
    assert [one["cause"] for one in world.attempts(task)] == ["deadline", "deadline"]


def test_a_push_that_came_early_takes_nothing_from_the_time_of_the_work(shared: World):
    """The queue's clock is not the database's: the worker waits for the due time, and only then the
    deadline counts."""
    task = shared.create("late_sleeps", seconds=0.6)
    shared.do(
        "update tasks set scheduled_at = clock_timestamp() + interval '0.9 seconds' where id = %s",
        task,
    )
    assert shared.push(task).result(30).status_code == 200
    assert shared.history(task) == [("completed", None)]
