"""A guard that learns that its lease is lost stops the work: it could only do harm."""

import time

from tests.faults.world import BEAT, World, lives
from tests.waiting import eventually


def test_an_attempt_that_was_ended_by_somebody_else_is_stopped_at_its_next_beat(world: World):
    world.worker()
    task = world.create("hogs_once")
    answer = world.push(task)
    eventually(lambda: world.trail(task))
    assert lives(world.handler(task))
    world.do(
        "update unstuck.attempts set ended_at = clock_timestamp(), outcome = 'cancelled', "
        "reason = 'cancelled'"
        " where task_id = %s",
        task,
    )
    taken = time.monotonic()
    eventually(lambda: not lives(world.handler(task)), BEAT + 1, "the work goes on")
    print(f"figure: stopped {time.monotonic() - taken:.2f} s after the lease was taken")
    assert answer.result(10).json()["verdict"] == "lost"
    assert answer.result().status_code == 200, "there is nothing left for the queue to deliver"
    (event,) = world.events("lease_lost", task)
    assert event["wanted"] == "beat"
    assert world.history(task) == [("cancelled", "cancelled")]


def test_a_checkpoint_of_a_lost_attempt_is_refused(world: World):
    task = world.create("ok")
    claimed = world.one(
        "select unstuck.tasks_claim(%s, 'test', %s)", task, world.policy.watch().rules_json
    )
    world.do(
        "update unstuck.attempts set ended_at = clock_timestamp(), outcome = 'cancelled' "
        "where task_id = %s",
        task,
    )
    answer = world.one(
        "select unstuck.checkpoint('tasks', %s, %s, 'one', '{}')", task, claimed["token"]
    )
    assert answer["verdict"] == "lost"
    assert world.one("select count(*) from unstuck.checkpoints") == 0
