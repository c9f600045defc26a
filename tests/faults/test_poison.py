"""A poison task ends whoever takes it: it must run out of attempts, and never run once more."""

import pytest

from functions.ops.local.servers import Tick
from tests.faults.conftest import BOTH
from tests.faults.world import ATTEMPTS, SWEEP, World
from tests.waiting import eventually


@pytest.mark.parametrize("kind", ["kills_worker", "kills_itself"])
@BOTH
def test_a_poison_task_is_executed_exactly_attempts_times_and_then_failed_with_an_error_for_each(
    world: World, kind: str
):
    world.worker()
    task = world.create(kind)
    with Tick(world.sweeper().url, SWEEP / 2):
        world.push(task)
        failed = world.ends(task, "failed", within=30)
        runs = world.one("select count(*) from unstuck.sweeps")
        eventually(
            lambda: world.one("select count(*) from unstuck.sweeps") >= runs + 2
        )  # would one start it again?
    assert [attempt for attempt, _, word in world.trail(task) if word == "began"] == [1, 2, 3][
        :ATTEMPTS
    ]
    attempts = world.attempts(task)
    assert [one["number"] for one in attempts] == [1, 2, 3]
    assert all(one["error"] for one in attempts), "one error for each attempt"
    assert [one["outcome"] for one in attempts] == ["retried", "retried", "failed"]
    assert failed["reason"] == "attempts_exhausted"
    assert failed["error_message"].startswith("Gave up after 3 attempts.")
    assert failed["result"] is None


def test_a_poison_task_whose_pushes_are_repeated_is_not_executed_once_more(world: World):
    world.worker()
    task = world.create("kills_itself")
    world.push(task)
    world.ends(task, "failed")
    for _ in range(5):
        assert world.push(task).result(30).json()["verdict"] == "ended"
    assert len(world.trail(task)) == ATTEMPTS
