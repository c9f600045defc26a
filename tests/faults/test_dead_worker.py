"""A gunicorn worker is killed with SIGKILL, as the platform does when memory runs out: nobody is
told."""

import time

import pytest
import requests

from functions.ops.local.servers import Tick
from tests.faults.conftest import BOTH
from tests.faults.world import LEASE, SWEEP, World, family, lives
from tests.waiting import eventually


@BOTH
def test_a_task_whose_worker_was_killed_is_rescued_by_the_sweep_and_completed_by_a_second_attempt(
    world: World,
):
    sweeper, worker = world.sweeper(), world.worker()
    with Tick(sweeper.url, SWEEP):
        task = world.begin("waits")
        killed = world.now()
        worker.kill_worker()
        done = world.ends(task)
    assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]
    first, second = world.attempts(task)
    assert done["result"] == {"attempt": 2}
    assert (first["tries"], second["tries"]) == (1, 2)
    rescue = (first["ended_at"] - killed).total_seconds()
    print(f"figure: rescued by the sweep {rescue:.2f} s after SIGKILL")
    assert rescue <= LEASE + SWEEP + 1
    assert [one["by"] for one in world.events("task_requeued", task)] == ["sweep"]


def test_a_status_poll_alone_rescues_the_task_of_a_killed_worker(world: World):
    status, worker = world.server("status", "task_status"), world.worker()
    task = world.begin("waits")
    killed = world.now()
    worker.kill_worker()
    eventually(
        lambda: (
            requests.get(status.url, {"task_id": task}, timeout=10).json()["state"] == "completed"
        ),
        20,
    )
    assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]
    rescue = (world.attempts(task)[0]["ended_at"] - killed).total_seconds()
    print(f"figure: rescued by a poll {rescue:.2f} s after SIGKILL")
    assert rescue <= LEASE + 1
    assert world.one("select count(*) from unstuck.sweeps") == 0


@pytest.mark.parametrize("kind", ["sleeps", "hogs_once", "late_starts_a_program"])
def test_no_process_of_a_killed_worker_goes_on(world: World, kind: str):
    worker = world.worker()
    task = world.begin(kind)
    before = set(family(worker)) - {worker.pid}
    before.add(world.handler(task))
    killed = time.monotonic()
    worker.kill_worker()
    eventually(
        lambda: not any(lives(pid) for pid in before),
        message="a process of the dead worker goes on",
    )
    print(f"figure: the handler ended {time.monotonic() - killed:.3f} s after its worker")
    assert time.monotonic() - killed < LEASE, (
        "a second attempt could begin while the first is at work"
    )


def test_the_next_task_runs_in_a_new_worker(world: World):
    worker = world.worker()
    world.begin("sleeps")
    worker.kill_worker()
    task = world.create("ok")
    eventually(lambda: _answers(world, task), message="the master did not start a new worker")
    assert world.task(task)["status"] == "completed"


def _answers(world: World, task: str) -> bool:
    try:
        return world.push(task).result(10).status_code == 200
    except requests.ConnectionError:  # the worker is not there yet
        return False
