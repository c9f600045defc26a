"""The world of a run: PostgreSQL, the proxy before it, workers and a sweep as they are deployed, a
queue that loses and doubles pushes, and what each fault does to them."""

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
import yaml
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT, Policy, parse
from functions.errors import StoreError
from functions.install.migrate import file, migrate
from functions.ops.local.processes import children, family, session
from functions.ops.local.queue import LocalQueue
from functions.ops.local.servers import Server, Tick
from functions.ops.postgres.embedded import Postgres
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.supabase import SupabaseStore
from tests.chaos.plan import EVERYBODY, WORKERS, Strike
from tests.chaos.proxy import FAULTS, Proxy
from tests.store.pooler import Pooler
from tests.supabase.stack import Supabase, bootstrap
from tests.waiting import eventually

BEAT_SECONDS, LEASE_SECONDS, SWEEP_SECONDS = 0.5, 3.0, 1.0
AT_ONCE = 6
"""Tasks of each worker."""
LOST_SHARE, DOUBLED_SHARE = 0.03, 0.05
"""Of the pushes."""
LONGEST_DOUBLE_SECONDS = 2.0
"""After the first push its double may come so late."""
AUDIT = """
create schema chaos;
create table chaos.changes (
  at timestamptz default clock_timestamp(), task_id text, old text, new text,
  result_changed boolean);
create function chaos.note() returns trigger language plpgsql security definer as $$
begin
  insert into chaos.changes (task_id, old, new, result_changed)
  values (new.id::text, old.status, new.status, old.result is distinct from new.result);
  return null;
end $$;
create trigger chaos_note after update on public.tasks for each row execute function chaos.note();
"""
OURS = "-c default_transaction_read_only=off -c statement_timeout=20000"
"""Of the session that strikes and judges: it sees through a read-only time."""


def policy_text() -> str:
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    del policy["alerts"]  # their numbers fit long clocks
    policy["platform"] = {"timeout": "20s", "margin": "2s"}
    policy["lease"] = {"beat": f"{BEAT_SECONDS}s", "for": f"{LEASE_SECONDS}s"}
    policy["sweep"] |= {"every": f"{SWEEP_SECONDS}s", "budget": f"{SWEEP_SECONDS * 0.9}s"}
    default = policy["watches"]["tasks"]["rules"]["*"] | {
        "pending_for": "300s",
        "redispatch_after": "4s",
        "run_for": "12s",
        "silent_for": "60s",
        "attempts": 5,
        "backoff": {"first": "0.2s", "factor": 2, "max": "2s"},
    }
    mail = {"on_lost": "uncertain", "on_error": "fail", "attempts": 1}
    rules: dict[str, dict[str, Any]] = {
        "works": {},
        "steps": {},
        "mail": {"handler": "works", **mail},
        "mail_steps": {"handler": "steps", **mail},
        "fragile": {"handler": "works", "on_lost": "fail", "on_error": "fail"},
        "hangs": {"run_for": "2s", "attempts": 2},
        "dies_once": {},
        "poison": {"attempts": 2},
        "refuses": {},
        "comes_back": {},
    }
    for kind, rule in rules.items():
        rule["handler"] = f"tests.chaos.handlers:{rule.get('handler', kind)}"
    policy["watches"]["tasks"]["rules"] = {"*": default, **rules}
    text = yaml.safe_dump(policy, sort_keys=False)
    parse(text)
    return text


@dataclass
class Struck:
    """A fault that happened, by the clock that all processes of this machine share. `tasks`: whose
    rows were locked."""

    fault: str
    whom: tuple[str, ...]
    begin: float
    end: float
    tasks: tuple[str, ...] = ()


class BadQueue(LocalQueue):
    """Loses pushes and delivers others twice."""

    is_calm = False

    def put(self, push: dict[str, Any], delivery: int = 1) -> None:
        if self.is_calm or random.random() >= LOST_SHARE:
            super().put(push, delivery)
        if not self.is_calm and random.random() < DOUBLED_SHARE:
            double = threading.Timer(
                random.uniform(0, LONGEST_DOUBLE_SECONDS), super().put, (push, delivery)
            )
            double.daemon = True
            double.start()


class World:
    """`through`: postgres, pgbouncer or supabase (its REST API)."""

    def __init__(self, through: str = "postgres") -> None:
        self.through = through
        self.struck: list[Struck] = []
        self._open = ExitStack()
        self._dying = {name: threading.Lock() for name in EVERYBODY}
        self._database = threading.Lock()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.folder = Path(
                opened.enter_context(tempfile.TemporaryDirectory(prefix="unstuck-chaos-"))
            )
            self.policy: Policy = parse(policy_text())
            (self.folder / "policy.yaml").write_text(policy_text(), encoding="utf-8")
            self.postgres = opened.enter_context(Postgres())
            self._migrate()
            self._make_ways(opened)
            self.servers: dict[str, Server] = {}
            opened.callback(self._stop_servers)
            urls: list[str] = []
            self.queue = BadQueue(urls)
            for name in EVERYBODY:
                self.servers[name] = self._serving(name)
            urls += [self.servers[name].url for name in WORKERS for _ in range(AT_ONCE)]
            opened.enter_context(self.queue)
            opened.enter_context(Tick(self.servers["sweep"].url, SWEEP_SECONDS))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _migrate(self) -> None:
        if self.through == "supabase":
            bootstrap(self.dsn)
            self._execute(file(self.policy, "public"))
        else:
            migrate(self.dsn, self.policy)
        self._execute(AUDIT)

    def _execute(self, text: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(text.encode())

    def _make_ways(self, opened: ExitStack) -> None:
        """Each server has a way of its own to the database."""
        if self.through == "supabase":
            self._stack = opened.enter_context(Supabase(self.dsn))
            upstream = int(self._stack.url.rpartition(":")[2])
        elif self.through == "pgbouncer":
            self._pooler = opened.enter_context(Pooler(self.dsn))
            upstream = self._pooler.port
        else:
            upstream = self.postgres.port
        is_http = self.through == "supabase"
        self.proxy = opened.enter_context(Proxy(EVERYBODY, upstream, is_http=is_http))

    def _serving(self, name: str) -> Server:
        for _ in range(5):
            server = Server(
                "sweep" if name == "sweep" else "worker",
                self._environment(name),
                name=name,
                log=self.folder / f"{name}.log",
            )
            with suppress(AssertionError):  # the port was taken meanwhile
                return _started(server)
        raise TimeoutError(f"{name} does not serve")

    def _environment(self, name: str) -> dict[str, str]:
        port = self.proxy.ports[name]
        store = {"DATABASE_URL": f"postgresql://postgres@127.0.0.1:{port}/postgres"}
        if self.through == "supabase":
            store = self._stack.env | {"SUPABASE_URL": f"http://127.0.0.1:{port}"}
        return store | {
            "UNSTUCK_POLICY": str(self.folder / "policy.yaml"),
            "CHAOS_JOURNAL": str(self.journal),
            "K_REVISION": name,
            "WORKER_URL": self.queue.url,
            "USERS": "none",
            "GCE_METADATA_HOST": "127.0.0.1:1",
        }

    def _stop_servers(self) -> None:
        for server in self.servers.values():
            with suppress(AssertionError):
                self._signal(session(server.pid), signal.SIGCONT)
            server.kill()

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def dsn(self) -> str:
        return self.postgres.dsn()

    def store(self) -> Store:
        """As one of the callers' own: it does not pass the proxy."""
        if self.through == "supabase":
            return SupabaseStore(self._stack.url, self._stack.key)
        return PostgresStore(self.dsn)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Waits while the database is away."""
        for _ in range(200):
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(
                    self.dsn, row_factory=dict_row, options=OURS, connect_timeout=5
                ) as connection,
            ):
                return connection.execute(query.encode(), values).fetchall()
            time.sleep(0.1)
        raise TimeoutError("the database is away for too long")

    def strike(self, strike: Strike) -> None:
        begin = time.time()
        tasks: tuple[str, ...] = ()
        if strike.fault in FAULTS:
            lasts = 0.0 if strike.fault == "cut" else strike.lasts
            self.proxy.order(list(strike.whom), strike.fault, lasts, strike.share)
            time.sleep(lasts)
        else:
            tasks = getattr(self, f"_{strike.fault}")(strike) or ()
        whom = strike.whom
        if strike.fault in {"kill_database", "read_only", "end_backends", "lock_rows"}:
            whom = EVERYBODY
        elif strike.fault not in FAULTS:
            whom = (self._victim(strike),)
        self.struck.append(Struck(strike.fault, whom, begin, time.time(), tasks))

    def _victim(self, strike: Strike) -> str:
        if "sweeper" in strike.fault:
            return "sweep"
        workers = [name for name in strike.whom if name != "sweep"] or list(WORKERS)
        return workers[int(strike.lasts * 1000) % len(workers)]

    def _server(self, strike: Strike) -> Server:
        return self.servers[self._victim(strike)]

    def _forkservers(self, server: Server) -> list[int]:
        return [pid for worker in server.workers() for pid in children(worker)]

    def _children(self, server: Server) -> list[int]:
        return [pid for forkserver in self._forkservers(server) for pid in children(forkserver)]

    @staticmethod
    def _signal(pids: list[int], number: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _kill_child(self, strike: Strike) -> None:
        self._signal(self._children(self._server(strike))[:1], signal.SIGKILL)

    def _kill_worker(self, strike: Strike) -> None:
        self._signal(self._server(strike).workers(), signal.SIGKILL)

    def _kill_forkserver(self, strike: Strike) -> None:
        self._signal(self._forkservers(self._server(strike)), signal.SIGKILL)

    _kill_sweeper = _kill_worker

    def _kill_instance(self, strike: Strike) -> None:
        with self._ending(strike) as server:
            server.kill()

    def _freeze_instance(self, strike: Strike) -> None:
        self._freeze(strike, family(self._server(strike).pid))

    _freeze_sweeper = _freeze_instance

    def _freeze_worker(self, strike: Strike) -> None:
        self._freeze(strike, self._server(strike).workers())

    def _freeze_child(self, strike: Strike) -> None:
        self._freeze(strike, self._children(self._server(strike))[:2])

    def _freeze(self, strike: Strike, pids: list[int]) -> None:
        self._signal(pids, signal.SIGSTOP)
        time.sleep(strike.lasts)
        self._signal(pids, signal.SIGCONT)

    def _terminate(self, strike: Strike) -> None:
        """As a deploy does: SIGTERM to the first process, SIGKILL after 10 s."""
        with self._ending(strike) as server:
            server.stop(10)

    def _terminate_all(self, strike: Strike) -> None:
        """SIGTERM to each process, as systemd does."""
        with self._ending(strike) as server:
            self._signal(session(server.pid), signal.SIGTERM)
            server.stop(10)

    @contextmanager
    def _ending(self, strike: Strike) -> Iterator[Server]:
        """One at a time for each server, which is then started again."""
        with self._dying[self._victim(strike)]:
            yield self._server(strike)
            _started(self._server(strike))

    def _kill_database(self, strike: Strike) -> None:
        with self._database:
            self.postgres.kill()
            time.sleep(strike.lasts / 2)
            self.postgres.restart()
            eventually(self._is_served, 60, "nobody reaches the restarted database")

    def _is_served(self) -> bool:
        """Whether the database answers on the way of the workers. A pooler that could not reach it
        waits before it tries again, PgBouncer for 15 s by default, PostgREST up to 32 s: for so
        long the database is away."""
        with closing(self._store_of_workers()) as store:
            try:
                store.metrics([], self.policy.own_part)
            except StoreError:
                return False
        return True

    def _store_of_workers(self) -> Store:
        if self.through == "pgbouncer":
            return PostgresStore(self._pooler.dsn)
        return self.store()

    def _read_only(self, strike: Strike) -> None:
        """As after a failover: sessions stay, and may only read."""
        with self._database:
            self._set_read_only("on")
            time.sleep(strike.lasts)
            self._set_read_only("off")

    def _set_read_only(self, word: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True, options=OURS) as connection:
            connection.execute(f"alter system set default_transaction_read_only = {word}".encode())
            connection.execute("select pg_reload_conf()")

    def _end_backends(self, strike: Strike) -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(self.dsn, options=OURS) as own:
            own.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name <> '' and backend_type = 'client backend' "
                "and pid <> pg_backend_pid() and random() < %s",
                (strike.share,),
            )

    def _lock_rows(self, strike: Strike) -> tuple[str, ...]:
        """Somebody holds the rows of some open tasks, and of their attempts."""
        with suppress(psycopg.OperationalError), psycopg.connect(self.dsn, options=OURS) as own:
            held = own.execute(
                "select id::text from tasks where status in ('pending', 'processing') "
                "order by random() limit 20 for update skip locked"
            ).fetchall()
            ids = [row[0] for row in held]
            own.execute(
                "select from unstuck.attempts where task_id = any (%s) and ended_at is null "
                "for update skip locked",
                (ids,),
            )
            time.sleep(strike.lasts)
            return tuple(ids)
        return ()

    def calm(self) -> None:
        """The storm is over: each process goes on, each way is open."""
        self.queue.is_calm = True
        self.proxy.clear()
        for server in self.servers.values():
            self._signal(session(server.pid), signal.SIGCONT)


def _started(server: Server) -> Server:
    """Raises AssertionError where only somebody else listens on its port."""
    server.start(60)
    eventually(server.workers, 30, f"{server.name} has no worker")
    return server
