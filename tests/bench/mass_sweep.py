"""b: a sweep of 20,000 overdue tasks, with ledger and events, against the bare UPDATE and against
the seed's loop."""

import contextlib

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.server import (
    Connection,
    add_finished,
    add_pending,
    add_running,
    connected,
    make_database,
    quiet_sweep,
    settle_down,
)

OVERDUE = 20_000
FINISHED = 100_000
ROUNDS = 5

FAIL = """update public.tasks set status = 'failed',
    error_message = 'No worker picked the task up in time.',
  reason = 'never_claimed', finished_at = clock_timestamp(), updated_at = clock_timestamp()"""
REQUEUE = """update public.tasks set status = 'pending', error_message = null, reason = null,
    finished_at = null,
  scheduled_at = now() + interval '2 s', updated_at = clock_timestamp()"""


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    count = int(OVERDUE * scale)
    figures = []
    for state, what in (("pending", "pending too long"), ("running", "lease ran out")):
        dsn = make_database(server, f"mass_{state}")
        with connected(dsn) as connection, contextlib.closing(PostgresStore(dsn)) as store:
            add_finished(connection, int(FINISHED * scale))
            case = Case(store, connection, state, count)
            case.sweep()
            found = in_turns({"ours": case.sweep, "bare": case.bare, "seed": case.seed}, ROUNDS)
        figures += [
            Figure(f"sweep of {count:,}, {what}", middle(found["ours"], 1000), "ms"),
            Figure(f"  one bare UPDATE by key, {what}", middle(found["bare"], 1000), "ms"),
            Figure(
                f"  the seed: select, then an UPDATE each, {what}",
                middle(found["seed"], 1000),
                "ms",
            ),
            Figure(
                f"  sweep/bare UPDATE, {what}", ratio(found["ours"], found["bare"]), aim="< 2.5"
            ),
            Figure(f"  seed/sweep, {what}", ratio(found["seed"], found["ours"]), aim="> 15"),
        ]
    return figures


class Case:
    """One kind of overdue tasks. Each way gets its own fresh ones, on the same table with its
    indexes and its fence."""

    def __init__(
        self, store: PostgresStore, connection: Connection, state: str, count: int
    ) -> None:
        self._store, self._connection, self._state, self._count = store, connection, state, count
        self._update = FAIL if state == "pending" else REQUEUE

    def sweep(self) -> float:
        """The whole run as the scheduler gets it, with an event for each task."""
        self._fresh(held=True)
        done, seconds = quiet_sweep(self._store, load())
        assert (done.failed if self._state == "pending" else done.requeued) == self._count, done
        return seconds

    def bare(self) -> float:
        """One statement, one commit, no trace."""
        ids = self._fresh(held=False)
        return timed(
            lambda: self._connection.execute(f"{self._update} where id = any(%s::uuid[])", (ids,))
        )[1]

    def seed(self) -> float:
        """What the seeds do, but by psycopg on loopback instead of HTTP: a select, then an update
        and a commit for each."""
        self._fresh(held=False)
        return timed(self._loop)[1]

    def _loop(self) -> None:
        state = "pending" if self._state == "pending" else "processing"
        for row in self._connection.execute(
            "select id from public.tasks where status = %s", (state,)
        ).fetchall():
            self._connection.execute(f"{self._update} where id = %s", row)

    def _fresh(self, *, held: bool) -> list[str]:
        return fresh(self._connection, self._state, self._count, held=held)


def fresh(connection: Connection, state: str, count: int, *, held: bool) -> list[str]:
    """Overdue tasks in place of those of the round before. Returns their ids."""
    connection.execute("""
        with gone as (delete from public.tasks where status <> 'completed' returning id::text)
        delete from unstuck.attempts a using gone where a.watch = 'tasks'
          and a.task_id = gone.id""")
    if state == "pending":
        ids = add_pending(connection, count, "1 h")
    else:
        ids = add_running(connection, count, "-1 m", held=held)
    settle_down(connection)
    return ids
