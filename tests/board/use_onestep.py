"""onestep, by the tracked executions of onestep-sql on PostgreSQL, with a short lease.

python -m tests.board.use_onestep --dsn postgresql://... --fault freeze"""

import asyncio
import importlib
import json
import os
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query

LEASE_SECONDS = 3.0
NAMESPACE = "board"
WORDS = {
    "queued": "waiting",
    "retrying": "waiting",
    "running": "running",
    "cancel_requested": "running",
    "succeeded": "completed",
}


class Onestep(System):
    name = "onestep"
    title = "onestep"
    package = "onestep"
    timeout_seconds = LEASE_SECONDS
    settings = (
        "`lease_duration_s=3` (default 90), `heartbeat_interval_s=0.5` (30) of the source",
        "`poll_interval_s=0.2` (default 1), `batch_size=10`, `concurrency=10`",
        "`retry=MaxAttempts(3)`; its source does not count a lease that was lost against a limit",
    )
    remedies = (
        (
            "`poison` with an `expires_at` 8 s ahead: executed 6 times all the same; what has lost "
            "a lease is given away after that time too"
        ),
        (
            "`computes` with `lease_duration_s=20`: the long computation held; a killed worker's "
            "task was executed again after 20.0 s"
        ),
        (
            "`nobody`: by its source only a `claim` releases leases that ran out; no command that "
            "we found does it alone"
        ),
    )

    def install(self, place: Place) -> None:
        self.run_install(place)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        """As its client submits."""
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(
                "insert into onestep_executions (id, namespace, task_name, status, payload, "
                "available_at, created_at, updated_at) "
                "values (gen_random_uuid(), %s, 'board', 'queued', %s, now(), now(), now())",
                (NAMESPACE, json.dumps(order)),
            )

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select status, nullif(error::text, 'null') from onestep_executions "
            "where payload ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(WORDS.get(row[0], "failed"), row[1] or "") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return ("select 1 from onestep_executions where payload ->> 'task' = %(task)s for update",)


def _backend(dsn: str) -> Any:
    connector = importlib.import_module("onestep_sql.postgres").PostgresConnector
    return connector(dsn.replace("postgresql:", "postgresql+psycopg:", 1)).execution_backend()


def install(dsn: str) -> None:
    asyncio.run(_backend(dsn).open())


def work(dsn: str) -> None:
    onestep: Any = importlib.import_module("onestep")
    app = onestep.OneStepApp("board")
    source = _backend(dsn).source(
        namespace=NAMESPACE,
        task_names=["board"],
        batch_size=10,
        poll_interval_s=0.2,
        lease_duration_s=LEASE_SECONDS,
        heartbeat_interval_s=0.5,
        worker_id=os.environ["BOARD_WORKER"],
    )

    async def board(_context: Any, order: dict[str, Any]) -> dict[str, str]:
        return await Execution(order).perform()

    app.task(name="board", source=source, concurrency=10, retry=onestep.MaxAttempts(3))(board)
    app.on_startup(lambda *_: note("ready"))
    app.run()


if __name__ == "__main__":
    main(Onestep(), work, install)
