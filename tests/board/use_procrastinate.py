"""procrastinate, with the periodic task of its guide "Retry stalled jobs", each second.

python -m tests.board.use_procrastinate --dsn postgresql://... --fault freeze"""

import asyncio
import importlib
import json
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query

TIMEOUT_SECONDS = 3.0
WORDS = {"todo": "waiting", "doing": "running", "succeeded": "completed"}


class Procrastinate(System):
    name = "procrastinate"
    title = "procrastinate"
    package = "procrastinate"
    timeout_seconds = TIMEOUT_SECONDS
    settings = (
        (
            "`update_heartbeat_interval=0.5`, `stalled_worker_timeout=3`, "
            "`get_stalled_jobs(seconds_since_heartbeat=3)`"
        ),
        (
            "the periodic task of its guide “Retry stalled jobs”, each second (the guide: each 10 "
            "minutes; without this task nothing is rescued)"
        ),
        "`retry=2` on the task, `fetch_job_polling_interval=1`, `concurrency=10`",
    )
    remedies = (
        (
            "`poison` with that periodic task made longer, as its guide allows: what has "
            "`attempts >= 2` goes to `finish_job(job, Status.FAILED)`, else `retry_job`: executed "
            "3 times, then failed (its table has no place for a reason)"
        ),
        (
            "`freeze`: no setting that we found refuses a late result, which is written by the "
            "job's id alone; with a periodic task that fails a stalled job and does not retry it, "
            "the late result was refused"
        ),
        (
            "`computes` with 20 in place of 3 for both time-outs: the long computation (5 s) "
            "held; a killed worker's task was executed again after 19.9 s"
        ),
        (
            "`nobody` with a process of its own for the periodic task, on a queue of its own: the "
            "task waited again after 3.7 s"
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
                "insert into procrastinate_jobs (queue_name, task_name, args) "
                "values ('default', 'board', %s)",
                (json.dumps({"order": order}),),
            )

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select status::text from procrastinate_jobs where task_name = 'board' "
            "and args -> 'order' ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(WORDS.get(row[0], "failed") if row else "absent")

    def locks(self) -> tuple[str, ...]:
        job = "select * from procrastinate_jobs where args -> 'order' ->> 'task' = %(task)s"
        return (
            f"{job} for update",
            (
                f"select 1 from procrastinate_workers "
                f"where id in (select worker_id from ({job}) j) for update"
            ),
        )


def _app(dsn: str) -> Any:
    procrastinate: Any = importlib.import_module("procrastinate")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))

    async def retry_stalled_jobs(_context: Any, timestamp: int) -> None:
        stalled = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=TIMEOUT_SECONDS)
        for job in stalled:
            await app.job_manager.retry_job(job)

    async def board(order: dict[str, Any]) -> None:
        await Execution(order).perform()

    sweep = app.task(queueing_lock="retry_stalled_jobs", pass_context=True)(retry_stalled_jobs)
    app.periodic(cron="* * * * * *")(sweep)
    app.task(name="board", retry=2)(board)
    return app


def install(dsn: str) -> None:
    async def apply() -> None:
        async with _app(dsn).open_async() as app:
            await app.schema_manager.apply_schema_async()

    asyncio.run(apply())


def work(dsn: str) -> None:
    async def run() -> None:
        async with _app(dsn).open_async() as app:
            note("ready")
            await app.run_worker_async(
                concurrency=10,
                fetch_job_polling_interval=1.0,
                update_heartbeat_interval=0.5,
                stalled_worker_timeout=TIMEOUT_SECONDS,
            )

    asyncio.run(run())


if __name__ == "__main__":
    main(Procrastinate(), work, install)
