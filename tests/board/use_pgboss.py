"""pg-boss, with heartbeats as short as it takes them.

python -m tests.board.use_pgboss --dsn postgresql://... --fault freeze"""

import json
from typing import Any

from tests.board.alone import main
from tests.board.node import NodeSystem
from tests.board.system import Connection, Place, TaskState, query

WORDS = {"created": "waiting", "retry": "waiting", "active": "running", "completed": "completed"}


class PgBoss(NodeSystem):
    name = "pgboss"
    title = "pg-boss"
    package = "pg-boss"
    timeout_seconds = 10.0
    settings = (
        (
            "queue with `heartbeatSeconds: 10` (the least; default off), `retryLimit: 2`, "
            "`retryDelay: 0`"
        ),
        (
            "`superviseIntervalSeconds`, `monitorIntervalSeconds`, `maintenanceIntervalSeconds`: 1 "
            "in each worker (default 60 and more); `heartbeatRefreshSeconds: 2`"
        ),
        "`pollingIntervalSeconds: 0.5`, `localConcurrency: 10`",
    )
    remedies = (
        (
            "`computes` with `heartbeatSeconds: 30`: a computation of 25 s held; a killed "
            "worker's task was executed again after 31.8 s"
        ),
        (
            "`nobody` with one more process that has `supervise: true` and calls no `work`: the "
            "task waited again after 11.4 s"
        ),
    )

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        self.run(place, "send", place.dsn, json.dumps(order))

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select state::text, output::text from pgboss.job where data ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(WORDS.get(row[0], "failed"), row[1] or "") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return ("select 1 from pgboss.job where data ->> 'task' = %(task)s for update",)


if __name__ == "__main__":
    main(PgBoss())
