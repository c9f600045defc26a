"""b: a sweep of 20,000 overdue tasks, with ledger and events, against the bare UPDATE and against the seed's loop."""

import contextlib
import dataclasses
import os
from collections.abc import Callable

from functions.ops.embedded import Postgres
from functions.policy import Policy, load
from functions.store.postgres import PostgresStore
from functions.sweep import sweep
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.server import Connection, add_finished, add_pending, add_running, connected, make_database, settle_down

OVERDUE = 20_000
FINISHED = 100_000
ROUNDS = 5

NEVER_CLAIMED = "status = 'failed', error_message = 'No worker picked the task up in time.', reason = 'never_claimed'"
FAIL = f"update public.tasks set {NEVER_CLAIMED}, finished_at = clock_timestamp(), updated_at = clock_timestamp()"
REQUEUE = "update public.tasks set status = 'pending', scheduled_at = now() + interval '2 s', updated_at = clock_timestamp()"


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    count = int(OVERDUE * scale)
    figures = []
    for state, what in (("pending", "pending too long, failed"), ("running", "leases run out, pending again")):
        dsn = make_database(server, f"mass_{state}")
        with connected(dsn) as connection:
            add_finished(connection, int(FINISHED * scale))
            case = Case(dsn, connection, state, count)
            found = in_turns({"ours": case.sweep, "bare": case.bare, "seed": case.seed}, ROUNDS)
        figures += [
            Figure(f"sweep of {count:,} tasks, {what}", middle(found["ours"], 1000), "ms"),
            Figure("  one bare UPDATE by key", middle(found["bare"], 1000), "ms"),
            Figure("  the seed: select, then an UPDATE each", middle(found["seed"], 1000), "ms"),
            Figure("  sweep/bare UPDATE", ratio(found["ours"], found["bare"]), aim="< 2.5"),
            Figure("  seed/sweep", ratio(found["seed"], found["ours"]), aim="> 15"),
        ]
    return figures


class Case:
    """One kind of overdue tasks. Each way gets its own fresh ones, on the same table, its indexes and its fence."""

    def __init__(self, dsn: str, connection: Connection, state: str, count: int) -> None:
        self._connection, self._state, self._count = connection, state, count
        self._dsn, self._store, self._policy = dsn, PostgresStore(dsn), _patient(load())
        self._update = FAIL if state == "pending" else REQUEUE

    def sweep(self) -> float:
        self._add(held=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            seconds = timed(lambda: done.update(sweep(self._store, self._policy)))
        assert done["verdict"] == "ok", done
        assert done["failed" if self._state == "pending" else "requeued"] == self._count, done
        return seconds

    def bare(self) -> float:
        ids = self._add(held=False)
        return timed(lambda: self._connection.execute(f"{self._update} where id = any(%s::uuid[])", (ids,)))
