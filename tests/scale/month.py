"""A month of tasks in accelerated time: how tables and indexes grow, what retention takes, and what
an idle sweep, a claim and the page cost, against a database in its first hour.

The database's clock is moved by libfaketime (Debian: apt install faketime), an hour at a time. Of
50 tasks one goes through the verbs, and 49 are written by statements for many at once, which leave
the same rows and versions of rows (life.sql). A sweep runs each hour, and retention goes on in its
batches until nothing is old, as the 59 other runs of the hour would. Autovacuum sees how long a
statement takes, not how far its clock has moved: so each hour those tables are vacuumed of which it
would vacuum by its own settings."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from functions.core.policy import Policy, load
from functions.core.record import replace
from functions.errors import StoreError
from functions.install.migrate import migrate
from functions.ops.postgres import binaries, embedded
from functions.ops.postgres.embedded import Postgres, create_database
from functions.store.postgres import PostgresStore
from functions.sweep import clock as sweep_clock
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.server import add_pending, connected, quiet_sweep
from tests.waiting import eventually

DAYS = 30
STEPS = 24
MEASURED_DAYS = (1, 8, 15, 22)
"""And the last one."""
BATCH = 500
"""Tasks that are at work at once."""
KEPT_DAYS = 7
DAY_SECONDS = 86_400
ROUNDS = 25
WAITING = 100
MINUTES_OF_RUNS = 60
CLOCK_IS_READ_SECONDS = 1
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
LIFE = Path(__file__).with_name("life.sql")
TABLES = ("public.tasks", "unstuck.attempts")
SETTINGS = {
    "shared_buffers": "'2GB'",
    "max_wal_size": "'4GB'",
    "checkpoint_timeout": "'1d'",  # of the clock that is moved
    # what a crash would need: it changes no row, no size and no time of the backend
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}
DUE = """
select
  s.relid::regclass::text,
  s.n_dead_tup > coalesce(o.least, current_setting('autovacuum_vacuum_threshold')::float8)
    + coalesce(o.share, current_setting('autovacuum_vacuum_scale_factor')::float8) * r.count,
  s.n_mod_since_analyze > current_setting('autovacuum_analyze_threshold')::float8
    + current_setting('autovacuum_analyze_scale_factor')::float8 * r.count
from pg_stat_user_tables s
join pg_class c on c.oid = s.relid
cross join lateral (select greatest(c.reltuples, 0) as count) r
cross join lateral (
  select
    max(p.option_value::float8) filter (
      where p.option_name = 'autovacuum_vacuum_threshold'
    ) as least,
    max(p.option_value::float8) filter (
      where p.option_name = 'autovacuum_vacuum_scale_factor'
    ) as share
  from pg_options_to_table(c.reloptions) p
) o
"""
"""Which tables autovacuum would vacuum, and which it would analyze: PostgreSQL's documentation,
"The Autovacuum Daemon"."""
SIZES = """
select c.oid::regclass::text, pg_relation_size(c.oid)
from pg_index i
join pg_class c on c.oid in (i.indexrelid, i.indrelid)
where i.indrelid = any (%s::regclass[])
group by c.oid
order by 2 desc
"""
PAGE_BYTES = 8_192
TRIES = 20
PAGE_CALLS = {"overview of the page": "tasks_pulse(%s)", "list of the page": "tasks_page('{}', %s)"}


class NoFakeClockError(Exception):
    """libfaketime is not here."""


@contextlib.contextmanager
def server_with_a_clock() -> Iterator[tuple[Postgres, Path]]:
    """A server, and the file that says by how much its clock is ahead, such as `+3h`. Raises
    NoFakeClockError."""
    if not LIBRARIES:
        raise NoFakeClockError("the month needs libfaketime: apt install faketime")
    plain_surroundings = binaries.surroundings
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        clock = Path(folder) / "clock"
        clock.write_text("+0h\n")
        faked = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": str(CLOCK_IS_READ_SECONDS),
            "DONT_FAKE_MONOTONIC": "1",
        }

        def surroundings(user: dict[str, Any]) -> dict[str, Any]:
            arguments = plain_surroundings(user)
            return arguments | {"env": arguments["env"] | faked}

        with patch.object(embedded, "surroundings", surroundings), Postgres() as server:
            with connected(server.dsn()) as connection:
                for name, value in SETTINGS.items():
                    connection.execute(f"alter system set {name} = {value}".encode())
            server.restart()
            yield server, clock


class Database:
    """One in which tasks live. Its connection writes them; `store` is that of the sweep."""

    def __init__(
        self, server: Postgres, name: str, policy: Policy, closed_at_end: contextlib.ExitStack
    ) -> None:
        create_database(server.dsn(), name)
        migrate(server.dsn(name), policy)
        self.policy, self.rules = policy, policy.watch().rules_json
        self.connection = closed_at_end.enter_context(connected(server.dsn(name)))
        self.connection.execute(LIFE.read_bytes())
        self.store = closed_at_end.enter_context(
            contextlib.closing(PostgresStore(server.dsn(name)))
        )

    def live(self, tasks: int, *, dies: bool = True) -> None:
        """So many tasks from `create` to their end, but one of them whose worker `dies`."""
        while tasks > 0:
            count = min(BATCH, tasks)
            share = max(1, count // 50)
            self.connection.execute(
                "call simulation.lives(%s, %s, %s)", (count - share, share, share)
            )
            self.connection.execute("call simulation.verbs(%s, %s, %s)", (share, self.rules, dies))
            tasks -= count
            dies = False

    def idle_runs(self, count: int) -> None:
        """Those of the last hour, one a minute."""
        self.connection.execute("call simulation.idle_runs(%s)", (count,))

    def sweep(self) -> float:
        """A run of the sweep, and all that the retention of the other runs would delete. Returns
        the seconds of CPU of its dearest batch."""
        with contextlib.suppress(StoreError), patch.object(sweep_clock, "jump", return_value=None):
            quiet_sweep(self.store, self.policy)
        dearest = 0.0
        for call, argument in (
            ("select (unstuck.tasks_retain(%s) ->> 'rows')::int", self.rules),
            ("select unstuck.prune(%s, 500)", self.policy.retention),
        ):
            gone = 1
            while gone:
                before = self.cpu()
                gone = self.number(call, argument)
                dearest = max(dearest, self.cpu() - before)
        return dearest

    def vacuum(self) -> None:
        """What autovacuum would do now."""
        self.connection.execute("select pg_stat_force_next_flush()")
        for table, dead, changed in self.connection.execute(DUE).fetchall():
            if dead:
                self.connection.execute(f"vacuum {table}".encode())
            if changed:
                self.connection.execute(f"analyze {table}".encode())

    def number(self, query: str, *arguments: Any) -> int:
        row = self.connection.execute(query.encode(), arguments).fetchone()
        assert row
        return int(row[0])

    def cpu(self) -> float:
        """Seconds that the backend of `connection` took."""
        return _cpu([self.connection.info.backend_pid])

    def cpu_of(self, query: str, *arguments: Any) -> float:
        before = self.cpu()
        self.connection.execute(query.encode(), arguments)
        return self.cpu() - before

    def cpu_of_idle_sweep(self) -> float:
        """Of the backend that it has, of a run that came to its end and found nothing."""
        for _ in range(TRIES):
            with contextlib.suppress(StoreError, FileNotFoundError):
                backends = self._backends_of_sweep()
                before = _cpu(backends)
                report, _ = quiet_sweep(self.store, self.policy)
                seconds = _cpu(backends) - before
                moved = report.failed + report.requeued
                if (report.verdict, moved, len(backends)) == ("ok", 0, 1):
                    return seconds
        raise AssertionError("no run of the sweep came to its end")

    def _backends_of_sweep(self) -> list[int]:
        rows = self.connection.execute(
            "select pid from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend'"
        )
        return [pid for (pid,) in rows]

    def cpu_of_claim(self) -> float:
        before = self.cpu()
        answer = self._json("select unstuck.tasks_claim(null, 'worker-1', %s)", self.rules)
        seconds = self.cpu() - before
        self._json(
            "select unstuck.tasks_settle(%s, %s::uuid, 'complete', %s)",
            answer["task_id"],
            answer["token"],
            self.rules,
        )
        return seconds

    def _json(self, query: str, *arguments: Any) -> dict[str, Any]:
        row = self.connection.execute(query.encode(), arguments).fetchone()
        assert row
        return dict(row[0])


def _cpu(pids: list[int]) -> float:
    texts = [Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii") for pid in pids]
    return sum(int(text.split()[0]) for text in texts) / 1e9


def run(tasks: int, days: int = DAYS, steps: int = STEPS) -> Iterator[list[Figure]]:
    """`tasks` in `days`, those that ended kept for a week. Yields the figures of each day that is
    measured, and then of all. `steps`: of the clock, in a day. Raises NoFakeClockError."""
    policy = _keeping_a_week()
    each_step = max(1, tasks // (days * steps))
    dearest = 0.0
    with server_with_a_clock() as (server, clock), contextlib.ExitStack() as closed_at_end:
        busy, new = (Database(server, name, policy, closed_at_end) for name in ("busy", "new"))
        for step in range(1, days * steps + 1):
            day = step // steps
            is_measured = step % steps == 0 and (day in MEASURED_DAYS or day == days)
            busy.live(each_step, dies=not is_measured)
            busy.vacuum()
            if is_measured:
                yield _measured(busy, new, f"day {day}", each_step)
                yield _sizes_of(busy, f"day {day}")
            _move(busy, clock, step * DAY_SECONDS // steps, DAY_SECONDS // steps)
            busy.idle_runs(DAY_SECONDS // steps // 60 - 1)
            dearest = max(dearest, busy.sweep())
        yield [
            Figure("dearest batch of retention", dearest * 1e3, "ms of CPU"),
            Figure("a task, of its life and its retention", busy.cpu() / tasks * 1e6, "us of CPU"),
            *_against_new(busy),
        ]


def _keeping_a_week() -> Policy:
    policy = load()
    watch = policy.watch()
    week = float(KEPT_DAYS * DAY_SECONDS)
    rules = {
        kind: replace(rule, retention_completed=week, retention_failed=week)
        for kind, rule in watch.rules.items()
    }
    watches = {watch.name: replace(watch, rules=rules)}
    return replace(policy, retention=week, watches=watches)


def _move(database: Database, clock: Path, ahead: int, seconds: int) -> None:
    """Moves the clock to `ahead` of ours, and waits until the session reads it."""
    now = "select extract(epoch from clock_timestamp())::bigint"
    before = database.number(now)
    clock.write_text(f"+{ahead}\n")
    eventually(lambda: database.number(now) - before > seconds / 2)


def _measured(busy: Database, new: Database, when: str, tasks: int) -> list[Figure]:
    """Beside a database in which nothing happened before the tasks of the last hour."""
    new.connection.execute("truncate public.tasks, unstuck.attempts, unstuck.sweeps")
    new.idle_runs(MINUTES_OF_RUNS)
    new.live(tasks, dies=False)
    new.vacuum()
    both = {"busy": busy, "new": new}
    for database in both.values():
        add_pending(database.connection, WAITING)
        database.connection.execute("analyze")
    ways: dict[str, dict[str, Callable[[], float]]] = {
        "idle sweep": {name: database.cpu_of_idle_sweep for name, database in both.items()},
        "claim": {name: database.cpu_of_claim for name, database in both.items()},
    }
    for part, call in PAGE_CALLS.items():
        query = f"select unstuck.{call}"
        ways[part] = {
            name: partial(database.cpu_of, query, database.rules) for name, database in both.items()
        }
    seconds = {part: in_turns(of_both, ROUNDS) for part, of_both in ways.items()}
    figures = []
    for part, times in seconds.items():
        aim = "<= 1.3" if part == "idle sweep" else ""
        figures += [
            Figure(f"{when}: {part}", middle(times["busy"], 1e3), "ms of CPU"),
            Figure("  against the first hour", ratio(times["busy"], times["new"]), aim=aim),
        ]
    return figures


def _sizes_of(busy: Database, when: str) -> list[Figure]:
    figures = []
    for name in TABLES:
        size = busy.number(f"select pg_total_relation_size('{name}')")
        rows = busy.number(f"select count(*) from {name}")
        dead = busy.number("select pg_stat_get_dead_tuples(%s::regclass)", name)
        figures += [
            Figure(f"{when}: {name}: rows", rows, "rows"),
            Figure("  dead rows of all", dead / (rows + dead) * 100, "%"),
            Figure("  size with indexes", size / 2**20, "MB"),
            Figure("  a row, with indexes", size / rows, "bytes"),
        ]
    relations = _relation_sizes(busy).items()
    return [*figures, *(Figure(f"{when}: {name}", size / 2**20, "MB") for name, size in relations)]


def _against_new(busy: Database) -> list[Figure]:
    """Each table and index against the same rows, all written anew."""
    before = _relation_sizes(busy)
    for name in TABLES:
        busy.connection.execute(f"vacuum full {name}".encode())
    after = _relation_sizes(busy)
    figures = []
    for name, size in before.items():
        figures += [
            Figure(f"{name}: size", size / 2**20, "MB"),
            Figure("  against the same rows written anew", size / max(after[name], PAGE_BYTES)),
        ]
    return figures


def _relation_sizes(database: Database) -> dict[str, int]:
    return dict(database.connection.execute(SIZES, (list(TABLES),)).fetchall())
