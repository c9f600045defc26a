"""litestar-queues, by its worker on Advanced Alchemy, with a short heartbeat time-out.

python -m tests.board.use_litestar --dsn postgresql://... --fault freeze"""

import asyncio
import importlib
import json
import os
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query

STALE_AFTER_SECONDS = 3.0
WAKEUP_CHANNEL = "board_tasks"
WORDS = {
    "pending": "waiting",
    "scheduled": "waiting",
    "running": "running",
    "completed": "completed",
}


class Litestar(System):
    name = "litestar"
    title = "litestar-queues"
    package = "litestar-queues"
    timeout_seconds = STALE_AFTER_SECONDS
    settings = (
        (
            "`WorkerConfig(heartbeat_interval=0.5, stale_after=3, stale_check_interval=1)` "
            "(default 30, off and 60)"
        ),
        (
            "`poll_interval=0.2`, `poll_backoff_max=1` (default 30), `max_concurrency=10`; the "
            "backend for Advanced Alchemy on psycopg, with `worker_wakeups=True`"
        ),
        "`retries=2` on the task",
    )
    remedies = (
        (
            "`computes` with `stale_after=20`: the long computation held; a killed worker's task "
            "was executed again after 20.4 s"
        ),
        (
            "`nobody` with its maintenance (phase `stale`, what `run-maintenance` does) in a "
            "process of its own each second: the task waited again after 3.8 s"
        ),
    )
    push = "LISTEN/NOTIFY"

    def install(self, place: Place) -> None:
        self.run_install(place)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        """As its service does: the row, and then the push."""
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(
                "insert into queue_task (id, task_name, task_args, task_kwargs, queue, "
                "execution_backend, status, priority, max_retries, retry_count, queued_at, "
                "metadata, created_at, updated_at) values (gen_random_uuid(), 'board', '[]', %s, "
                "'default', 'local', 'pending', 0, 2, 0, now(), '{}', now(), now())",
                (json.dumps({"order": order}),),
            )
            if not loses_push:
                connection.execute("select pg_notify(%s, '1')", (WAKEUP_CHANNEL,))

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select status, error from queue_task "
            "where task_kwargs -> 'order' ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(WORDS.get(row[0], "failed"), row[1] or "") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return (
            (
                "select 1 from queue_task where task_kwargs -> 'order' ->> 'task' = %(task)s "
                "for update"
            ),
        )


def _config(dsn: str) -> Any:
    queues: Any = importlib.import_module("litestar_queues")
    backends: Any = importlib.import_module("litestar_queues.backends.advanced_alchemy")
    alchemy: Any = importlib.import_module("advanced_alchemy.config")
    database = alchemy.SQLAlchemyAsyncConfig(
        connection_string=dsn.replace("postgresql:", "postgresql+psycopg:", 1)
    )
    return queues.QueueConfig(
        queue_backend=backends.SQLAlchemyBackendConfig(
            sqlalchemy_config=database, worker_wakeups=True, wakeup_channel=WAKEUP_CHANNEL
        ),
        worker=queues.WorkerConfig(
            id=f"{os.environ['BOARD_WORKER']}-{os.getpid()}",
            heartbeat_interval=0.5,
            stale_after=STALE_AFTER_SECONDS,
            stale_check_interval=1.0,
            max_concurrency=10,
            poll_interval=0.2,
            poll_backoff_max=1.0,
        ),
    )


def install(dsn: str) -> None:
    models: Any = importlib.import_module("litestar_queues.backends.advanced_alchemy.models")

    async def create() -> None:
        engine = _config(dsn).queue_backend.sqlalchemy_config.get_engine()
        async with engine.begin() as connection:
            await connection.run_sync(models.QueueTaskModel.metadata.create_all)

    asyncio.run(create())


def work(dsn: str) -> None:
    queues: Any = importlib.import_module("litestar_queues")

    async def board(order: dict[str, Any]) -> dict[str, str]:
        return await Execution(order).perform()

    queues.task("board", retries=2)(board)

    async def run() -> None:
        async with queues.QueueService(_config(dsn)) as service:
            note("ready")
            await queues.Worker(service).start()

    asyncio.run(run())


if __name__ == "__main__":
    main(Litestar(), work, install)
