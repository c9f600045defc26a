"""a: a sweep that finds nothing, at 10 thousand and at 1 million rows. Its cost must not grow with
the table."""

import contextlib
import re
from collections.abc import Callable

from functions.core.dispatch import Dispatcher
from functions.core.policy import Policy, load
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

OPEN = 100
"""Healthy open rows in each table, half of them pending, half processing with a live attempt: 1 %
of the small one."""
ROUNDS = 25


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    small, large = int(10_000 * scale), int(1_000_000 * scale)
    tables = {
        "small": _fill(server, "idle_small", small, OPEN),
        "large": _fill(server, "idle_large", large, OPEN),
        "busy": _fill(server, "idle_busy", large, large // 100),
    }
    policy = load()
    with contextlib.ExitStack() as stack:
        stores = {
            name: stack.enter_context(contextlib.closing(PostgresStore(dsn)))
            for name, dsn in tables.items()
        }
        runs = in_turns({name: idle_run(store, policy) for name, store in stores.items()}, ROUNDS)
        verbs = in_turns({name: _verb(store, policy) for name, store in stores.items()}, ROUNDS)
    buffers = {name: _buffers(dsn, policy) for name, dsn in tables.items()}
    figures = []
    for name, rows, healthy in (
        ("small", small, OPEN),
        ("large", large, OPEN),
        ("busy", large, large // 100),
    ):
        what = f"{rows:,} rows, {healthy:,} open"
        figures += [
            Figure(f"idle run, {what}", middle(runs[name], 1000), "ms"),
            Figure(f"  its sweep verb, {what}", middle(verbs[name], 1000), "ms"),
            Figure(f"  buffers of all its verbs, {what}", buffers[name], "pages"),
        ]
    return [
        *figures,
        Figure("large/small table: run", ratio(runs["large"], runs["small"]), aim="<= 2"),
        Figure("large/small table: sweep verb", ratio(verbs["large"], verbs["small"]), aim="<= 2"),
        Figure("large/small table: buffers", buffers["large"] / buffers["small"], aim="<= 2"),
        Figure(
            "large with 1 % open/small: run (what is open is read)",
            ratio(runs["busy"], runs["small"]),
        ),
    ]


def _fill(server: Postgres, name: str, rows: int, healthy: int) -> str:
    dsn = make_database(server, name)
    with connected(dsn) as connection:
        add_finished(connection, rows - healthy)
        add_pending(connection, healthy // 2)
        add_running(connection, healthy - healthy // 2)
        settle_down(connection)
    return dsn


def idle_run(
    store: PostgresStore, policy: Policy, dispatcher: Dispatcher | None = None
) -> Callable[[], float]:
    """The whole run as the scheduler gets it, its row in `sweeps` included."""

    def once() -> float:
        done, seconds = quiet_sweep(store, policy, dispatcher)
        assert (done.verdict, done.failed, done.requeued, done.redispatched) == ("ok", 0, 0, 0), (
            done
        )
        return seconds

    once()
    return once


def _verb(store: PostgresStore, policy: Policy) -> Callable[[], float]:
    watch = policy.watch()
    store.sweep(watch, 500)
    return lambda: timed(lambda: store.sweep(watch, 500))[1]


def _buffers(dsn: str, policy: Policy) -> float:
    """Pages that a run touches, of all its verbs. The second call is counted: plans and catalogs
    are read by then."""
    rules = policy.watch().rules_json
    with connected(dsn) as connection:
        return sum(
            _touched(connection, call, arguments)
            for call, arguments in (
                ("unstuck.suspend('tasks', 10, 0.5)", ()),
                ("unstuck.tasks_sweep(%s)", (rules,)),
                ("unstuck.tasks_orphans(0)", ()),
                ("unstuck.tasks_redispatch(%s)", (rules,)),
                (f"unstuck.prune({policy.retention})", ()),
            )
        )


def _touched(connection: Connection, call: str, arguments: tuple[str, ...]) -> int:
    for _ in range(2):
        plan = connection.execute(
            f"explain (analyze, buffers, costs off) select {call}", arguments
        ).fetchall()  # type: ignore[arg-type]
    line = next((row[0] for row in plan if "Buffers:" in row[0]), "")
    return sum(int(pages) for pages in re.findall(r"(?:hit|read)=(\d+)", line))
