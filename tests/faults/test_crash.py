"""The handler's process ends, or its end cannot be told: the guard says how, and the worker goes
on."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functions.ops.local.processes import children
from tests.faults.conftest import Make
from tests.faults.world import LEASE, RUN_FOR, World, family
from tests.waiting import eventually

HOW = {
    "exits": "exit code 3",
    "sys_exits": "SystemExit(3)",
    "segfaults": "signal 11",
    "kills_itself": "signal 9",
}


def importing(module: str, run_for: float) -> Callable[[dict[str, Any]], None]:
    """A kind whose handler is in that module. Not for all worlds: the handlers of all kinds are
    loaded beforehand."""

    def change(policy: dict[str, Any]) -> None:
        rule = {
            "handler": f"tests.faults.{module}",
            "on_lost": "fail",
            "on_error": "fail",
            "run_for": f"{run_for}s",
        }
        policy["watches"]["tasks"]["rules"][module] = rule

    return change


@pytest.mark.parametrize("kind", HOW)
def test_a_handler_that_ends_its_process_has_crashed_and_the_detail_says_how(
    shared: World, kind: str
):
    workers = shared.worker().workers()
    task, answer = shared.run(f"once_{kind}")
    assert answer.status_code == 200
    assert shared.history(task) == [("failed", "crashed")]
    (attempt,) = shared.attempts(task)
    assert HOW[kind] in attempt["detail"]
    assert (attempt["ended_at"] - attempt["started_at"]).total_seconds() < 5, (
        "seen at once, not by the lease"
    )
    assert shared.worker().workers() == workers


def test_a_crash_leaves_the_other_tasks_of_the_worker_alone(shared: World):
    neighbour = shared.begin("waits")
    for kind in HOW:
        shared.run(f"once_{kind}")
    shared.gate(neighbour).touch()
    shared.ends(neighbour)
    assert shared.history(neighbour) == [("completed", None)]


def test_after_the_death_of_the_forkserver_the_next_task_runs(world: World):
    worker = world.worker()
    task = world.begin("waits")
    handler = world.handler(task)
    (forkserver,) = [pid for pid in family(worker) if handler in children(pid)]
    assert Path(f"/proc/{forkserver}").exists()
    os.kill(forkserver, signal.SIGKILL)
    eventually(lambda: world.attempts(task)[0]["ended_at"], 2, "the guard did not see it")
    assert world.attempts(task)[0]["reason"] == "crashed"
    _, answer = world.run("ok")
    assert answer.json()["state"] == "completed"


def test_a_handler_whose_module_cannot_be_imported_comes_back_and_says_why(make: Make):
    world = make(importing("import_fails", run_for=15))
    task, _ = world.run("import_fails")
    assert world.history(task) == [("released", "transient")]
    assert "A_SETTING_THAT_IS_MISSING" in world.attempts(task)[0]["detail"]
    other, _ = world.run("ok")
    assert world.history(other) == [("completed", None)]


def test_a_handler_whose_module_hangs_on_import_misses_its_deadline_and_the_other_tasks_run(
    make: Make,
):
    world = make(importing("import_hangs", run_for=RUN_FOR))
    first, _ = world.run("import_hangs")
    assert world.history(first) == [("failed", "deadline")]
    (attempt,) = world.attempts(first)
    assert attempt["cause"] == "deadline"
    assert "before the handler began" in attempt["detail"]
    second = world.create("import_hangs")
    answer = world.push(second)
    other, _ = world.run("ok")
    assert world.history(other) == [("completed", None)]
    answer.result(10)
    (attempt,) = world.attempts(second)
    assert attempt["cause"] == "deadline"
    assert (attempt["ended_at"] - attempt["started_at"]).total_seconds() <= RUN_FOR + 1


@pytest.mark.parametrize("kind", ["says_nul", "returns_nul"])
def test_words_that_the_database_cannot_store_do_not_keep_a_task_from_its_end(
    shared: World, kind: str
):
    task, answer = shared.run(f"once_{kind}")
    assert answer.status_code == 200
    assert shared.history(task) == [("failed", "handler_error")]


def test_progress_that_the_database_cannot_store_does_not_cost_the_lease(shared: World):
    task, _ = shared.run("shows_nul", seconds=LEASE * 1.5)
    assert shared.history(task) == [("completed", None)]
    assert shared.attempts(task)[0]["beats"] >= 2
