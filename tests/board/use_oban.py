"""Oban for Python, which rescues a job by its age, with a short one. It needs Python >= 3.12, so it
lives in a virtualenv of its own.

python -m tests.board.use_oban --dsn postgresql://... --fault freeze"""

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import ROOT, Connection, Place, System, TaskState, query

HOME = ROOT / ".cache" / "board-oban"
LEADERS = ("lead", "second")
RESCUE_AFTER_SECONDS = 3.0
WORDS = {
    "available": "waiting",
    "scheduled": "waiting",
    "retryable": "waiting",
    "executing": "running",
    "completed": "completed",
}
INSERT = (
    "insert into oban_jobs (args, max_attempts, queue, worker) "
    "values (%s, 3, 'default', 'tests.board.use_oban.Board')"
)


class Oban(System):
    name = "oban"
    title = "Oban for Python"
    package = "oban"
    timeout_seconds = RESCUE_AFTER_SECONDS
    renews = False
    settings = (
        '`lifeline={"interval": 1, "rescue_after": 3}` (default 60 and 300), `max_attempts=3`',
        (
            "`leadership=False` in the workers, and a process without queues that leads: only the "
            "leader rescues, and the 30 s of its lease can't be set"
        ),
        '`queues={"default": 10}`, `stager={"interval": 0.5}` (default 1)',
        (
            "`rescue_after` counts from the start of a task: it has to be longer than the longest "
            "one, and each rescue takes as long. Oban Pro, which is paid for, promises “accurate "
            "orphan rescue”; it is not tried here"
        ),
    )
    remedies = (
        (
            "`leader` with a second process that may lead: rescued after 30.4 s, when the lease "
            "of the frozen one had run out"
        ),
    )
    push = "LISTEN/NOTIFY"
    sweepers = ("lead",)
    second_sweepers = ("second",)
    interpreter = HOME / "bin" / "python" if HOME.exists() else Path(sys.executable)
    libraries = next((HOME / "lib").glob("python3.*/site-packages"), HOME)

    def missing(self) -> str:
        if self.version():
            return ""
        return (
            "it needs Python 3.12 or later: `make board` looks for one on PATH and in ~/.pyenv and "
            "installs it there"
        )

    def install(self, place: Place) -> None:
        self.run_install(place)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        """As its insert_job.sql does."""
        with psycopg.connect(place.dsn) as connection:
            connection.execute(INSERT.encode(), (json.dumps(order),))
            if not loses_push:
                connection.execute(
                    "select pg_notify('public.oban_insert', %s)", ('{"queue":"default"}',)
                )

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select state::text, errors -> -1 ->> 'error' from oban_jobs "
            "where args ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(WORDS.get(row[0], "failed"), row[1] or "") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return ("select 1 from oban_jobs where args ->> 'task' = %(task)s for update",)


class Board:
    """Oban finds it by its name."""

    async def process(self, job: Any) -> None:
        await Execution(job.args).perform()


def install(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(importlib.import_module("oban.schema").install_sql().encode())


def work(dsn: str) -> None:
    leads = os.environ["BOARD_WORKER"] in LEADERS

    async def run() -> None:
        oban: Any = importlib.import_module("oban").Oban
        pool = await oban.create_pool(dsn)
        async with oban(
            pool=pool,
            leadership=leads,
            lifeline={"interval": 1.0, "rescue_after": RESCUE_AFTER_SECONDS},
            queues={} if leads else {"default": 10},
            stager={"interval": 0.5},
        ):
            note("ready")
            await asyncio.Event().wait()

    asyncio.run(run())


if __name__ == "__main__":
    main(Oban(), work, install)
