"""Kills and freezes workers in the middle of a task, with real signals."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from functions.ops.local.processes import family
from functions.ops.local.servers import Server

RETRY_ENDED = """
select 1 from unstuck.attempts where task_id = %s and number > 1 and ended_at is not null
"""
WORKER_AT_WORK = """
select a.worker
from unstuck.attempts a
join unstuck.checkpoints_of(a.watch, a.task_id, a.number) c on c.name = 'submitted'
where a.task_id = %s
  and a.ended_at is null
"""
"""Of an attempt that has ordered its image."""
WAIT_SECONDS = 40.0

Say = Callable[[str], None]


class Chaos:
    """Waits until a task is half done (its order is with the provider), then kills or freezes the
    worker that has it."""

    def __init__(self, dsn: str, servers: dict[str, Server], say: Say) -> None:
        self._dsn, self._servers, self._say = dsn, servers, say
        self.struck: dict[str, float] = {}
        """When the worker of a task was struck, in seconds of the database's clock."""
        self._threads: list[threading.Thread] = []

    def kill(self, task_id: str) -> None:
        self._start(self._kill, task_id)

    def freeze(self, task_id: str) -> None:
        self._start(self._freeze, task_id)

    def join(self, limit: float) -> None:
        for thread in self._threads:
            thread.join(limit)

    def _start(self, strike: Callable[[Any, str], None], task_id: str) -> None:
        def run() -> None:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                strike(connection, task_id)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def _kill(self, connection: Any, task_id: str) -> None:
        server = self._at_work(connection, task_id)
        self._note(connection, task_id)
        pids = server.kill_worker(signal.SIGKILL)
        self._say(f"killed {server.name} (pid {pids}) in mid-task")

    def _freeze(self, connection: Any, task_id: str) -> None:
        server = self._at_work(connection, task_id)
        self._note(connection, task_id)
        pids = [pid for worker in server.workers() for pid in family(worker)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._say(f"froze {server.name} (pids {pids}) in mid-task")
        self._until(lambda: connection.execute(RETRY_ENDED, (task_id,)).fetchone())
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        self._say(f"woke {server.name}: its task was done by another worker meanwhile")

    def _at_work(self, connection: Any, task_id: str) -> Server:
        row = self._until(lambda: connection.execute(WORKER_AT_WORK, (task_id,)).fetchone())
        return self._servers[row[0].partition("@")[0]]

    def _note(self, connection: Any, task_id: str) -> None:
        self.struck[task_id] = connection.execute(
            "select extract(epoch from clock_timestamp())::float8"
        ).fetchone()[0]

    @staticmethod
    def _until(condition: Callable[[], Any], limit: float = WAIT_SECONDS) -> Any:
        end = time.monotonic() + limit
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError("the demo waited too long for its victim")
            time.sleep(0.05)
        return value
