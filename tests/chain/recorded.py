"""What the real functions wrote: each part of a day is played once, by real processes on a real
database, and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chain.entries import entries
from tests.faults.world import World
from tests.waiting import eventually

Entry = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """Entries of one task that ended well, one that failed, one sweep of each sort, and one task
    whose worker froze."""

    completed: list[Entry]
    failed: list[Entry]
    sweep: list[Entry]
    broken_sweep: list[Entry]
    late_sweep: list[Entry]
    lost: list[Entry]


def record(world: World) -> Recorded:
    world.worker()
    return Recorded(
        completed=_lines(world, lambda: world.run("ok")),
        failed=_lines(world, lambda: world.run("once_exits")),
        sweep=_lines(world, world.swept),
        broken_sweep=_lines(world, lambda: _broken(world)),
        late_sweep=_lines(world, lambda: _late(world)),
        lost=_lines(world, lambda: _loses(world)),
    )


def _lines(world: World, play: Callable[[], Any]) -> list[Entry]:
    """The entries of what is written while it plays."""
    before = {file: len(file.read_text()) for file in _logs(world)}
    play()
    found = []
    for file in _logs(world):
        lines = file.read_text()[before.get(file, 0) :].splitlines()
        found += entries(lines, f"unstuck-{file.stem}")
    return found


def _logs(world: World) -> list[Path]:
    return sorted(world.folder.glob("*.log"))


def _broken(world: World) -> None:
    """A sweep that finds no database."""
    import requests

    server = world.server("broken", "sweep", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert requests.post(server.url, timeout=60).status_code == 503


def _late(world: World) -> None:
    """Sweeps were missing for an hour: the last attempt of a task is ended that much too late."""
    task = _overdue(world, "1 hour")
    assert world.swept()["failed"] == 1
    _closed(world, task)


def _loses(world: World) -> None:
    """A worker whose lease was given away: its next beat is refused."""
    task = _overdue(world, "0 s")
    world.swept()
    eventually(lambda: world.events("lease_lost", task), message="the beat was not refused")
    _closed(world, task)


def _overdue(world: World, by: str) -> str:
    task = world.begin("waits")
    world.do(
        "update unstuck.attempts set deadline_at = now() - %s::interval, tries = 3 "
        "where task_id = %s and ended_at is null",
        by,
        task,
    )
    return task


def _closed(world: World, task: str) -> None:
    eventually(lambda: world.events("lease_lost", task), message="the guard did not stop")
    world.gate(task).touch()
