"""`isolation: thread` is for tiny work: it costs less, and the guard can settle it but not stop
it."""

import pytest

from tests.faults.world import RUN_FOR, World
from tests.waiting import eventually


@pytest.mark.parametrize("kind", ["thread_ok", "thread_ok_async"])
def test_a_handler_runs_in_a_thread_of_the_worker(shared: World, kind: str):
    task, _ = shared.run(kind)
    assert shared.history(task) == [("completed", None)]
    assert shared.handler(task) in shared.worker().workers()


def test_a_thread_over_its_deadline_is_settled_then_and_its_late_result_is_not_written(
    shared: World,
):
    task, answer = shared.run("late_thread_sleeps", seconds=RUN_FOR + 1.5)
    assert answer.status_code == 200
    settled = shared.task(task)
    (attempt,) = shared.attempts(task)
    assert (attempt["outcome"], attempt["reason"]) == ("failed", "deadline")
    assert (attempt["ended_at"] - attempt["started_at"]).total_seconds() <= RUN_FOR + 1
    # The thread sleeps on: no one can wake it. The request is answered, and what it does later
    # changes nothing.
    shared.run("thread_ok")
    eventually(
        lambda: shared.one(
            "select clock_timestamp() > %s + interval '2.5 s'", attempt["started_at"]
        )
    )
    shared.run("thread_ok")
    assert shared.task(task) == settled
    assert shared.history(task) == [("failed", "deadline")]


def test_a_cpu_loop_in_a_thread_is_settled_at_its_deadline_and_stopped_by_an_exception(
    world: World,
):
    task, _ = world.run("late_thread_spins")
    (attempt,) = world.attempts(task)
    assert attempt["reason"] == "deadline"
    assert (attempt["ended_at"] - attempt["started_at"]).total_seconds() <= RUN_FOR + 1
    (worker,) = world.worker().workers()
    eventually(lambda: not _burns(worker), message="the loop goes on")
    _, answer = world.run("thread_ok")
    assert answer.json()["state"] == "completed"


@pytest.mark.parametrize("kind", ["breaks_thread", "sys_exits"])
def test_whatever_a_handler_raises_in_a_thread_ends_its_task_at_once(shared: World, kind: str):
    task, _ = shared.run(f"once_thread_{kind}")
    assert shared.history(task) == [("failed", "crashed")]
    (attempt,) = shared.attempts(task)
    assert (attempt["ended_at"] - attempt["started_at"]).total_seconds() < 5


def _burns(pid: int, seconds: float = 0.3) -> bool:
    """Whether the process uses the CPU for more than half of that time."""
    import time

    import psutil

    before = sum(psutil.Process(pid).cpu_times()[:2])
    time.sleep(seconds)
    return sum(psutil.Process(pid).cpu_times()[:2]) - before > seconds / 2
