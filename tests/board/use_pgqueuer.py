"""pgqueuer, with a short heartbeat time-out.

python -m tests.board.use_pgqueuer --dsn postgresql://... --fault freeze"""

import asyncio
import importlib
import json
from datetime import timedelta
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query

TIMEOUT_SECONDS = 3.0
WORDS = {"queued": "waiting", "picked": "running", "successful": "completed"}


class Pgqueuer(System):
    name = "pgqueuer"
    title = "pgqueuer"
    package = "pgqueuer"
    timeout_seconds = TIMEOUT_SECONDS
    settings = (
        "`heartbeat_timeout=3 s` (default 30), `dequeue_timeout=1 s` (default 30), `batch_size=5`",
        'the entrypoint is a coroutine with `on_failure="hold"`, so that a failure stays seen',
        (
            "it has no limit of tries for a worker that dies: the board counts from 3, as for the "
            "others"
        ),
    )
    remedies = (
        (
            "`poison` with `DatabaseRetryEntrypointExecutor(max_attempts=3)`: executed 6 times all "
            "the same, it counts exceptions; with a handler that counts the `picked` lines of its "
            "job in `pgqueuer_log` and raises above 3: executed 3 times, then `failed`"
        ),
        (
            "`freeze`: no setting that we found refuses a late result, which is written by the "
            "job's id alone"
        ),
        (
            "`computes` with `heartbeat_timeout=10 s`: the long computation held; a killed "
            "worker's task was executed again after 11.9 s"
        ),
        (
            "`nobody`: `pgq stale` lists such a job; no command that we found gives it back "
            "without a worker of its entrypoint"
        ),
    )
    push = "LISTEN/NOTIFY"

    def install(self, place: Place) -> None:
        self.run_install(place)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            if loses_push:
                connection.execute("set session_replication_role = replica")  # its trigger notifies
            connection.execute(
                "insert into pgqueuer (priority, entrypoint, payload, status) "
                "values (0, 'board', convert_to(%s, 'UTF8'), 'queued')",
                (json.dumps(order),),
            )

    def state(self, connection: Connection, task: str) -> TaskState:
        """A job that has ended is deleted; how it ended is in the log."""
        row = query(
            connection,
            "select status::text from pgqueuer "
            "where convert_from(payload, 'UTF8')::json ->> 'task' = %(task)s",
            task=task,
        )
        if row:
            return TaskState(WORDS.get(row[0], "failed"), row[0])
        return TaskState("completed")

    def locks(self) -> tuple[str, ...]:
        return (
            (
                "select 1 from pgqueuer where convert_from(payload, 'UTF8')::json ->> 'task' "
                "= %(task)s for update"
            ),
        )


def _queuer(connection: Any) -> Any:
    pgqueuer: Any = importlib.import_module("pgqueuer")
    drivers: Any = importlib.import_module("pgqueuer.db")
    queuer = pgqueuer.PgQueuer(drivers.PsycopgDriver(connection))

    async def board(job: Any) -> None:
        await Execution(json.loads(job.payload)).perform()

    queuer.entrypoint("board", on_failure="hold")(board)
    return queuer


def install(dsn: str) -> None:
    statements: Any = importlib.import_module("pgqueuer.adapters.persistence.qb")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.QueryBuilderEnvironment().build_install_query().encode())


def work(dsn: str) -> None:
    async def run() -> None:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        async with connection:
            note("ready")
            await _queuer(connection).run(
                dequeue_timeout=timedelta(seconds=1),
                batch_size=5,
                heartbeat_timeout=timedelta(seconds=TIMEOUT_SECONDS),
            )

    asyncio.run(run())


if __name__ == "__main__":
    main(Pgqueuer(), work, install)
