"""graphile-worker, which gives a job free four hours after it was locked.

python -m tests.board.use_graphile --dsn postgresql://... --fault killed"""

import json
from typing import Any

import psycopg

from tests.board.alone import main
from tests.board.node import NodeSystem
from tests.board.system import Connection, Place, TaskState, query

TASK = "j.payload ->> 'task' = %(task)s"


class Graphile(NodeSystem):
    name = "graphile"
    title = "graphile-worker"
    package = "graphile-worker"
    timeout_seconds = 4 * 3600.0
    settings = (
        (
            "`minResetLockedInterval` and `maxResetLockedInterval`: 1 s (default 8 to 10 minutes); "
            "the 4 hours after which a lock is reset stand in its SQL and can't be set"
        ),
        "`concurrency: 10`, `pollInterval: 1000`, `max_attempts` 3",
        "an operator may call `force_unlock_workers` by hand; nothing of its own does",
    )
    remedies = (
        (
            "`killed`, `nobody`, `two_sweeps` with a process that knows which pools' processes "
            "have died and calls `forceUnlockWorkers` with the names of the pools each second: "
            "given free after 2.4, 0.5 and 0.2 s"
        ),
        "`poison` with the same: executed 3 times, then failed without a reason",
        (
            "`freeze`, `leader` with the same: not tried; a frozen process has not died, and the "
            "unlocker itself may be frozen"
        ),
    )
    push = "LISTEN/NOTIFY"

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            if loses_push:  # add_job notifies
                connection.execute(
                    "insert into graphile_worker._private_jobs (task_id, payload, max_attempts) "
                    "select id, %s::json, 3 from graphile_worker._private_tasks "
                    "where identifier = 'board'",
                    (json.dumps(order),),
                )
                return
            connection.execute(
                "select graphile_worker.add_job('board', %s::json, max_attempts => 3)",
                (json.dumps(order),),
            )

    def state(self, connection: Connection, task: str) -> TaskState:
        """A job that has succeeded is deleted."""
        row = query(
            connection,
            "select case when locked_at is not null then 'running' "
            "when attempts >= max_attempts then 'failed' else 'waiting' end, last_error "
            f"from graphile_worker._private_jobs j where {TASK}",
            task=task,
        )
        return TaskState(row[0], row[1] or "") if row else TaskState("completed")

    def locks(self) -> tuple[str, ...]:
        return (f"select 1 from graphile_worker._private_jobs j where {TASK} for update",)


if __name__ == "__main__":
    main(Graphile())
