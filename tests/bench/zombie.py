"""g: what the late result of a frozen worker does, and how often a task runs that kills its worker
each time.

Counts, not times. Each system does it by its own statements; that a worker went silent is written
into its row."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from tests.bench.figures import Figure
from tests.bench.rivals import statements
from tests.bench.server import Connection, add_pending, connected, make_database

DEATHS = 20


@dataclass(frozen=True)
class System:
    """`take` gives what `finish` wants, or None when there is nothing to take; `silence` makes
    every worker that holds a job look dead and lets the system rescue; `ended` says whether the job
    is at its end."""

    take: Callable[[], tuple[str, ...] | None]
    finish: Callable[..., object]
    silence: Callable[[], object]
    ended: Callable[[], bool]


def run(server: Postgres, _: float = 1.0) -> list[Figure]:
    figures = []
    for name, make in (("ours", _ours), ("procrastinate", _procrastinate), ("pgqueuer", _pgqueuer)):
        for what, count, aim in (
            ("late results accepted", _late, "<= 0"),
            (f"runs in {DEATHS} deaths", _deaths, "<= 3"),
        ):
            dsn = make_database(server, f"zombie_{name}_{count.__name__}", migrated=name == "ours")
            with connected(dsn) as connection:
                system = make(connection)
                if system:
                    figures.append(
                        Figure(
                            f"{name}, {what}", count(system), "times", aim if name == "ours" else ""
                        )
                    )
    return figures


def _late(system: System) -> int:
    """A worker is frozen, its job is given to a second one, the first wakes and says that it is
    done."""
    first = system.take()
    system.silence()
    second = system.take()
    assert first is not None
    assert second is not None, "the job was not rescued"
    try:
        system.finish(*first)
    except psycopg.Error:
        return 0
    return int(system.ended())


def _deaths(system: System) -> int:
    runs = 0
    while runs < DEATHS and system.take():
        runs += 1
        system.silence()
    return runs


def _ours(connection: Connection) -> System:
    rules = load().watch().rules_json
    add_pending(connection, 1)

    def take() -> tuple[str, ...] | None:
        found = _one(connection, "select unstuck.tasks_claim(null, 'bench', %s)", rules)
        return (found["task_id"], found["token"]) if found["verdict"] == "claimed" else None

    def silence() -> None:
        connection.execute(
            "update unstuck.attempts set lease = '0', lease_until = clock_timestamp() "
            "where ended_at is null"
        )
        _one(connection, "select unstuck.tasks_sweep(%s)", rules)
        connection.execute(
            "update public.tasks set scheduled_at = clock_timestamp() where status = 'pending'"
        )

    return System(
        take,
        lambda task, token: _one(
            connection,
            "select unstuck.tasks_settle(%s, %s, 'complete', %s, '{}')",
            task,
            token,
            rules,
        ),
        silence,
        lambda: bool(_one(connection, "select to_json(status = 'completed') from public.tasks")),
    )


def _procrastinate(connection: Connection) -> System | None:
    found = statements("procrastinate")
    if not found:
        return None
    schema, fetch, finish, stalled, retry = found
    connection.execute(schema.encode())
    connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name, args) values ('bench', 'image', "
        "'{}')"
    )

    def take() -> tuple[str, ...] | None:
        worker = connection.execute(
            "insert into procrastinate_workers default values returning id"
        ).fetchone()
        row = connection.execute(
            fetch.encode(), {"queues": None, "worker_id": worker and worker[0]}
        ).fetchone()
        return (row[0],) if row and row[0] else None

    def silence() -> None:
        connection.execute(
            "update procrastinate_workers set last_heartbeat = now() - interval '1 h'"
        )
        retry_stalled(connection, stalled, retry)

    return System(
        take,
        lambda job: connection.execute(
            finish.encode(), {"job_id": job, "status": "succeeded", "delete_job": False}
        ),
        silence,
        lambda: bool(
            _one(connection, "select to_json(status = 'succeeded') from procrastinate_jobs")
        ),
    )


def retry_stalled(connection: Connection, stalled: str, retry: str) -> None:
    """The recipe of procrastinate's documentation: stalled jobs by the heartbeat of their worker,
    each retried."""
    filters = {"seconds_since_heartbeat": 30, "queue": None, "task_name": None}
    unchanged = dict.fromkeys(("new_priority", "new_queue_name", "new_lock"))
    for job in connection.execute(stalled.encode(), filters).fetchall():
        connection.execute(retry.encode(), {"job_id": job[0], "retry_at": "now", **unchanged})


def _pgqueuer(connection: Connection) -> System | None:
    """Which takes a silent job again by itself, when a worker asks for one."""
    found = statements("pgqueuer")
    if not found:
        return None
    schema, dequeue, log = found
    connection.execute(schema.encode())
    connection.execute(
        "insert into pgqueuer (priority, entrypoint, status) values (0, 'bench', 'queued')"
    )

    def take() -> tuple[str, ...] | None:
        row = connection.execute(dequeued(dequeue, 1)).fetchone()
        return (str(row[0]),) if row else None

    return System(
        take,
        lambda job: connection.execute(_literal(log, f"{{{job}}}", "{successful}", "{null}")),
        lambda: connection.execute("update pgqueuer set heartbeat = now() - interval '1 h'"),
        lambda: not _one(connection, "select to_json(count(*)) from pgqueuer"),
    )


def dequeued(statement: str, batch: int) -> bytes:
    """pgqueuer's statement that takes as many jobs, also those that were silent for 30 s."""
    return _literal(statement, batch, "{bench}", "00000000-0000-0000-0000-000000000001", "30 s")


def _literal(statement: str, *arguments: object) -> bytes:
    """With $1, $2, ... in place: psycopg's own placeholders are others."""
    for number, argument in enumerate(arguments, 1):
        statement = statement.replace(f"${number}", f"'{argument}'")
    return statement.encode()


def _one(connection: Connection, query: str, *values: object) -> object:
    row = connection.execute(query.encode(), values).fetchone()
    return json.loads(row[0]) if row and isinstance(row[0], str) else row and row[0]
