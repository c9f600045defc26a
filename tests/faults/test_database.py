"""PostgreSQL dies with SIGKILL and comes back: no healthy task may be ended for it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest

from functions.install.migrate import migrate
from functions.ops.local.servers import Tick
from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from tests.faults.conftest import BOTH
from tests.faults.world import RUN_FOR, World, frozen, lives
from tests.supabase.stack import Supabase, bootstrap
from tests.waiting import eventually

LEASE = 4.0
"""Longer than elsewhere: recovery takes about 1 s of it, and a guard may wait 1 s before it asks
again."""


@pytest.fixture(scope="module")
def private() -> Iterator[Postgres]:
    """Durable: what was committed before the kill is there after it."""
    with Postgres() as server:
        yield server


Change = Callable[[dict[str, Any]], object]
Make = Callable[..., World]


@pytest.fixture
def mortal(private: Postgres, through: str, tmp_path: Path) -> Iterator[Make]:
    """Makes a world on a server that the test may kill; the argument alters its policy further."""
    name = f"test_{uuid4().hex}"
    create_database(private.dsn(), name)
    with ExitStack() as made:
        made.callback(drop_database, private.dsn(), name)
        env = None
        if through == "supabase":
            bootstrap(private.dsn(name))
            migrate(private.dsn(name), supabase="public")
            env = made.enter_context(Supabase(private.dsn(name))).env
        else:
            migrate(private.dsn(name))

        def make(change: Change = lambda _: None) -> World:
            world = World(
                private.dsn(name), tmp_path, lambda policy: (longer(policy), change(policy)), env
            )
            made.callback(world.close)
            return world

        yield make


def longer(policy: dict[str, Any]) -> None:
    policy["lease"] = {"beat": "0.5s", "for": f"{LEASE}s"}
    policy["sweep"]["mass_expiry"]["at_least"] = (
        1000  # a second safety net, which would hide a hole in the first
    )


def passes(seconds: float) -> None:
    """Lets the outage last that long."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, seconds + 5)


def on_disk(world: World) -> None:
    """A claim does not wait for the disk: 0.6 s later it is there, or with the next other write."""
    now = world.one("select pg_current_wal_insert_lsn()")
    eventually(lambda: world.one("select pg_current_wal_flush_lsn() >= %s::pg_lsn", now), 10)


@BOTH
def test_no_healthy_task_is_failed_or_repeated_because_the_database_died(
    private: Postgres, mortal: Make
):
    world = mortal()
    world.worker()
    with Tick(world.sweeper().url, 0.3):
        tasks = world.begin_all(["waits"] * 6)
        eventually(
            lambda: all(world.attempts(task)[0]["beats"] for task in tasks), message="no beats"
        )
        private.kill()
        passes(LEASE + 0.5)
        private.restart()
        restarted = time.monotonic()
        eventually(
            lambda: all(world.attempts(task)[0]["beat_at"] > _restart(world) for task in tasks)
        )
        print(f"figure: all beat again {time.monotonic() - restarted:.2f} s after the restart")
        sweeps = world.one("select count(*) from unstuck.sweeps where ok")
        eventually(
            lambda: world.one("select count(*) from unstuck.sweeps where ok") > sweeps + 2,
            message="no sweep",
        )
        for task in tasks:
            world.gate(task).touch()
        for task in tasks:
            world.ends(task)
    assert [world.history(task) for task in tasks] == [[("completed", None)]] * 6
    assert [len(world.trail(task)) for task in tasks] == [2] * 6
    assert world.events("beat_failed")


def test_a_result_that_comes_while_the_database_is_away_is_kept_when_it_returns_in_time(
    private: Postgres, mortal: Make
):
    world = mortal()
    world.worker()
    tasks = world.begin_all(["waits"] * 3)
    on_disk(world)
    private.kill()
    for task in tasks:
        world.gate(task).touch()
        eventually(lambda task=task: world.trail(task)[-1][2] == "ended")
    passes(1)
    private.restart()
    for task in tasks:
        assert world.ends(task)["result"] == {"attempt": 1}
        assert world.history(task) == [("completed", None)]
    assert not world.events("settle_failed")


def test_a_result_that_cannot_be_written_in_time_is_said_so_and_the_sweep_ends_the_task(
    private: Postgres, mortal: Make
):
    world = mortal(short)
    task = world.begin("waits")
    on_disk(world)
    private.kill()
    world.gate(task).touch()
    (event,) = eventually(
        lambda: world.events("settle_failed", task), 15, "nobody says that the end was not written"
    )
    assert (event["severity"], event["wanted"]) == ("ERROR", "complete")
    private.restart()
    with Tick(world.sweeper().url, 0.5):
        world.ends(task)
    (lost, reason), second = world.history(task)
    assert (lost, second) == ("retried", ("completed", None))
    assert reason in {"lease_lost", "deadline"}, "the outage may last until the deadline"


def short(policy: dict[str, Any]) -> None:
    """A platform's timeout that leaves the guard 5 s for its last write."""
    policy["platform"] = {"timeout": "6s", "margin": "1s"}
    policy["watches"]["tasks"]["rules"]["*"]["run_for"] = "5s"
    policy["lease"]["for"] = "2s"


def test_connections_that_died_with_the_database_cost_the_next_task_nothing(
    private: Postgres, mortal: Make
):
    """The worker keeps those that are idle. All are dead now, and only the first call may
    notice."""
    world = mortal()
    world.run("ok")
    tasks = world.begin_all(["waits"] * 7)
    with psycopg.connect(
        world.dsn
    ) as somebody:  # all settle at once, so there are as many connections as tasks
        somebody.execute("lock unstuck.attempts")
        for task in tasks:
            world.gate(task).touch()
        eventually(lambda: world.one("select count(*) from pg_locks where not granted") >= 7)
    for task in tasks:
        world.ends(task)
    assert (
        world.one("select count(*) from pg_stat_activity where application_name = 'unstuck'") >= 7
    )
    private.kill()
    private.restart()
    began = time.monotonic()
    task, answer = world.run("ok")
    print(f"figure: the first task after the restart took {time.monotonic() - began:.2f} s")
    assert answer.status_code == 200
    assert time.monotonic() - began < 3
    assert world.history(task) == [("completed", None)]


def test_a_database_that_stands_still_does_not_hold_up_the_deadline(
    private: Postgres, mortal: Make
):
    """It accepts and never answers: the handler is ended, even though that cannot be written
    yet."""
    world = mortal()
    world.run(
        "ok"
    )  # the forkserver is up: on a busy machine its start alone takes longer than the deadline
    pushed = time.monotonic()
    task = world.begin("late_spins")
    family = [psutil.Process(private.pid), *psutil.Process(private.pid).children()]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: not lives(world.handler(task)), RUN_FOR + 3.5, "the handler goes on")
        print(
            f"figure: ended {time.monotonic() - pushed:.2f} s after its push, beside a silent "
            f"database"
        )
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)
    world.ends(task, "failed")
    assert world.history(task) == [("failed", "deadline")]


def test_a_recovery_that_takes_longer_than_a_lease_costs_no_healthy_task(
    private: Postgres, mortal: Make
):
    """One backend is killed, as the system does when memory runs out: all connections are cut,
    PostgreSQL recovers its data, and nobody can beat until that is done. The postmaster lives on,
    so its start time says nothing."""
    world = mortal(lambda policy: policy["lease"].update({"for": "2.5s"}))
    worker, _ = world.worker(), world.sweeper()
    tasks = world.begin_all(["waits"] * 3)
    held: list[psutil.Process] = []
    holder = threading.Thread(target=_hold_recovery, args=(private.pid, held))
    holder.start()
    with psycopg.connect(world.dsn) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
    holder.join(10)
    passes(3.0)
    with frozen(*worker.workers()):  # so that the sweep comes before the beats
        held[0].resume()
        eventually(lambda: _answers(world), message="PostgreSQL does not come back")
        assert world.swept()["verdict"] == "ok"
    for task in tasks:
        world.gate(task).touch()
    for task in tasks:
        world.ends(task)
    assert [world.history(task) for task in tasks] == [[("completed", None)]] * 3


def _hold_recovery(postmaster: int, held: list[psutil.Process]) -> None:
    """SIGSTOP to the process that recovers the data, as soon as there is one."""
    until = time.monotonic() + 5
    while not held and time.monotonic() < until:
        for child in psutil.Process(postmaster).children():
            with suppress(psutil.Error):
                if ": startup" in " ".join(child.cmdline()):  # not a backend that starts up
                    child.suspend()
                    held.append(child)


def _answers(world: World) -> bool:
    try:
        return world.one("select true")
    except psycopg.OperationalError:
        return False


def _restart(world: World) -> Any:
    return world.one("select pg_postmaster_start_time()")
