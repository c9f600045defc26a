"""The world of a fault test: a database, entry points as real functions-framework processes, and
what they left behind.

Times are read from the database's clock, as the ledger's are: a latency is the difference of two of
its timestamps."""

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import requests
import yaml
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT, Policy, parse
from functions.ops.local.servers import Server
from functions.ops.postgres.embedded import free_port
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.supabase import SupabaseStore
from tests.waiting import eventually

HANDLERS = "tests.faults.handlers"
BEAT, LEASE, SWEEP = 0.3, 2.0, 1.0
RUN_FOR = 1.0
"""The deadline of the kinds that are to miss it."""
MEMORY = 100_000_000
ATTEMPTS = 3
MASS = 5

PLAIN = (
    "ok",
    "ok_async",
    "sleeps",
    "waits",
    "hogs_once",
    "floods",
    "kills_worker",
    "kills_itself",
    "steps",
    "shows_nul",
    "saves_nul",
    "says_much",
)
ONLY_ONCE = ("waits", "hogs_once", "saves_late")
LATE = (
    "sleeps",
    "sleeps_async",
    "spins",
    "reads",
    "hogs_gil",
    "swallows_exceptions",
    "swallows_all",
    "floods",
    "starts_a_program",
)
LAST = (
    "exits",
    "sys_exits",
    "segfaults",
    "kills_itself",
    "says_nul",
    "returns_nul",
    "breaks_thread",
)


def rules() -> dict[str, dict[str, Any]]:
    """Kinds named as their handler; `late_`: with a short deadline; `once_`: lost means failed;
    `mail_`: must not be repeated; `thread_`: in a thread."""
    once = {"on_lost": "fail", "on_error": "fail"}
    short = {"run_for": f"{RUN_FOR}s"}
    found: dict[str, dict[str, Any]] = {name: {"handler": name} for name in PLAIN}
    found |= {f"late_{name}": {"handler": name, **once, **short} for name in LATE}
    found |= {f"once_{name}": {"handler": name, **once} for name in LAST}
    mail = {"on_lost": "uncertain", "on_error": "fail"}
    found |= {f"mail_{name}": {"handler": name, **mail} for name in ONLY_ONCE}
    found |= {
        f"greedy_{name}": {"handler": name, **once, "memory": MEMORY} for name in ("grows", "jumps")
    }
    thread = {"isolation": "thread"}
    found |= {f"thread_{name}": {"handler": name, **thread} for name in ("ok", "ok_async", "waits")}
    found |= {
        f"late_thread_{name}": {"handler": name, **once, **short, **thread}
        for name in ("sleeps", "spins")
    }
    found |= {
        f"once_thread_{name}": {"handler": name, **once, **thread}
        for name in ("breaks_thread", "sys_exits")
    }
    for rule in found.values():
        rule["handler"] = f"{HANDLERS}:{rule['handler']}"
    return found


def loading(policy: dict[str, Any]) -> None:
    """Two kinds whose module is loaded when the test opens its gate."""
    plain = {"handler": "tests.faults.import_waits"}
    policy["watches"]["tasks"]["rules"] |= {
        "loading_plain": plain,
        "loading_mail": {**plain, "on_lost": "uncertain", "on_error": "fail"},
    }


def policy_text(change: Callable[[dict[str, Any]], object] = lambda _: None) -> str:
    """The bundle's policy with short clocks and the kinds of these tests; `change` may alter it."""
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    del policy["alerts"]  # their numbers fit long clocks
    policy["platform"] = {"timeout": "20s", "margin": "2s"}
    policy["lease"] = {"beat": f"{BEAT}s", "for": f"{LEASE}s"}
    policy["sweep"] |= {
        "every": f"{SWEEP}s",
        "budget": f"{SWEEP * 0.9}s",
        "mass_expiry": {"at_least": MASS, "share": 0.5},
    }
    default = policy["watches"]["tasks"]["rules"]["*"] | {
        "dispatch": "named",  # a test says which task a worker gets
        "pending_for": "60s",
        "redispatch_after": "2s",
        "run_for": "15s",
        "silent_for": "60s",
        "attempts": ATTEMPTS,
        "backoff": {"first": "0.1s", "factor": 1, "max": "0.1s"},
    }
    policy["watches"]["tasks"]["rules"] = {"*": default, **rules()}
    change(policy)
    text = yaml.safe_dump(policy, sort_keys=False)
    parse(text)  # a policy that is refused must not look like a fault
    return text


class World:
    """`servers` start when they are asked for. Pushes go to the worker `worker`, which need not be
    there. `env` may choose another store for them: the test itself looks into the database at
    `dsn`."""

    def __init__(
        self,
        dsn: str,
        folder: Path,
        change: Callable[[dict[str, Any]], object] = lambda _: None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.dsn, self.folder, self._env = dsn, folder, env or {}
        text = policy_text(change)
        self.policy: Policy = parse(text)
        (folder / "policy.yaml").write_text(text, encoding="utf-8")
        self._ports = {"worker": free_port()}
        self._servers: dict[str, Server] = {}
        self._posts = ThreadPoolExecutor(64)
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def close(self) -> None:
        for server in self._servers.values():
            server.kill()
        self._posts.shutdown()
        if self._connection:
            self._connection.close()

    def server(self, name: str, target: str, **env: str) -> Server:
        """The server `name`, started when it is first asked for."""
        if name not in self._servers:
            settings = {
                "DATABASE_URL": self.dsn,
                "UNSTUCK_POLICY": str(self.folder / "policy.yaml"),
                "WORKER_URL": f"http://127.0.0.1:{self._ports['worker']}",
            }
            port = self._ports.get(name, 0)
            self._servers[name] = Server(
                target, settings | self._env | env, port=port, log=self.folder / f"{name}.log"
            )
            eventually(
                self._servers[name].start().workers,
                message="the master, which listens, has no worker",
            )
        return self._servers[name]

    def worker(self, name: str = "worker", **env: str) -> Server:
        return self.server(name, "worker", **env)

    def store(self) -> Store:
        """Such as the servers use."""
        if url := self._env.get("SUPABASE_URL"):
            return SupabaseStore(url, self._env["SUPABASE_KEY"])
        return PostgresStore(self.dsn)

    def sweeper(self) -> Server:
        return self.server("sweep", "sweep")

    def create(self, kind: str, **task_input: Any) -> str:
        """A pending task of that kind. Its gate is closed."""
        task_id = str(uuid.uuid4())
        task_input = {
            "trail": str(self.folder / task_id),
            "gate": str(self.gate(task_id)),
            **task_input,
        }
        self.one(
            "select unstuck.tasks_create(p_kind => %s, p_input => %s, p_id => %s)",
            kind,
            json.dumps(task_input),
            task_id,
        )
        return task_id

    def gate(self, task_id: str) -> Path:
        return self.folder / f"{task_id}.gate"

    def push(self, task_id: str, server: Server | None = None) -> "Future[requests.Response]":
        """As the queue does: it waits for the answer, and so does the test where it wants."""
        url = (server or self.worker()).url
        return self._posts.submit(requests.post, url, json={"task_id": task_id}, timeout=60)

    def run(self, kind: str, **task_input: Any) -> tuple[str, requests.Response]:
        """A task and the worker's answer to its push."""
        task_id = self.create(kind, **task_input)
        return task_id, self.push(task_id).result(60)

    def begin(self, kind: str, server: Server | None = None, **task_input: Any) -> str:
        """A task whose handler is at work now."""
        return self.begin_all([kind], server, **task_input)[0]

    def begin_all(
        self, kinds: list[str], server: Server | None = None, **task_input: Any
    ) -> list[str]:
        tasks = [self.create(kind, **task_input) for kind in kinds]
        for task_id in tasks:
            self.push(task_id, server)
        for task_id in tasks:
            eventually(
                lambda task_id=task_id: self.trail(task_id), message="the handler did not begin"
            )
        return tasks

    def sweep(self, key: str | None = None) -> dict[str, Any]:
        """One run of the sweep by HTTP; its counts."""
        answer = requests.post(
            self.sweeper().url,
            headers={"X-CloudScheduler-ScheduleTime": key or uuid.uuid4().hex},
            timeout=60,
        )
        found: dict[str, Any] = answer.json()
        return found

    def swept(self) -> dict[str, Any]:
        """The counts of one run; where another run is at it, of the next."""
        return eventually(
            lambda: (found := self.sweep())["verdict"] != "running" and found,
            message="no sweep ran",
        )

    def trail(self, task_id: str) -> list[tuple[int, int, str]]:
        """(attempt, pid, word) of each line that the handler left."""
        file = self.folder / task_id
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [(int(line.split()[0]), int(line.split()[1]), line.split()[2]) for line in lines]

    def handler(self, task_id: str) -> int:
        """The pid of the handler's first process."""
        return self.trail(task_id)[0][1]

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self._execute(query, values).fetchall()

    def do(self, statement: str, *values: Any) -> None:
        self._execute(statement, values)

    def _execute(self, query: str, values: tuple[Any, ...]) -> "psycopg.Cursor[dict[str, Any]]":
        """By one connection, as tests ask again and again; by a new one when the database has died
        since."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row)
        try:
            return self._connection.execute(query, values)  # type: ignore[arg-type]
        except psycopg.OperationalError:
            if not self._connection.closed:
                raise
            return self._execute(query, values)

    def one(self, query: str, *values: Any) -> Any:
        return next(iter(self.rows(query, *values)[0].values()))

    def now(self) -> Any:
        return self.one("select clock_timestamp()")

    def task(self, task_id: str) -> dict[str, Any]:
        return self.rows("select * from tasks where id = %s", task_id)[0]

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        return self.rows(
            "select * from unstuck.attempts where task_id = %s order by number", task_id
        )

    def history(self, task_id: str) -> list[tuple[str | None, str | None]]:
        """(outcome, reason) of each attempt."""
        return [(one["outcome"], one["reason"]) for one in self.attempts(task_id)]

    def refusals(self, task_id: str) -> list[dict[str, Any]]:
        return self.rows("select * from unstuck.refusals where task_id = %s", task_id)

    def ends(self, task_id: str, status: str = "completed", within: float = 20.0) -> dict[str, Any]:
        """The task, once it has that status."""
        eventually(
            lambda: self.task(task_id)["status"] == status, within, f"the task is not {status}"
        )
        return self.task(task_id)

    def events(self, name: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """The events of that name in all logs."""
        lines = (
            line
            for file in self.folder.glob("*.log")
            for line in file.read_text(errors="replace").splitlines()
        )
        found = (
            json.loads(line)
            for line in lines
            if f'"event": "{name}"' in line and line.endswith("}")
        )
        return [one for one in found if task_id in (None, one.get("task_id"))]


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """SIGSTOP while the block runs, then SIGCONT."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # one that woke before may have ended it
                os.kill(pid, signal.SIGCONT)


def lives(pid: int) -> bool:
    """A zombie has ended: pid 1 may be slow to reap it."""
    return state(pid) not in {"", "Z", "X"}


def state(pid: int) -> str:
    """R, S, D, T, Z; "" when there is no such process."""
    return (_stat(pid) or [""])[0]


def family(server: Server) -> list[int]:
    """All processes of the server: master, workers, forkservers, handlers. It leads a session of
    its own."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted(
        pid
        for pid in pids
        if (stat := _stat(pid)) and stat[0] not in "ZX" and int(stat[3]) == server.pid
    )


def _stat(pid: int) -> list[str]:
    """State, parent, group, session, ... of a process."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return []
