"""What a task of the board does, inside the worker process of whichever system runs it. Only the
standard library: this file is imported by workers that have no Unstuck.

Each execution appends lines to one journal (O_APPEND), which is what the board judges by. A task
that waits is let go by a file, its gate: `gates/TASK.1` for its first execution, `gates/TASK.all`
for each."""

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 120.0
SAMPLE_STEPS = 2_000_000


def note(word: str, **fields: Any) -> None:
    """One line of the journal of the worker process that this is."""
    append(Path(os.environ["BOARD_FOLDER"]), os.environ["BOARD_WORKER"], word, **fields)


def append(folder: Path, worker: str, word: str, **fields: Any) -> None:
    """One line of the journal, written at once and whole."""
    line = {"at": time.time(), "worker": worker, "word": word, **fields}
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(journal, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(journal)


def lines_of(folder: Path, task: str = "") -> list[dict[str, Any]]:
    """The lines of a journal, of one task or of all."""
    journal = folder / "journal"
    text = journal.read_text(encoding="utf-8") if journal.exists() else ""
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    return [line for line in lines if not task or line.get("task") == task]


class Execution:
    """One execution of a task. `order` is what the task was made with: `task`, `does`, `seconds`.
    `victim` tells the process that a deadly task kills: the worker."""

    def __init__(self, order: Mapping[str, Any], victim: Callable[[], int] = os.getpid) -> None:
        self._task, self._does = str(order["task"]), str(order["does"])
        self._seconds, self._victim = float(order.get("seconds", 0)), victim
        self._run = uuid.uuid4().hex
        self._folder = Path(os.environ["BOARD_FOLDER"])
        self._note("began")
        began = [line for line in lines_of(self._folder, self._task) if line["word"] == "began"]
        self._number = [line["run"] for line in began].index(self._run) + 1

    async def perform(self) -> dict[str, str]:
        """For a system whose handlers are coroutines."""
        import asyncio  # not for those who do without

        for _ in self._steps():
            await asyncio.sleep(POLL_SECONDS)
        return self._finish()

    def perform_blocking(self) -> dict[str, str]:
        """For a system whose handlers are plain functions."""
        for _ in self._steps():
            time.sleep(POLL_SECONDS)
        return self._finish()

    def _steps(self) -> Iterator[None]:
        """Does the work; yields where it waits."""
        if self._does == "dies":
            os.kill(self._victim(), signal.SIGKILL)
            time.sleep(LONGEST_WAIT_SECONDS)
        if self._does == "computes" and self._number == 1:
            compute(self._seconds)
        if self._does == "waits":
            yield from self._wait_for_gate()

    def _wait_for_gate(self) -> Iterator[None]:
        gates = self._folder / "gates"
        own, of_all = gates / f"{self._task}.{self._number}", gates / f"{self._task}.all"
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        while not (own.exists() or of_all.exists()):
            if time.monotonic() > until:
                raise TimeoutError(f"nobody opened the gate of {self._task}")
            yield

    def _finish(self) -> dict[str, str]:
        self._note("finished")
        return {"run": self._run}

    def _note(self, word: str) -> None:
        note(word, task=self._task, run=self._run, does=self._does)


def compute(seconds: float) -> None:
    """One call into C that keeps Python's lock for about so long: no other thread and no event loop
    of this process runs meanwhile. So does a regular expression on a long text."""
    begun = time.perf_counter()
    sum(range(SAMPLE_STEPS))
    each = (time.perf_counter() - begun) / SAMPLE_STEPS
    sum(range(int(seconds / each)))
