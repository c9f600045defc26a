"""PostgreSQL dies with SIGKILL and comes back: no healthy task may be ended for it."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.migrate import migrate
from functions.ops.dev import Tick
from functions.ops.embedded import Postgres
from tests.faults.world import World
from tests.waiting import eventually

LEASE = 2.0
"""Longer than elsewhere: after the restart a guard has this long to beat before the sweep may take its task."""


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Durable: what was committed before the kill is there after it."""
    with Postgres() as server:
        yield server


@pytest.fixture
def mortal(private: Postgres, tmp_path: Path) -> Iterator[World]:
    """A world on a server that the test may kill."""
    from functions.ops.embedded import create_database, drop_database

    name = f"test_{tmp_path.name}".lower()[:60]
    create_database(private.dsn(), name)
    migrate(private.dsn(name))
    world = World(private.dsn(name), tmp_path, longer)
    yield world
    world.close()
    drop_database(private.dsn(), name)


def longer(policy) -> None:
    policy["lease"] = {"beat": "0.5s", "for": f"{LEASE}s"}
    policy["platform"]["timeout"] = "17.5s"
    policy["sweep"]["mass_expiry"]["at_least"] = 1000  # a second safety net, which would hide a hole in the first


def passes(seconds: float) -> None:
    """Lets the outage last that long."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, seconds + 5)


def test_no_healthy_task_is_failed_or_repeated_because_the_database_died(private: Postgres, mortal: World):
    mortal.worker()
    with Tick(mortal.sweeper().url, 0.3):
        tasks = mortal.begin_all(["waits"] * 6)
        eventually(lambda: all(mortal.attempts(task)[0]["beats"] for task in tasks), message="no beats")
        private.kill()
        passes(LEASE + 1)
        private.restart()
        restarted = time.monotonic()
        eventually(lambda: all(mortal.attempts(task)[0]["beat_at"] > _restart(mortal) for task in tasks))
        print(f"figure: all beat again {time.monotonic() - restarted:.2f} s after the restart")
        sweeps = mortal.one("select count(*) from unstuck.sweeps where ok")
        eventually(lambda: mortal.one("select count(*) from unstuck.sweeps where ok") > sweeps + 2, message="no sweep")
        for task in tasks:
            mortal.gate(task).touch()
        for task in tasks:
            mortal.ends(task)
    assert [mortal.history(task) for task in tasks] == [[("completed", None)]] * 6
    assert [len(mortal.trail(task)) for task in tasks] == [2] * 6
    assert mortal.events("beat_failed")


def test_a_result_that_comes_while_the_database_is_away_is_kept_when_it_returns_in_time(
    private: Postgres, mortal: World
):
    mortal.worker()
    tasks = mortal.begin_all(["waits"] * 3)
    private.kill()
    for task in tasks:
        mortal.gate(task).touch()
        eventually(lambda task=task: mortal.trail(task)[-1][2] == "ended")
    passes(1)
    private.restart()
    for task in tasks:
        assert mortal.ends(task)["result"] == {"attempt": 1}
        assert mortal.history(task) == [("completed", None)]
    assert not mortal.events("settle_failed")


def test_a_result_that_cannot_be_written_in_time_is_said_so_and_the_sweep_ends_the_task(make_short, private: Postgres):
    mortal = make_short
    task = mortal.begin("waits")
    private.kill()
    mortal.gate(task).touch()
    (event,) = eventually(lambda: mortal.events("settle_failed", task), 15, "nobody says that the end was not written")
    assert (event["severity"], event["wanted"]) == ("ERROR", "complete")
    private.restart()
    with Tick(mortal.sweeper().url, 0.5):
        mortal.ends(task)
    assert mortal.history(task) == [("retried", "lease_lost"), ("completed", None)]


@pytest.fixture
def make_short(private: Postgres, tmp_path: Path) -> Iterator[World]:
    """With a platform's timeout that leaves the guard 5 s for its last write."""
    from functions.ops.embedded import create_database, drop_database

    name = f"short_{tmp_path.name}".lower()[:60]
    create_database(private.dsn(), name)
    migrate(private.dsn(name))

    def change(policy) -> None:
        longer(policy)
        policy["platform"] = {"timeout": "6s", "margin": "1s"}
        policy["watches"]["tasks"]["rules"]["*"]["run_for"] = "5s"

    world = World(private.dsn(name), tmp_path, change)
    yield world
    world.close()
    drop_database(private.dsn(), name)


def test_connections_that_died_with_the_database_cost_the_next_task_nothing(private: Postgres, mortal: World):
    """The worker keeps those that are idle. All are dead now, and only the first call may notice."""
    import psycopg

    mortal.run("ok")
    tasks = mortal.begin_all(["waits"] * 7)
    with psycopg.connect(mortal.dsn) as somebody:  # all settle at once, so there are as many connections as tasks
        somebody.execute("lock unstuck.attempts")
        for task in tasks:
            mortal.gate(task).touch()
        eventually(lambda: mortal.one("select count(*) from pg_locks where not granted") >= 7)
    for task in tasks:
        mortal.ends(task)
    assert mortal.one("select count(*) from pg_stat_activity where application_name = 'unstuck'") >= 7
    private.kill()
    private.restart()
    began = time.monotonic()
    task, answer = mortal.run("ok")
    print(f"figure: the first task after the restart took {time.monotonic() - began:.2f} s")
    assert answer.status_code == 200
    assert time.monotonic() - began < 3
    assert mortal.history(task) == [("completed", None)]


def test_a_database_that_stands_still_does_not_hold_up_the_deadline(private: Postgres, mortal: World):
    """It accepts and never answers: the handler is ended, even though that cannot be written yet."""
    import psutil

    from tests.faults.world import RUN_FOR, lives

    task = mortal.begin("late_spins")
    began = time.monotonic()
    family = [psutil.Process(private.pid), *psutil.Process(private.pid).children()]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: not lives(mortal.handler(task)), RUN_FOR + 3.5, "the handler goes on")
        print(f"figure: ended {time.monotonic() - began - RUN_FOR:+.2f} s after its deadline, beside a silent database")
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)
    mortal.ends(task, "failed")
    assert mortal.history(task) == [("failed", "deadline")]


def _restart(world: World):
    return world.one("select pg_postmaster_start_time()")
