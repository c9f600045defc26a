"""One actor's session: sends a statement, and says how far it came."""

import select
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

import psycopg
from psycopg import pq

from tests.interleave.world import SESSION

LOOK_SECONDS = 0.0005
"""So long a statement has before the scheduler looks whether it sleeps."""
PATIENCE_SECONDS = 100.0
"""A statement that neither ends nor waits for a lock by then is a fault of the instrument."""


class Stop(StrEnum):
    DONE = "done"
    PARKED = "parked"
    """At a cut, inside of a verb."""

    WAITING = "waiting"
    """For a lock that another actor holds."""


class Answer(NamedTuple):
    value: str | None
    sqlstate: str | None = None
    message: str | None = None


class Session:
    def __init__(self, dsn: str, name: str, watcher: "Watcher | None" = None) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True, application_name=name)
        self.connection.execute(SESSION)
        self.raw = self.connection.pgconn
        self.raw.notice_handler = self._notice
        self.pid = self.raw.backend_pid
        self._process = Path(f"/proc/{self.pid}/stat")
        self.watcher = watcher
        self.seat = 0
        """The number by which its cuts are locked."""

        self._parked = False
        self._results: list[pq.abc.PGresult] = []
        self.answer = Answer(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _notice(self, result: Any) -> None:
        if (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"") == b"parked":
            self._parked = True

    def run(self, query: str) -> Answer:
        """Runs a statement that waits for nobody."""
        self._results = []
        self.raw.send_query(query.encode())
        return self._collect()

    def start(self, query: str, *, patient: bool) -> Stop:
        self._results = []
        self.raw.send_query(query.encode())
        return self.go_on(patient=patient)

    def look(self) -> Stop:
        """How far a statement that waited for a lock has come, where nobody let it go on."""
        if select.select([self.raw.socket], [], [], 0)[0]:
            return self.go_on()
        return Stop.WAITING

    def go_on(self, *, patient: bool = False) -> Stop:
        """Runs until the statement is done, parked, or waits for a lock; `patient`: it waits for
        nobody, or the end of its wait is near."""
        assert self.watcher is not None
        socket, pause = [self.raw.socket], 1.0 if patient else LOOK_SECONDS
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self._has_ended():
                return Stop.DONE
            if self._parked:
                self._parked = False
                return Stop.PARKED
            if select.select(socket, [], [], pause)[0]:
                self.raw.consume_input()
                continue
            if not patient and self._sleeps() and self.watcher.waits(self.pid):
                return Stop.WAITING
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.connection.info.backend_pid} neither ends nor waits")

    def kill(self) -> None:
        """What it had not committed is undone, as when its process dies."""
        if self.raw.transaction_status == pq.TransactionStatus.ACTIVE:
            assert self.watcher is not None
            self.watcher.run(f"select pg_cancel_backend({self.pid})")
            self._collect()
        self.run("rollback")
        self._parked = False

    def _sleeps(self) -> bool:
        """Whether the process of the server does nothing. Where that cannot be seen, perhaps."""
        with suppress(OSError):
            return self._process.read_bytes().rpartition(b")")[2][1:2] != b"R"
        return True

    def _has_ended(self) -> bool:
        """Whether the last result has come; does not wait."""
        while not self.raw.is_busy():
            result = self.raw.get_result()
            if result is None:
                self._read()
                return True
            self._results.append(result)
        return False

    def _collect(self) -> Answer:
        """Waits for the last result."""
        while (result := self.raw.get_result()) is not None:
            self._results.append(result)
        return self._read()

    def _read(self) -> Answer:
        """The last value of the last statement, or the first error."""
        self.answer = Answer(None)
        for result in self._results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                self.answer = Answer(
                    None,
                    (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode(),
                    (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(),
                )
                return self.answer
            if result.status == pq.ExecStatus.TUPLES_OK and result.ntuples:
                value = result.get_value(0, result.nfields - 1)
                self.answer = Answer(None if value is None else value.decode())
            else:
                rows = result.command_tuples
                self.answer = Answer(None if rows is None else str(rows))
        return self.answer


class Watcher(Session):
    """The scheduler's own session: makes the world, sees who waits for whom, and holds the locks of
    the cuts."""

    def waits(self, pid: int) -> bool:
        """Whether the statement waits for a lock of an actor; not for one of ours."""
        blockers = self.run(f"select array_remove(pg_blocking_pids({pid}), {self.pid})").value
        return blockers not in (None, "{}")
