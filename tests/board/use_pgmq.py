"""pgmq by its SQL, through its Python client: a visibility time-out that the worker extends, and a
second queue for messages that were read too often.

    python -m tests.board.use_pgmq --dsn postgresql://... --fault freeze"""

import json
import threading
import time
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query, rival

TIMEOUT_SECONDS = 3
TASKS_AT_ONCE = 10
TRIES = 3
OF_TASK = "message ->> 'task' = %(task)s"


class Pgmq(System):
    name = "pgmq"
    title = "pgmq"
    package = "pgmq"
    timeout_seconds = float(TIMEOUT_SECONDS)
    tries = TRIES
    settings = (
        (
            "`read(vt=3)`, polled each 0.2 s; the worker calls `set_vt(3)` each second while a "
            "task runs, as is usual for work that is longer than the time-out"
        ),
        (
            "a message whose `read_ct` is above 3 goes into a queue for dead letters; `archive` "
            "when the task is done. It has no workers of its own: these lines are the board's"
        ),
    )
    remedies = (
        (
            "`freeze` with an `archive` of the worker's own only where `read_ct` is still that of "
            "its reading (`select pgmq.archive('board', msg_id) from pgmq.q_board where msg_id = "
            "... and read_ct = ... for update`): the late result was refused"
        ),
        (
            "`computes` with `vt=20`: the long computation (5.6 s) held; a killed worker's task "
            "was executed again after 19.9 s"
        ),
    )

    def install(self, place: Place) -> None:
        text = rival("pgmq.install").get_embedded_install_sql()
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(text.encode())
            connection.execute("select pgmq.create('board'), pgmq.create('dead')")

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute("select pgmq.send('board', %s::jsonb)", (json.dumps(order),))

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            f"select 'completed' from pgmq.a_board where {OF_TASK} "
            f"union all select 'failed' from pgmq.q_dead where {OF_TASK} "
            "union all select case when vt > clock_timestamp() and read_ct > 0 "
            f"then 'running' else 'waiting' end from pgmq.q_board where {OF_TASK} limit 1",
            task=task,
        )
        return TaskState(row[0], "read too often") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return (f"select 1 from pgmq.q_board where {OF_TASK} for update",)


def work(dsn: str) -> None:
    queue = rival("pgmq").PGMQueue(
        conn_string=dsn, pool_size=TASKS_AT_ONCE + 2, init_extension=False
    )
    note("ready")
    while True:
        message = None
        if threading.active_count() <= 2 * TASKS_AT_ONCE:
            message = queue.read("board", vt=TIMEOUT_SECONDS)
        if message is None:
            time.sleep(0.2)
        elif message.read_ct > TRIES:
            queue.send("dead", message.message)
            queue.delete("board", message.msg_id)
        else:
            threading.Thread(target=_perform, args=(queue, message), daemon=True).start()


def _perform(queue: Any, message: Any) -> None:
    has_ended = threading.Event()

    def extend() -> None:
        while not has_ended.wait(1.0):
            queue.set_vt("board", message.msg_id, TIMEOUT_SECONDS)

    threading.Thread(target=extend, daemon=True).start()
    Execution(message.message).perform_blocking()
    has_ended.set()
    queue.archive("board", message.msg_id)


if __name__ == "__main__":
    main(Pgmq(), work)
