"""One system at work in a database of its own: its worker processes, which can be killed, frozen
and woken, and what is seen of its tasks."""

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from tests.board.orders import lines_of
from tests.board.system import Connection, Place, Process, System, TaskState

T = TypeVar("T")
PAUSE_SECONDS = 0.02
READY_SECONDS = 60.0
AWAY = TaskState("away")
"""The database does not answer."""


LIVING: set[int] = set()
"""Pids of workers, each of which leads a session: who ends the board early, ends these."""


class Stage:
    def __init__(
        self,
        system: System,
        dsn: str,
        strike_database: Callable[[], float] | None = None,
        gather: Callable[[], object] = lambda: None,
    ) -> None:
        """`dsn`: a URL of a server on which a database may be made. `strike_database` kills it,
        starts it again, and tells when it was back. `gather` waits for the others on the server:
        no task grows old while theirs have not begun."""
        self.system, self._server = system, dsn
        self._strike_database = strike_database
        self.gather = gather
        self._name = f"board_{system.name}_{uuid.uuid4().hex[:8]}"
        self._workers: dict[str, Process] = {}
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="board-"))
        (folder / "gates").mkdir()
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(self._name)))
        dsn = urlsplit(self._server)._replace(path=f"/{self._name}").geturl()
        self.place = Place(dsn, folder)
        try:
            self.system.install(self.place)
            for sweeper in self.system.sweepers:
                self.ensure(sweeper)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._workers):
            self.kill(name)
        self.system.close(self.place)
        if self._connection:
            self._connection.close()
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(self._server, autocommit=True) as connection,
        ):
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(
                    sql.Identifier(self._name)
                )
            )
        if not os.environ.get("BOARD_KEEP"):
            shutil.rmtree(self.place.folder, ignore_errors=True)

    # --- the workers

    def ensure(self, *workers: str, wait: bool = True) -> None:
        """Starts those that do not live, as a supervisor would."""
        begun = []
        for worker in workers:
            if worker not in self._workers or not _lives(self._workers[worker].pid):
                self.kill(worker)
                begun.append((worker, self._count_ready(worker)))
                self._workers[worker] = self.system.start(self.place, worker)
                LIVING.add(self._workers[worker].pid)
        for worker, before in begun:
            if wait:
                self.until(
                    partial(self._is_ready_again, worker, before),
                    READY_SECONDS,
                    f"the worker {worker} does not start: {self._log_end(worker)}",
                )

    def _is_ready_again(self, worker: str, before: int) -> bool:
        return self._count_ready(worker) > before

    def _count_ready(self, worker: str) -> int:
        return sum(
            line["word"] == "ready" and line["worker"] == worker
            for line in lines_of(self.place.folder)
        )

    def _log_end(self, worker: str) -> str:
        with suppress(OSError):
            return (self.place.folder / f"{worker}.log").read_text(errors="replace")[-1500:]
        return ""

    def kill(self, *workers: str) -> None:
        """SIGKILL to all processes of a worker, as when its machine goes."""
        for worker in workers:
            process = self._workers.pop(worker, None)
            if process:
                _signal(_processes(process.pid), signal.SIGKILL)
                process.reap()
                LIVING.discard(process.pid)

    def freeze(self, *workers: str) -> None:
        for worker in workers:
            _signal(_processes(self._workers[worker].pid), signal.SIGSTOP)

    def wake(self, *workers: str) -> None:
        for worker in workers:
            _signal(_processes(self._workers[worker].pid), signal.SIGCONT)

    def leader(self) -> str:
        """The worker that alone looks for dead ones now; "" where each worker does."""
        if not self.system.has_leader:
            return ""
        return self.until(self._find_leader, READY_SECONDS, "it has no leader")

    def _find_leader(self) -> str:
        port = self.system.leader_port(self.connection())
        for name, process in self._workers.items():
            sockets = psutil.Process(process.pid).net_connections()
            if any(socket.laddr and socket.laddr.port == port for socket in sockets):
                return name
        return ""

    # --- its tasks

    def enqueue(self, does: str, seconds: float = 0.0, *, loses_push: bool = False) -> str:
        task = uuid.uuid4().hex[:12]
        order = {"task": task, "does": does, "seconds": seconds}
        self.system.enqueue(self.place, order, loses_push=loses_push)
        return task

    def open_gate(self, task: str, number: int | None = None) -> None:
        (self.place.folder / "gates" / f"{task}.{number or 'all'}").touch()

    def runs(self, task: str, word: str = "began") -> list[dict[str, Any]]:
        """The lines of that word that executions of the task have written."""
        return [line for line in lines_of(self.place.folder, task) if line["word"] == word]

    def holder(self, task: str) -> str:
        """The worker that began the task last, once it has begun."""
        began = self.until(lambda: self.runs(task), READY_SECONDS, "no worker began the task")
        return str(began[-1]["worker"])

    def state(self, task: str) -> TaskState:
        try:
            return self.system.state(self.connection(), task)
        except psycopg.OperationalError:
            return AWAY

    def connection(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.place.dsn, autocommit=True, connect_timeout=5)
        return self._connection

    def strike_database(self) -> float | None:
        """Kills the database and starts it again. The time when it was back; None where this
        database must not be killed."""
        return self._strike_database() if self._strike_database else None

    # --- waiting

    def until(self, condition: Callable[[], T], seconds: float, message: str) -> T:
        """The first true value. Raises TimeoutError with the message."""
        value = self.seen(condition, seconds)
        if value is None:
            raise TimeoutError(f"{self.system.name}: {message}")
        return value

    @staticmethod
    def seen(
        condition: Callable[[], T], seconds: float, meanwhile: Callable[[], object] | None = None
    ) -> T | None:
        """The first true value within so many seconds, else None. `meanwhile` is called at each
        look."""
        deadline = time.monotonic() + seconds
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                return None
            if meanwhile:
                meanwhile()
            time.sleep(PAUSE_SECONDS)


def kill_all() -> None:
    for pid in list(LIVING):
        _signal(_processes(pid), signal.SIGKILL)


def _processes(pid: int) -> list[int]:
    """A worker, all below it, and all of its session."""
    pids = {pid}
    with suppress(psutil.NoSuchProcess):
        pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    for other in psutil.pids():
        with suppress(OSError):
            if os.getsid(other) == pid:
                pids.add(other)
    return sorted(pids)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    return False
