"""What the real functions wrote: each part of a day is played once, by real processes on a real
database, and kept."""

import base64
import json
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import requests

from functions.core.answers import Claimed
from functions.ops.local.servers import Server
from tests.chain import platform
from tests.chain.entries import entries
from tests.faults.world import ATTEMPTS, MASS, World
from tests.waiting import eventually

Entry = dict[str, Any]


FUNCTION_OF_LOG = {
    "broken": "sweep",
    "complete": "complete-task",
    "create": "create-task",
    "unsettled": "complete-task",
}
"""Which function a server is, where its name does not say it."""


@dataclass(frozen=True)
class Recorded:
    """Entries of one task that ended well, one that failed, one sweep of each sort, and each way in
    which a write or a push is refused."""

    completed: list[Entry]
    failed: list[Entry]
    sweep: list[Entry]
    broken_sweep: list[Entry]
    late_sweep: list[Entry]
    lost: list[Entry]
    zombie: list[Entry]
    requeuing_sweep: list[Entry]
    platform_rescue: list[Entry]
    waiting_sweep: list[Entry]
    unsweepable_sweep: list[Entry]
    suspended_sweep: list[Entry]
    incomplete_sweep: list[Entry]
    unpushed: list[Entry]
    unsettled: list[Entry]


def record(world: World) -> Recorded:
    world.worker()
    return Recorded(
        completed=_lines(world, lambda: world.run("ok")),
        failed=_lines(world, lambda: world.run("once_exits")),
        sweep=_lines(world, world.swept),
        broken_sweep=_lines(world, lambda: _broken(world)),
        late_sweep=_lines(world, lambda: _late(world)),
        lost=_lines(world, lambda: _loses(world)),
        zombie=_lines(world, lambda: _refused_result(world)),
        requeuing_sweep=_lines(world, lambda: _requeues(world)),
        platform_rescue=_lines(world, lambda: _instance_gone(world)),
        waiting_sweep=_lines(world, lambda: _waits_long(world)),
        unsweepable_sweep=_lines(world, lambda: _nailed_down(world)),
        incomplete_sweep=_lines(world, lambda: _locked_table(world)),
        unpushed=_lines(world, lambda: _queue_away(world)),
        unsettled=_lines(world, lambda: _database_away(world)),
        suspended_sweep=_lines(world, lambda: _mass_expiry(world)),
    )


def _lines(world: World, play: Callable[[], Any]) -> list[Entry]:
    """The entries of what is written while it plays."""
    before = {file: len(file.read_text()) for file in _logs(world)}
    play()
    found = []
    for file in _logs(world):
        lines = file.read_text()[before.get(file, 0) :].splitlines()
        found += entries(lines, f"unstuck-{FUNCTION_OF_LOG.get(file.stem, file.stem)}")
    return found


def _logs(world: World) -> list[Path]:
    return sorted(world.folder.glob("*.log"))


def _broken(world: World) -> None:
    """A sweep that finds no database."""
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


def _refused_result(world: World) -> None:
    """A worker elsewhere sends its result after the task was ended."""
    task, token = _held(world, "0 s")
    world.swept()
    answer = _post(world.server("complete", "complete_task"), task_id=task, token=token)
    assert answer.status_code == 409


def _requeues(world: World) -> None:
    """A worker that died at its first try."""
    task, _ = _held(world, "0 s", tries=1)
    assert world.swept()["requeued"] == 1
    _remove(world, task)


def _instance_gone(world: World) -> None:
    """The platform's log says that it ended the instance which holds a task."""
    task, _ = _held(world, None)
    world.do(
        "update unstuck.attempts set worker = 'unstuck-worker-00007-abc@00f1a2b3', "
        "beat_at = now() - interval '1 s', started_at = now() - interval '1 min' "
        "where task_id = %s",
        task,
    )
    entry = json.dumps(platform.line(platform.OOM, datetime.now(UTC))).encode()
    message = {"data": base64.b64encode(entry).decode()}
    answer = _post(world.server("rescue", "rescue"), message=message)
    assert answer.json() == {"ended": 1}
    _remove(world, task)


def _waits_long(world: World) -> None:
    """No worker has taken a task for 12 minutes, though it was pushed again just now. With ten, the
    mean with the healthy sweeps beside it would lie on the threshold."""
    task = world.create("ok")
    world.do(
        "update tasks set scheduled_at = clock_timestamp() - interval '12 min' where id = %s", task
    )
    world.do(
        "insert into unstuck.dispatches (watch, task_id, at) "
        "values ('tasks', %s, clock_timestamp())",
        task,
    )
    assert world.swept()["redispatched"] == 0
    _remove(world, task)


def _nailed_down(world: World) -> None:
    """The database refuses to end a task."""
    task, _ = _held(world, "0 s")
    world.do("alter table tasks add constraint nailed_down check (status = 'processing') not valid")
    assert world.swept()["unsweepable"] == 1
    world.do("alter table tasks drop constraint nailed_down")
    _remove(world, task)


def _locked_table(world: World) -> None:
    """Somebody holds a lock on the whole table for longer than the sweep may take."""
    with psycopg.connect(world.dsn) as connection:
        connection.execute("lock table tasks")
        world.sweep()


def _queue_away(world: World) -> None:
    server = world.server("create", "create_task", WORKER_URL="http://127.0.0.1:1")
    answer = _post(server, kind="ok", input={})
    assert answer.status_code == 201
    task = answer.json()["task_id"]
    eventually(lambda: world.events("dispatch_failed", task), message="the push was taken")
    _remove(world, task)


def _database_away(world: World) -> None:
    """A worker elsewhere sends a result that cannot be written."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    server = world.server("unsettled", "complete_task", DATABASE_URL=nowhere)
    answer = _post(server, task_id=str(uuid.uuid4()), token=str(uuid.uuid4()))
    assert answer.status_code == 503


def _mass_expiry(world: World) -> None:
    """The leases of all workers run out at once."""
    for _ in range(MASS):
        _held(world, None)
    world.do("update unstuck.attempts set lease_until = now() where ended_at is null")
    assert world.swept()["suspended"] == MASS


def _held(world: World, late_by: str | None, tries: int = ATTEMPTS) -> tuple[str, str]:
    """A task and the token of an attempt that holds it, without a process. `late_by` is how long
    ago its deadline was."""
    task = world.create("ok")
    watch = world.policy.watches["tasks"]
    with closing(world.store()) as store:
        claimed = store.claim(watch, task, "a worker elsewhere", ["ok"])
    assert isinstance(claimed, Claimed)
    if late_by:
        world.do(
            "update unstuck.attempts set deadline_at = now() - %s::interval, tries = %s "
            "where task_id = %s",
            late_by,
            tries,
            task,
        )
    return task, claimed.token


def _remove(world: World, task: str) -> None:
    """So that it is not in what is recorded next."""
    world.do("delete from unstuck.attempts where task_id = %s", task)
    world.do("delete from tasks where id = %s", task)


def _post(server: Server, **fields: Any) -> requests.Response:
    return requests.post(server.url, json=fields, timeout=60)


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
