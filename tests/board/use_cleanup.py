"""The usual cleanup script beside a table of one's own: a worker sets `processing`, a job that runs
each second fails what is older than the time-out. As people write it, with a select and then an
update for each row by its id.

    python -m tests.board.use_cleanup --dsn postgresql://... --fault freeze"""

import json
import os
import threading
import time
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query

TIMEOUT_SECONDS = 3.0
TASKS_AT_ONCE = 10
WORDS = {"pending": "waiting", "processing": "running", "completed": "completed"}
TABLE = """
create table tasks (
  id bigint generated always as identity primary key,
  status text not null default 'pending',
  payload jsonb not null,
  result jsonb,
  error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
)
"""
TAKE = """
update tasks set status = 'processing', updated_at = now()
where id = (
  select id from tasks where status = 'pending' order by id limit 1 for update skip locked)
returning id, payload
"""
FINISH = "update tasks set status = 'completed', result = %s, updated_at = now() where id = %s"
STUCK = """
select id from tasks
where status = 'processing' and updated_at < now() - make_interval(secs => %s)
"""
FAIL = """
update tasks set status = 'failed', error = 'The task timed out.', updated_at = now() where id = %s
"""


class Cleanup(System):
    name = "cleanup"
    title = "the usual cleanup script"
    timeout_seconds = TIMEOUT_SECONDS
    tries = 1
    renews = False
    settings = (
        (
            "fails what has been `processing` for 3 s, each second (usual: after 5 to 60 minutes, "
            "each 5 minutes to each day); it does not try again"
        ),
        "the worker polls each 0.2 s; nothing renews `updated_at` while a task runs",
    )
    remedies = (
        "`finished` with `and status = 'processing'` in the cleaner's `UPDATE`: held",
        ("`freeze` with the same in the worker's last `UPDATE` too: the late result was refused"),
        "`leader` with a second cleaner elsewhere: failed after 3.4 s",
        (
            "`computes` with 20 s in place of 3: the long computation held; a killed worker's "
            "task was failed after 20.2 s"
        ),
    )
    sweepers = ("sweep",)
    second_sweepers = ("sweep_too",)

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return "our own words for it"

    def install(self, place: Place) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(TABLE)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute("insert into tasks (payload) values (%s)", (json.dumps(order),))

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select status, error from tasks where payload ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(WORDS.get(row[0], "failed"), row[1] or "") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return ("select 1 from tasks where payload ->> 'task' = %(task)s for update",)


def work(dsn: str) -> None:
    is_sweeper = os.environ["BOARD_WORKER"] in {*Cleanup.sweepers, *Cleanup.second_sweepers}
    with psycopg.connect(dsn, autocommit=True) as connection:
        note("ready")
        while True:
            if is_sweeper:
                _clean(connection)
                time.sleep(1.0)
            elif not _take(connection, dsn):
                time.sleep(0.2)


def _clean(connection: Connection) -> None:
    for (task_id,) in connection.execute(STUCK, (TIMEOUT_SECONDS,)).fetchall():
        connection.execute(FAIL, (task_id,))


def _take(connection: Connection, dsn: str) -> bool:
    if threading.active_count() > TASKS_AT_ONCE:
        return False
    row = connection.execute(TAKE).fetchone()
    if row:
        threading.Thread(target=_perform, args=(dsn, *row), daemon=True).start()
    return row is not None


def _perform(dsn: str, task_id: int, order: dict[str, Any]) -> None:
    result = Execution(order).perform_blocking()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FINISH, (json.dumps(result), task_id))


if __name__ == "__main__":
    main(Cleanup(), work)
