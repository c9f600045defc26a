"""Queues deliver at least once: twice at the same moment, and again after a crash."""

from collections import Counter

from tests.faults.conftest import Make
from tests.faults.world import World
from tests.waiting import eventually


def test_a_task_that_is_pushed_twenty_times_at_once_is_executed_once(world: World):
    world.worker()
    task = world.create("waits")
    answers = [world.push(task) for _ in range(20)]
    eventually(lambda: world.trail(task))
    eventually(lambda: sum(answer.done() for answer in answers) == 19, message="a duplicate hangs")
    held = Counter(answer.result().status_code for answer in answers if answer.done())
    assert held == {409: 19}
    world.gate(task).touch()
    verdicts = Counter(
        answer.result(30).json()["verdict"]
        for answer in answers
        if answer.result().status_code == 200
    )
    assert verdicts == {"settled": 1}
    assert [word for _, _, word in world.trail(task)] == ["began", "ended"]
    assert world.history(task) == [("completed", None)]


def test_a_push_of_a_finished_task_is_acknowledged_and_does_nothing(shared: World):
    task, _ = shared.run("ok")
    answers = [shared.push(task) for _ in range(20)]
    assert {(one.result(30).status_code, one.result().json()["verdict"]) for one in answers} == {
        (200, "ended")
    }
    assert len(shared.trail(task)) == 1


def test_a_redelivery_after_a_crash_takes_over_the_expired_attempt(make: Make):
    """No sweep runs, and nobody polls. The lease is longer than a new worker takes to start."""
    world = make(lambda policy: policy["lease"].update({"for": "5s"}))
    worker = world.worker()
    task = world.begin("waits")
    worker.kill_worker()
    eventually(worker.workers, message="no new worker")
    early = world.push(task).result(30)
    assert early.status_code == 409, "the attempt may be alive still"
    assert int(early.headers["Retry-After"]) >= 1
    eventually(
        lambda: world.one(
            "select lease_until < clock_timestamp() from unstuck.attempts where task_id = %s", task
        )
    )
    assert world.push(task).result(30).json()["state"] == "completed"
    assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]
    assert world.trail(task)[-1][0] == 2


def test_a_redelivery_does_not_take_over_an_attempt_that_beats(world: World):
    task = world.begin("waits")
    eventually(lambda: world.attempts(task)[0]["beats"] >= 5, message="no beats")
    assert world.push(task).result(30).status_code == 409
    world.gate(task).touch()
    world.ends(task)
    assert world.history(task) == [("completed", None)]
