"""A run of the board: each system under each fault, several times. Systems run at once, since they
mostly wait; the fault that strikes the database strikes all of them in one moment."""

import importlib
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from functions.ops.postgres.embedded import Postgres
from tests.board.faults import FAULTS, ORDER, Sight
from tests.board.stage import Stage
from tests.board.system import System
from tests.board.verdict import Cell

SYSTEMS = {
    "unstuck": "use_unstuck:Unstuck",
    "unstuck_adopted": "use_unstuck:UnstuckAdopted",
    "unstuck_rest": "use_unstuck:UnstuckRest",
    "procrastinate": "use_procrastinate:Procrastinate",
    "pgqueuer": "use_pgqueuer:Pgqueuer",
    "absurd": "use_absurd:Absurd",
    "awa": "use_awa:Awa",
    "pgmq": "use_pgmq:Pgmq",
    "pgboss": "use_pgboss:PgBoss",
    "graphile": "use_graphile:Graphile",
    "oban": "use_oban:Oban",
    "litestar": "use_litestar:Litestar",
    "onestep": "use_onestep:Onestep",
    "cleanup": "use_cleanup:Cleanup",
}
ABSENT: dict[str, str] = {}
"""Systems that are not tried, and why."""
DATABASE_DOWN_SECONDS = 1.0
"""A server that crashes and comes back."""
ROLE = "board"


def system_of(name: str) -> System:
    module, _, title = SYSTEMS[name].partition(":")
    system = getattr(importlib.import_module(f"tests.board.{module}"), title)()
    assert isinstance(system, System)
    return system


class Meeting:
    """Acts once, when all that take part have come."""

    def __init__(self, parties: int, act: Callable[[], float] = time.time) -> None:
        self._act, self._expected, self._here = act, parties, 0
        self._result = 0.0
        self._changed = threading.Condition()

    def arrive(self) -> float:
        """Returns what the act did."""
        with self._changed:
            self._here += 1
            self._act_when_complete()
            self._changed.wait_for(lambda: self._result)
            return self._result

    def leave(self) -> None:
        """Of one that could not come."""
        with self._changed:
            self._expected -= 1
            self._act_when_complete()

    def _act_when_complete(self) -> None:
        if self._result or self._here < self._expected:
            return
        self._result = self._act()
        self._changed.notify_all()


@dataclass
class Board:
    """`tell` gets a line for each run of a cell."""

    names: list[str]
    faults: list[str]
    runs: int = 3
    at_once: int = 6
    tell: Callable[[str], object] = lambda _: None
    sights: dict[tuple[str, str], list[Sight]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def run(self) -> list[Cell]:
        self._systems = {name: system_of(name) for name in self.names}
        here = [name for name in self.names if not self._systems[name].missing()]
        with Postgres() as postgres:
            with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
                connection.execute(f"create role {ROLE} superuser login".encode())
            self._postgres = postgres
            self._run_all(here)
            if "database" in self.faults:
                for _ in range(self.runs):
                    self._strike_all(here)
        return [self._cell(name, fault) for name in self.names for fault in self.faults]

    @property
    def _dsn(self) -> str:
        """By a role without a password: not all libraries read a password file."""
        return f"postgresql://{ROLE}@127.0.0.1:{self._postgres.port}/postgres"

    def _run_all(self, names: Iterable[str]) -> None:
        """The slowest first, with all of their runs: nobody waits for one of them at the end."""
        rounds = [*names] * self.runs
        rounds.sort(key=lambda name: -self._systems[name].timeout_seconds)
        with ThreadPoolExecutor(self.at_once) as threads:
            list(threads.map(self._run_one, rounds))

    def _run_one(self, name: str) -> None:
        """One run of all faults but `database`, on one stage; on a new one after an error."""
        left = [fault for fault in ORDER if fault in self.faults]
        while left:
            try:
                with Stage(system_of(name), self._dsn) as stage:
                    while left:
                        self._try(stage, name, left[0])
                        left.pop(0)
            except Exception as error:  # noqa: BLE001 - a run that broke is told, the others go on
                self._file_error(name, left.pop(0) if left else "end", error)

    def _try(self, stage: Stage, name: str, fault: str) -> None:
        begun = time.monotonic()
        sight = FAULTS[fault](stage)
        self.sights[name, fault].append(sight)
        self.tell(f"{name}, {fault}: {time.monotonic() - begun:.0f} s {_told(sight)}")

    def _file_error(self, name: str, fault: str, error: Exception) -> None:
        self.errors[name, fault].append(f"{type(error).__name__}: {error}")
        self.tell(f"{name}, {fault}: {traceback.format_exc()}")

    def _strike_all(self, names: list[str]) -> None:
        meetings = (Meeting(len(names)), Meeting(len(names), self._strike))
        with ThreadPoolExecutor(max(1, len(names))) as threads:
            list(threads.map(lambda name: self._strike_one(name, meetings), names))

    def _strike(self) -> float:
        """Kills the database and starts it again. Returns the time when it was back."""
        self._postgres.kill()
        time.sleep(DATABASE_DOWN_SECONDS)
        self._postgres.restart()
        return time.time()

    def _strike_one(self, name: str, meetings: tuple[Meeting, Meeting]) -> None:
        """`meetings`: before the tasks are made, and when they are at work."""
        missed = list(meetings)

        def arrive() -> float:
            return missed.pop(0).arrive()

        try:
            with Stage(system_of(name), self._dsn, arrive, arrive) as stage:
                self._try(stage, name, "database")
        except Exception as error:  # noqa: BLE001 - as above
            self._file_error(name, "database", error)
        finally:
            for meeting in missed:
                meeting.leave()

    def _cell(self, name: str, fault: str) -> Cell:
        system = self._systems[name]
        return Cell(
            name,
            fault,
            system.timeout_seconds,
            tuple(self.sights[name, fault]),
            system.missing(),
            tuple(self.errors[name, fault]),
        )


def _told(sight: Sight) -> str:
    return " ".join(
        f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={value}"
        for name, value in vars(sight).items()
        if value not in (0, "", None) and name != "window"
    )
