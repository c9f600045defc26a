"""Workers that pull: real processes of `python -m functions work`, which nobody pushes to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from functions.ops.local.servers import ROOT
from tests.faults.world import World
from tests.waiting import eventually

LONGEST = 30.0


@contextmanager
def pulling(world: World, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    env = {
        **os.environ,
        "DATABASE_URL": world.dsn,
        "UNSTUCK_POLICY": str(world.folder / "policy.yaml"),
    }
    with (world.folder / "pull.log").open("ab") as log:
        command = [sys.executable, "-m", "functions", "work", *options]
        process = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_each_task_is_run_once_by_two_workers_that_pull(world: World):
    tasks = [world.create("ok") for _ in range(6)]
    with pulling(world, "--once", "--json") as one, pulling(world, "--once", "--json") as other:
        assert (one.wait(LONGEST), other.wait(LONGEST)) == (0, 0)
    said = (world.folder / "pull.log").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(line)["ran"] for line in said if line.startswith('{"ran"')) == 6
    assert [world.history(task) for task in tasks] == [[("completed", None)]] * 6
    assert all(len(world.trail(task)) == 1 for task in tasks)


def test_a_worker_that_found_nothing_takes_what_comes_later_of_its_kinds_only(world: World):
    other = world.create("steps")
    with pulling(world, "--kind", "ok"):
        eventually(lambda: b"pulling tasks" in (world.folder / "pull.log").read_bytes(), LONGEST)
        task = world.create("ok")
        world.ends(task, within=LONGEST)
    assert world.task(other)["status"] == "pending"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "ctrl_c"])
def test_a_worker_that_is_told_to_stop_releases_its_task_and_burns_no_attempt(
    world: World, sent: signal.Signals
):
    task = world.create("waits")
    with pulling(world) as process:
        eventually(lambda: world.trail(task), LONGEST)
        os.killpg(process.pid, sent)  # as a terminal does: to the whole group
        assert process.wait(LONGEST) == 0
    assert world.history(task) == [("released", "shutdown")]


def test_the_task_of_a_worker_that_was_killed_is_taken_by_the_next_after_a_sweep(world: World):
    task = world.create("waits")
    with pulling(world) as process:
        eventually(lambda: world.trail(task), LONGEST)
        os.killpg(process.pid, signal.SIGKILL)
    eventually(lambda: world.swept()["requeued"] == 1, LONGEST)
    world.gate(task).touch()
    with pulling(world):
        world.ends(task, within=LONGEST)
    assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]


def test_a_worker_waits_for_a_database_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(world, "dsn", "postgresql://nobody@127.0.0.1:9/none?connect_timeout=1")
    with pulling(world) as process:
        eventually(lambda: b"request_failed" in (world.folder / "pull.log").read_bytes(), LONGEST)
        assert process.poll() is None
