"""Unstuck as it is deployed: its entry points under functions-framework, a queue in place of Cloud
Tasks, a tick in place of Cloud Scheduler. On its own table, on a table that was there before, and
through Supabase's REST API.

    python -m tests.board.use_unstuck --dsn postgresql://... --fault freeze"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import requests
import yaml

from functions.core.answers import Created
from functions.core.policy import DEFAULT, Policy, parse
from functions.install.migrate import file, migrate
from functions.ops.local.queue import LocalQueue
from functions.ops.local.servers import Server, Tick
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.supabase import SupabaseStore
from tests.board.alone import main
from tests.board.orders import append
from tests.board.system import Connection, Place, Process, System, TaskState, environment, query
from tests.supabase.stack import HOW, Supabase, bootstrap, found_postgrest

LEASE_SECONDS = 3.0
PUSHES_AT_ONCE = 12
KIND = "board"
STATES = {"pending": "waiting", "processing": "running", "completed": "completed"}
RENDERS = """
create table public.renders (
  id bigint generated always as identity primary key,
  sort text not null default 'board',
  stage text not null default 'queued'
    check (stage in ('queued', 'rendering', 'done', 'broken', 'withdrawn')),
  payload jsonb not null,
  output jsonb,
  problem text,
  queued_at timestamptz not null default now(),
  started_at timestamptz,
  touched_at timestamptz not null default now(),
  ended_at timestamptz
);
"""
RENDERS_STATES = {"queued": "waiting", "rendering": "running", "done": "completed"}
RENDERS_WATCH = """
table: public.renders
key: id
key_type: bigint
status: stage
words: {pending: [queued], running: [rendering], completed: [done], failed: [broken],
  cancelled: [withdrawn]}
columns: {kind: sort, input: payload, result: output, error: problem}
clocks: {queued: [queued_at], started: [started_at], alive: [touched_at, queued_at],
  touched: touched_at, finished: ended_at}
fence: enforce
"""


class BalancedQueue(LocalQueue):
    """Gives a push to the living instance that has the fewest, as a load balancer does."""

    def __init__(self) -> None:
        super().__init__(["any"] * PUSHES_AT_ONCE)
        self.instances: dict[str, Server] = {}
        self._pushes: dict[str, int] = {}
        self._lock = threading.Lock()

    def _deliver(self, worker: str, push: dict[str, Any]) -> int | None:
        with self._lock:
            living = [name for name, server in self.instances.items() if _lives(server)]
            if not living:
                return None
            name = min(living, key=lambda name: self._pushes.get(name, 0))
            self._pushes[name] = self._pushes.get(name, 0) + 1
        try:
            return super()._deliver(self.instances[name].url, push)
        finally:
            with self._lock:
                self._pushes[name] -= 1


def _lives(server: Server) -> bool:
    return bool(psutil.pid_exists(server.pid))


class _Running:
    """What one place has beside its workers."""

    def __init__(self, store: Store, variables: Mapping[str, str]) -> None:
        self.store, self.variables = store, variables
        self.queue = BalancedQueue()
        self.queue.__enter__()
        self.ticks: dict[str, Tick] = {}
        self.stack: Supabase | None = None

    def close(self) -> None:
        self.queue.__exit__(None, None, None)
        self.store.close()
        if self.stack:
            self.stack.stop()


class Unstuck(System):
    name = "unstuck"
    title = "Unstuck, its own table"
    timeout_seconds = LEASE_SECONDS
    settings: tuple[str, ...] = (
        (
            "`lease: {beat: 0.5s, for: 3s}` (default 10 and 30), `sweep: {every: 1s}` (60), "
            "`attempts: 3`, `pending_for: 8s`, `redispatch_after: 2s`"
        ),
        (
            "workers under functions-framework, to which a queue pushes; the handler is a plain "
            "function in a child process"
        ),
    )
    push = "Cloud Tasks (a local queue here)"
    sweepers = ("sweep",)
    second_sweepers = ("sweep_too",)
    watch_name = "tasks"

    def __init__(self) -> None:
        self._running: dict[Path, _Running] = {}

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return "this commit"

    def policy(self) -> Policy:
        return parse(self.policy_text())

    def policy_text(self) -> str:
        policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
        del policy["alerts"]  # their numbers fit long clocks
        policy["platform"] = {"timeout": "120s", "margin": "2s"}
        policy["lease"] = {"beat": "0.5s", "for": f"{LEASE_SECONDS}s"}
        policy["sweep"] |= {"every": "1s", "budget": "0.9s"}
        rule = policy["watches"]["tasks"]["rules"]["*"] | {
            "handler": "tests.board.unstuck_handler:board",
            "pending_for": "8s",
            "redispatch_after": "2s",
            "run_for": "100s",
            "silent_for": "200s",
            "attempts": self.tries,
            "backoff": {"first": "0.2s", "factor": 2, "max": "1s"},
        }
        watch = self.watch_map(policy["watches"]["tasks"]) | {"rules": {"*": rule, KIND: {}}}
        policy["watches"] = {self.watch_name: watch}
        return str(yaml.safe_dump(policy, sort_keys=False))

    def watch_map(self, own: dict[str, Any]) -> dict[str, Any]:
        return own

    def install(self, place: Place) -> None:
        (place.folder / "policy.yaml").write_text(self.policy_text(), encoding="utf-8")
        self.make_tables(place)
        self._running[place.folder] = self.open_store(place)

    def make_tables(self, place: Place) -> None:
        migrate(place.dsn, self.policy())

    def open_store(self, place: Place) -> _Running:
        return _Running(PostgresStore(place.dsn), {"DATABASE_URL": place.dsn})

    def close(self, place: Place) -> None:
        if place.folder in self._running:
            self._running.pop(place.folder).close()

    def start(self, place: Place, worker: str) -> Process:
        running, is_sweep = self._running[place.folder], worker in SWEEPERS
        variables = environment(place, worker) | {
            **running.variables,
            "PYTHONPATH": str(ROOT),
            "UNSTUCK_POLICY": str(place.folder / "policy.yaml"),
            "WORKER_URL": running.queue.url,
            "USERS": "none",
            "GCE_METADATA_HOST": "127.0.0.1:1",
        }
        log = place.folder / f"{worker}.log"
        server = Server("sweep" if is_sweep else "worker", variables, name=worker, log=log)
        server.start(60)
        if is_sweep:
            running.ticks[worker] = Tick(server.url, 1.0).__enter__()
        else:
            self._warm(place, server)
            running.queue.instances[worker] = server
        append(place.folder, worker, "ready")

        def reap() -> None:
            running.queue.instances.pop(worker, None)
            server.kill()
            if is_sweep:
                running.ticks.pop(worker).__exit__(None, None, None)

        return Process(server.pid, reap)

    def _warm(self, place: Place, server: Server) -> None:
        """The first task of an instance waits for imports; the board asks for rescues."""
        order = {"task": f"warm{server.port}", "does": "quick"}
        push = {"watch": self.watch_name, "task_id": self.make_task(place, order), "number": 1}
        requests.post(server.url, json=push, timeout=60)

    def enqueue(self, place: Place, order: dict[str, Any], *, loses_push: bool = False) -> None:
        running = self._running[place.folder]
        task_id = self.make_task(place, order)
        if not loses_push:
            push = {"watch": self.watch_name, "task_id": task_id, "number": 1}
            requests.post(running.queue.url, json=push, timeout=10)

    def make_task(self, place: Place, order: dict[str, Any]) -> str:
        store, watch = self._running[place.folder].store, self.policy().watch()
        created = store.create(watch, KIND, order)
        assert isinstance(created, Created)
        return created.task_id

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select status, error_message from public.tasks where input ->> 'task' = %(task)s",
            task=task,
        )
        return TaskState(STATES.get(row[0], "failed"), row[1] or "") if row else TaskState("absent")

    def locks(self) -> tuple[str, ...]:
        return (
            "select 1 from public.tasks where input ->> 'task' = %(task)s for update",
            (
                "select 1 from unstuck.attempts where task_id in "
                "(select id::text from public.tasks where input ->> 'task' = %(task)s) "
                "and ended_at is null for update"
            ),
        )

    def poll(self, place: Place, task: str) -> None:
        """The status entry point: a poll of an overdue task rescues it."""
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            task_id = self.task_id(connection, task)
        self._running[place.folder].store.status(
            self.policy().watch(self.watch_name), task_id, pushes=True
        )

    def task_id(self, connection: Connection, task: str) -> str:
        row = query(
            connection, "select id::text from public.tasks where input ->> 'task' = %(t)s", t=task
        )
        return str(row[0]) if row else ""


class UnstuckAdopted(Unstuck):
    name = "unstuck_adopted"
    title = "Unstuck, an adopted table"
    settings = (
        *Unstuck.settings,
        "a table with words and columns of its own, `fence: enforce`; the application inserts rows",
    )
    watch_name = "renders"

    def watch_map(self, own: dict[str, Any]) -> dict[str, Any]:
        return dict(yaml.safe_load(RENDERS_WATCH))

    def make_tables(self, place: Place) -> None:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(RENDERS)
        super().make_tables(place)

    def make_task(self, place: Place, order: dict[str, Any]) -> str:
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            row = query(
                connection,
                "insert into public.renders (payload) values (%(order)s) returning id",
                order=json.dumps(order),
            )
        return str(row[0]) if row else ""

    def state(self, connection: Connection, task: str) -> TaskState:
        row = query(
            connection,
            "select stage, problem from public.renders where payload ->> 'task' = %(task)s",
            task=task,
        )
        if not row:
            return TaskState("absent")
        return TaskState(RENDERS_STATES.get(row[0], "failed"), row[1] or "")

    def locks(self) -> tuple[str, ...]:
        return (
            "select 1 from public.renders where payload ->> 'task' = %(task)s for update",
            (
                "select 1 from unstuck.attempts where task_id in "
                "(select id::text from public.renders where payload ->> 'task' = %(task)s) "
                "and ended_at is null for update"
            ),
        )

    def task_id(self, connection: Connection, task: str) -> str:
        row = query(
            connection,
            "select id::text from public.renders where payload ->> 'task' = %(t)s",
            t=task,
        )
        return str(row[0]) if row else ""


class UnstuckRest(Unstuck):
    name = "unstuck_rest"
    title = "Unstuck, through Supabase's REST API"
    settings = (*Unstuck.settings, "the real PostgREST; no process has a database password")

    def missing(self) -> str:
        return "" if found_postgrest() else f"there is no PostgREST here: {HOW}"

    def make_tables(self, place: Place) -> None:
        bootstrap(place.dsn)
        with psycopg.connect(place.dsn, autocommit=True) as connection:
            connection.execute(file(self.policy(), "public").encode())

    def open_store(self, place: Place) -> _Running:
        stack = Supabase(place.dsn).start()
        running = _Running(SupabaseStore(stack.url, stack.key), stack.env)
        running.stack = stack
        return running


SWEEPERS = {*Unstuck.sweepers, *Unstuck.second_sweepers}
ROOT = Path(__file__).parents[2]


if __name__ == "__main__":
    main(Unstuck())
