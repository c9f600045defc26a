"""What the board has to know of a job system. Each system is one module, `use_NAME.py`, which is
also the program of its worker process."""

import importlib
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, ClassVar

import psycopg

ROOT = Path(__file__).parents[2]
RIVALS = ROOT / ".cache" / "board"
"""Where `make board` puts the libraries: what they need must not change what we import."""

Connection = psycopg.Connection[tuple[Any, ...]]
ENDED = frozenset({"completed", "failed"})


@dataclass(frozen=True)
class TaskState:
    """What the rows of a system say of a task, in the words waiting, running, completed, failed.
    `reason`: what they say about a failure."""

    word: str
    reason: str = ""

    @property
    def has_ended(self) -> bool:
        return self.word in ENDED


@dataclass(frozen=True)
class Place:
    """Where a system is at work: its database, and a folder for the journal and the gates."""

    dsn: str
    folder: Path


@dataclass(frozen=True)
class Process:
    """A worker. `reap` waits for it once it was killed."""

    pid: int
    reap: Callable[[], object]


class System(ABC):
    """`timeout_seconds`: the configured time after which a silent worker counts as dead.
    `tries`: how often a task may be executed. `settings`: what was set, a sentence each."""

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str] = ""
    timeout_seconds: float = 3.0
    tries: int = 3
    settings: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    """Settings that were tried because they might mend a red, and what they did."""
    push: ClassVar[str] = ""
    """How a worker hears of a new task at once; "" for a system that only polls."""
    sweepers: ClassVar[tuple[str, ...]] = ()
    """Names of processes that look for dead workers, where these are not the workers."""
    second_sweepers: ClassVar[tuple[str, ...]] = ()
    """Those that are started beside them for `two_sweeps`."""
    is_node: ClassVar[bool] = False
    interpreter: ClassVar[Path] = Path(sys.executable)
    libraries: ClassVar[Path] = RIVALS
    """Of its workers."""

    def missing(self) -> str:
        """Why this system can't be had here; "" when it can."""
        return "" if self.version() else f"{self.package} is not installed: `make board` does it"

    def version(self) -> str:
        for installed in distributions(name=self.package, path=[str(self.libraries)]):
            return installed.version
        return ""

    @abstractmethod
    def install(self, place: Place) -> None:
        """Its tables, in a new database."""

    @abstractmethod
    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        """A task with that order, which names it."""

    @abstractmethod
    def state(self, connection: Connection, task: str) -> TaskState:
        """By the rows of its tables."""

    def locks(self) -> tuple[str, ...]:
        """Statements that lock the row of a task (%(task)s) and what tells that its holder
        lives."""
        return ()

    renews: ClassVar[bool] = True
    """Whether a worker that lives shows it; False where a task is judged by its age alone."""

    has_leader: ClassVar[bool] = False
    """Whether one worker alone looks for dead ones."""

    def leader_port(self, connection: Connection) -> int:
        """The port from which the leader is connected to the database; 0 while there is none."""
        return 0

    def poll(self, place: Place, task: str) -> None:  # noqa: B027 - most have nothing to do
        """What a client that asks for its task sets off, if anything."""

    def start(self, place: Place, worker: str) -> Process:
        """A worker process that leads a session of its own. It writes `ready` into the journal."""
        log = (place.folder / f"{worker}.log").open("ab")
        with log:
            process = subprocess.Popen(
                self.command(place, worker),
                env=environment(place, worker, self.libraries),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Process(process.pid, process.wait)

    def command(self, place: Place, worker: str) -> list[str]:
        return self.program("--work", place.dsn)

    def program(self, *arguments: str) -> list[str]:
        """Its module, in a process of its own."""
        module = type(self).__module__
        if module == "__main__":
            module = f"tests.board.use_{self.name}"
        return [str(self.interpreter), "-m", module, *arguments]

    def run_install(self, place: Place) -> None:
        """The `install` of its module, in a process of its own: this one does not import the
        library."""
        subprocess.run(
            self.program("--install", place.dsn),
            env=environment(place, "harness", self.libraries),
            cwd=ROOT,
            check=True,
        )

    def close(self, place: Place) -> None:  # noqa: B027 - as above
        """Ends what it has started beside the workers."""


def environment(place: Place, worker: str, libraries: Path = RIVALS) -> dict[str, str]:
    path = [str(libraries), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONDONTWRITEBYTECODE": "",
        "BOARD_FOLDER": str(place.folder),
        "BOARD_WORKER": worker,
    }


def rival(module: str) -> Any:
    """A module of a system, for what its client does in this process. What both have comes from
    our own packages."""
    if str(RIVALS) not in sys.path:
        sys.path.append(str(RIVALS))
    return importlib.import_module(module)


def query(connection: Connection, statement: str, **values: Any) -> tuple[Any, ...] | None:
    return connection.execute(statement.encode(), values).fetchone()
