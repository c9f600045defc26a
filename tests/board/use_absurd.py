"""absurd, by its Python SDK and the schema that its command line brings.

python -m tests.board.use_absurd --dsn postgresql://... --fault freeze"""

import threading
from contextlib import suppress
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query, rival

TIMEOUT_SECONDS = 3
QUEUE = "board"
WORDS = {"pending": "waiting", "sleeping": "waiting", "running": "running"}


class Absurd(System):
    name = "absurd"
    title = "absurd"
    package = "absurd-sdk"
    timeout_seconds = float(TIMEOUT_SECONDS)
    settings = (
        "`start_worker(claim_timeout=3, concurrency=10, poll_interval=0.2)` (default time-out 120)",
        "the handler calls `ctx.heartbeat()` each second from a thread; `max_attempts=3`",
    )
    remedies = (
        (
            "`computes` with `claim_timeout=10`: a computation of 4.2 s held; a killed worker's "
            "task was executed again after 10.6 s"
        ),
        (
            "`nobody`: only `absurd.claim_task` looks for claims that ran out, and it claims too; "
            "neither `absurdctl` nor its pg_cron jobs have a command that only looks"
        ),
    )

    def install(self, place: Place) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(rival("absurdctl").BUNDLED_SCHEMA_SQL.encode())
            connection.execute("select absurd.create_queue(%s)", (QUEUE,))

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        app = rival("absurd_sdk").Absurd(place.dsn, queue_name=QUEUE)
        app.spawn("board", order, max_attempts=self.tries, queue=QUEUE)
        app.close()

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            f"select t.state, r.failure_reason ->> 'message' from absurd.t_{QUEUE} t "
            f"left join absurd.r_{QUEUE} r on r.run_id = t.last_attempt_run "
            "where t.params ->> 'task' = %(task)s",
            task=task,
        )
        if not row:
            return TaskState("absent")
        return TaskState(WORDS.get(row[0], row[0]), row[1] or "")

    def locks(self) -> tuple[str, ...]:
        tasks = f"select task_id from absurd.t_{QUEUE} where params ->> 'task' = %(task)s"
        return (
            f"select 1 from absurd.r_{QUEUE} where task_id in ({tasks}) for update",
            f"{tasks} for update",
        )


def work(dsn: str) -> None:
    app = rival("absurd_sdk").Absurd(dsn, queue_name=QUEUE)

    def board(order: dict[str, Any], context: Any) -> dict[str, str]:
        has_ended = threading.Event()

        def beat() -> None:
            with suppress(Exception):  # the SDK raises when the claim is lost
                while not has_ended.wait(1.0):
                    context.heartbeat()

        threading.Thread(target=beat, daemon=True).start()
        try:
            return Execution(order).perform_blocking()
        finally:
            has_ended.set()

    app.register_task(name="board")(board)
    note("ready")
    app.start_worker(claim_timeout=TIMEOUT_SECONDS, concurrency=10, poll_interval=0.2)


if __name__ == "__main__":
    main(Absurd(), work)
