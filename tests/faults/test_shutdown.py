"""SIGTERM in mid-task: the platform takes the instance away, and grants 10 s."""

import os
import signal
import time
from contextlib import suppress

import pytest

from tests.faults.conftest import Make
from tests.faults.world import World, family, loading
from tests.waiting import eventually

GRANTED = 10.0


@pytest.mark.parametrize(
    ("threads", "tasks", "kind"),
    [("", 3, "waits"), ("1", 1, "waits"), ("1", 1, "hogs_once")],
    ids=["default_threads", "one_thread", "one_thread_in_c"],
)
def test_sigterm_releases_the_tasks_and_burns_no_attempt(
    world: World, threads: str, tasks: int, kind: str
):
    old = world.worker("old", **({"THREADS": threads} if threads else {}))
    ids = [world.create(kind) for _ in range(tasks)]
    answers = [world.push(task, old) for task in ids]
    for task in ids:
        eventually(lambda task=task: world.trail(task))
    asked = time.monotonic()
    os.kill(old.pid, signal.SIGTERM)
    eventually(lambda: not family(old), GRANTED, "a process is left")
    print(f"figure: all processes ended {time.monotonic() - asked:.2f} s after SIGTERM")
    assert [answer.result(5).status_code for answer in answers] == [503] * tasks
    assert [world.history(task) for task in ids] == [[("released", "shutdown")]] * tasks

    for task in ids:
        assert world.push(task).result(30).status_code == 200
        assert world.history(task) == [("released", "shutdown"), ("completed", None)]
        assert [one["tries"] for one in world.attempts(task)] == [1, 1]


def test_sigterm_to_all_processes_burns_no_attempt_either(world: World):
    """As `kill 0`, a terminal or a container runtime that signals the whole group does."""
    old = world.worker("old")
    task = world.begin("waits", old)
    os.killpg(old.pid, signal.SIGTERM)
    eventually(lambda: not family(old), GRANTED, "a process is left")
    assert world.history(task) == [("released", "shutdown")]


def test_sigterm_to_each_process_lets_work_that_must_not_be_repeated_finish(world: World):
    """As systemd does: the handler's own process, which is in a group of its own, gets it too."""
    old = world.worker("old")
    task = world.create("mail_waits")
    answer = world.push(task, old)
    eventually(lambda: world.trail(task))
    for pid in family(old):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: world.attempts(task)[0]["beats"] > 1, message="it was ended")
    world.gate(task).touch()
    assert answer.result(GRANTED).json()["state"] == "completed"
    assert world.history(task) == [("completed", None)]
    eventually(lambda: not family(old), GRANTED, "a process is left")


def test_sigterm_to_each_process_burns_no_attempt(world: World):
    old = world.worker("old")
    task = world.begin("waits", old)
    for pid in family(old):
        with suppress(ProcessLookupError):  # the end of one may end another
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not family(old), GRANTED, "a process is left")
    assert world.history(task) == [("released", "shutdown")]


def test_sigterm_lets_work_that_must_not_be_repeated_finish(world: World):
    old = world.worker("old")
    task = world.create("mail_waits")
    answer = world.push(task, old)
    eventually(lambda: world.trail(task))
    os.kill(old.pid, signal.SIGTERM)
    eventually(lambda: world.attempts(task)[0]["beats"] > 1, message="the guard ended it")
    world.gate(task).touch()
    assert answer.result(GRANTED).json()["state"] == "completed"
    assert world.history(task) == [("completed", None)]
    eventually(lambda: not family(old), GRANTED, "a process is left")


@pytest.mark.parametrize("kind", ["mail_waits", "mail_hogs_once"])
def test_work_that_must_not_be_repeated_and_does_not_finish_in_time_fails_as_uncertain(
    world: World, kind: str
):
    old = world.worker("old")
    task = world.create(kind)
    answer = world.push(task, old)
    eventually(lambda: world.trail(task))
    os.kill(old.pid, signal.SIGTERM)
    eventually(lambda: not family(old), GRANTED, "a process is left")
    assert answer.result(1).status_code == 200, "there is nothing left to deliver"
    assert world.history(task) == [("failed", "uncertain")]
    assert world.attempts(task)[0]["cause"] == "shutdown"


@pytest.mark.parametrize("kind", ["mail", "plain"])
def test_a_handler_that_has_not_begun_is_put_back_and_burns_no_attempt(make: Make, kind: str):
    """Its module is still being loaded."""
    world = make(loading)
    gate = world.folder / "import"
    old = world.worker("old", IMPORT_GATE=str(gate))
    task = world.create(f"loading_{kind}")
    answer = world.push(task, old)
    eventually(lambda: world.attempts(task))
    os.kill(old.pid, signal.SIGTERM)
    assert answer.result(GRANTED).status_code == 503
    assert world.history(task) == [("released", "shutdown")]
    gate.touch()
    world.gate(task).touch()
    new = world.worker("new", IMPORT_GATE=str(gate))
    assert world.push(task, new).result(30).json()["state"] == "completed"
    assert [one["tries"] for one in world.attempts(task)] == [1, 1]
    assert [attempt for attempt, _, word in world.trail(task) if word == "began"] == [2]


def test_an_idle_server_ends_at_once(world: World):
    old = world.worker("old")
    task = world.create("ok")
    assert world.push(task, old).result(30).status_code == 200
    os.kill(old.pid, signal.SIGTERM)
    eventually(lambda: not family(old), 5, "a process is left")


def test_a_task_that_is_released_again_and_again_does_not_live_for_ever(world: World):
    """A task that makes the platform end its worker would else never burn an attempt."""
    task = world.create("ok")
    for _ in range(10 + 3):
        claimed = world.one(
            "select unstuck.tasks_claim(%s, 'test', %s)", task, world.policy.watch().rules_json
        )
        assert claimed["verdict"] == "claimed"
        world.one(
            "select unstuck.tasks_settle(%s, %s, 'release', %s, p_reason => 'shutdown')",
            task,
            claimed["token"],
            world.policy.watch().rules_json,
        )
        world.do(
            "update tasks set scheduled_at = clock_timestamp() where id = %s "
            "and status = 'pending'",
            task,
        )
    assert world.task(task)["status"] == "failed"
