"""awa, by its Python SDK.

python -m tests.board.use_awa --dsn postgresql://... --fault freeze"""

import asyncio
from dataclasses import dataclass
from typing import Any

from tests.board.alone import main
from tests.board.orders import Execution, note
from tests.board.system import Connection, Place, System, TaskState, query, rival

WORDS = {"running": "running", "completed": "completed", "failed": "failed"}


@dataclass
class Order:
    """Awa's jobs are dataclasses."""

    task: str
    does: str
    seconds: float = 0.0


class Awa(System):
    name = "awa"
    title = "awa"
    package = "awa-pg"
    has_leader = True
    settings = (
        (
            "`heartbeat_interval_ms=500`, `heartbeat_staleness_ms=3000`, "
            "`heartbeat_rescue_interval_ms=1000`, `leader_election_interval_ms=1000`"
        ),
        "`poll_interval_ms=200`, 10 workers in each process, `max_attempts=3`",
    )

    remedies = (
        (
            "`freeze` by itself and after `killed`: rescued in 5.6 and 4.6 s, late result refused; "
            "on workers that `computes` has held up before: not rescued within 17 s, in two runs "
            "of two"
        ),
        (
            "`poison` with a handler that returns `Cancel` where `job.attempt` is above "
            "`job.max_attempts`: executed 3 times (one run on a busy machine, its end was not "
            "seen)"
        ),
        (
            "`nobody` with one more process that works on another queue: not rescued within 90 s "
            "(one run on a busy machine)"
        ),
        (
            "`leader`: no argument of its `start` that we found ends the leadership of a frozen "
            "process"
        ),
    )

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._jobs: dict[str, tuple[Any, int]] = {}

    def install(self, place: Place) -> None:
        asyncio.run(rival("awa").AsyncClient(place.dsn).migrate())
        self._clients[place.dsn] = rival("awa").Client(place.dsn)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        client = self._clients[place.dsn]
        job = client.insert(Order(**order), queue="board", max_attempts=self.tries)
        self._jobs[order["task"]] = (client, job.id)

    def state(self, connection: Connection, task: str) -> TaskState:
        """By its client: a job that runs is spread over many tables."""
        client, number = self._jobs[task]
        try:
            job = client.get_job(number)
        except Exception as error:  # noqa: BLE001 - of several kinds, when the database is away
            return TaskState("away", str(error))
        word = str(job.state).rpartition(".")[2].lower()
        return TaskState(WORDS.get(word, "waiting"), str(job.errors or ""))

    def leader_port(self, connection: Connection) -> int:
        """It holds the only advisory lock."""
        row = query(
            connection,
            "select a.client_port from pg_locks l join pg_stat_activity a using (pid) "
            "where l.locktype = 'advisory' and l.granted and a.datname = current_database()",
        )
        return int(row[0]) if row else 0

    def close(self, place: Place) -> None:
        if place.dsn in self._clients:
            self._clients.pop(place.dsn).close()


def work(dsn: str) -> None:
    async def run() -> None:
        client = rival("awa").AsyncClient(dsn)

        async def board(job: Any) -> None:
            await Execution(vars(job.args)).perform()

        client.task(Order, queue="board")(board)
        await client.start(
            [("board", 10)],
            poll_interval_ms=200,
            leader_election_interval_ms=1000,
            heartbeat_interval_ms=500,
            heartbeat_staleness_ms=3000,
            heartbeat_rescue_interval_ms=1000,
        )
        note("ready")
        await asyncio.Event().wait()

    asyncio.run(run())


if __name__ == "__main__":
    main(Awa(), work)
