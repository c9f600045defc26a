"""dev: all of Unstuck on this machine: PostgreSQL, every entry point, workers, a sweep every few
seconds, and the page, on one port.

One process starts two servers (serve.py) and keeps their sockets. When the code changes it ends
both as the platform does, with SIGTERM, so that running tasks are released and lose no try, and
starts them again."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from functions.core.policy import DEFAULT, load, parse
from functions.core.visible import visible
from functions.errors import PolicyError
from functions.ops.dev import POLICY_FILE
from functions.ops.dev.serve import READY
from functions.ops.dev.sources import Sources, folders_of_handlers
from functions.ops.local.processes import session
from functions.ops.local.servers import ROOT, Tick, users_unchecked

if TYPE_CHECKING:
    from functions.ops.postgres.embedded import Postgres

HOST = "127.0.0.1"
STOP_SECONDS = 9.0
"""How long a server may take to release its tasks."""
LEASE = {"beat": "1s", "for": "7s"}
"""Shorter than in the cloud, so that a rescue can be watched. Longer than the 5 seconds that the
first task of a worker may wait, without a heartbeat, until the handlers are loaded."""


class DevError(Exception):
    """dev could not start; the text says the next step."""


@dataclass
class Options:
    port: int
    data: Path
    sweep_every: float
    dsn: str | None = None
    table: str | None = None
    apply: bool = False
    reload: bool = True
    samples: bool = True


def run(options: Options) -> int:
    """Serves until SIGINT or SIGTERM. Raises DevError, and what the database raises."""
    started = time.monotonic()
    with _signals() as stopped, contextlib.ExitStack() as opened:
        outer = opened.enter_context(_listening(options.port))
        inner = opened.enter_context(_listening(0))
        env = {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "WORKER_URL": f"{_url(inner)}/worker",
            **users_unchecked(os.environ),
        }
        database = None if options.dsn else opened.enter_context(_database(options))
        env |= _own_database(opened, options, database) if database else _users_database(options)
        servers = Servers(outer, inner, env, _front(options))
        opened.callback(servers.stop)
        servers.start()  # they load their code while PostgreSQL starts: half of the time
        if database:
            _start_database(database, options, env, servers)
        if options.dsn is None or options.apply:
            _migrate(env, started)
        servers.wait(stopped)
        servers.push_what_waits()
        if options.dsn is None and options.samples:
            _create_samples(env)
        if options.dsn is None or options.apply:
            opened.enter_context(Tick(f"{_url(outer)}/sweep", options.sweep_every))
        if database:
            _say(f"for other commands: export DATABASE_URL='{database.shared_dsn()}'")
        _say(f"ready in {time.monotonic() - started:.1f} s: {_url(outer)}/  (Ctrl-C ends)")
        _serve_until(stopped, servers, options, env)
        _say("ending: running tasks are released")
    return 0


def _front(options: Options) -> list[str]:
    """The arguments of the front server, where the database is the user's."""
    if options.dsn is None or options.apply:
        return []
    from functions.ops.dev.look import installed

    if options.table is None and installed(options.dsn, load().watch().name):
        return ["--watch-only"]
    return ["--look", *(["--table", options.table] if options.table else [])]


@contextlib.contextmanager
def _database(options: Options) -> "Iterator[Postgres]":
    """An embedded PostgreSQL whose data is kept. It has its port, but is not started yet."""
    from functions.ops.postgres.embedded import Postgres

    options.data.mkdir(parents=True, exist_ok=True)
    server = Postgres(options.data / "postgres")
    try:
        yield server
    finally:
        server.stop()


def _start_database(
    database: "Postgres", options: Options, env: dict[str, str], servers: "Servers"
) -> None:
    """Starts it. If its port was taken meanwhile, the servers start again with its new one."""
    database.start()
    if env["DATABASE_URL"] != database.dsn():
        servers.stop()
        env["DATABASE_URL"] = database.dsn()
        servers.start()
    # for the commands, in another terminal
    (options.data / "dsn").write_text(database.shared_dsn(), encoding="utf-8")


def _own_database(
    opened: contextlib.ExitStack, options: Options, database: "Postgres"
) -> dict[str, str]:
    """The environment of the servers, with that database and an image provider."""
    from functions.ops.local.provider import Provider

    policy = options.data / POLICY_FILE
    policy.write_text(policy_text(options.sweep_every), encoding="utf-8")
    env = {"DATABASE_URL": database.dsn(), "UNSTUCK_POLICY": str(policy)}
    if "IMAGE_PROVIDER_URL" not in os.environ:
        env["IMAGE_PROVIDER_URL"] = opened.enter_context(Provider(latency=2.0)).url
    return env


def _users_database(options: Options) -> dict[str, str]:
    """The environment of the servers, whose sessions cannot write unless --apply is there."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    dsn = options.dsn or ""
    if options.apply:
        return {"DATABASE_URL": dsn}
    settings = f"{conninfo_to_dict(dsn).get('options') or ''} -c default_transaction_read_only=on"
    return {"DATABASE_URL": make_conninfo(dsn, options=settings.strip())}


def policy_text(every: float) -> str:
    """The policy that is in force, with shorter clocks. `every`: seconds between two sweeps."""
    # load() first: its errors name the lines of the user's file
    every = min(every, load().sweep_every)
    path = Path(os.environ.get("UNSTUCK_POLICY") or DEFAULT)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["lease"] = LEASE
    document["sweep"] |= {"every": every, "budget": every * 0.9}
    for watch in document["watches"].values():
        watch["rules"]["*"]["redispatch_after"] = "15s"
    text = yaml.safe_dump(document, sort_keys=False)
    parse(text)
    return text


def _migrate(env: dict[str, str], started: float) -> None:
    from functions.install.migrate import migrate

    steps = migrate(env["DATABASE_URL"], load(env.get("UNSTUCK_POLICY")))
    if steps:
        _say(f"migrated: {len(steps)} steps ({time.monotonic() - started:.1f} s)")


def _create_samples(env: dict[str, str]) -> None:
    """Tasks to look at and to play with, in a database that has none."""
    from functions.store.dsn import connect

    watch = load(env["UNSTUCK_POLICY"]).watch()
    if not watch.own:
        return
    with connect(env["DATABASE_URL"], autocommit=True) as connection:
        if connection.execute(f"select 1 from {watch.table} limit 1").fetchone():
            return
    import requests

    from functions.ops.dev.play import FIRST_SAMPLES, sample

    for seed, name in enumerate(FIRST_SAMPLES):
        kind, task_input = sample(name, seed)
        with contextlib.suppress(requests.RequestException):
            requests.post(env["CREATE_URL"], json={"kind": kind, "input": task_input}, timeout=10)


def _serve_until(
    stopped: threading.Event, servers: "Servers", options: Options, env: dict[str, str]
) -> None:
    """Starts the servers again when the code changes, and when one of them has ended by itself."""
    sources = _sources(env)
    while not stopped.wait(0.5):
        changed = sources.changed() if options.reload else []
        if changed:
            more = " ..." if len(changed) > 3 else ""
            _say(f"changed: {', '.join(changed[:3])}{more}; loading again")
            servers.stop()
            if options.dsn is None and any(map(_concerns_sql, changed)):
                _migrate_again(options, env)
            sources = _sources(env)
            servers.start_again(stopped)
            _say("ready")
        elif servers.ended():
            _say("a server has ended; starting it again")
            servers.stop()
            stopped.wait(1.0)
            servers.start_again(stopped)


def _sources(env: dict[str, str]) -> Sources:
    """With the packages of the user's own that the policy names, if it can be read now."""
    try:
        return Sources(folders=folders_of_handlers(load(env.get("UNSTUCK_POLICY"))))
    except PolicyError:  # the servers say why
        return Sources()


def _concerns_sql(name: str) -> bool:
    """A handler does not, which is what people mostly change."""
    return not name.startswith(("functions/handlers/", "..")) and name != "main.py"


def _migrate_again(options: Options, env: dict[str, str]) -> None:
    """In a process of its own: this one has the old code."""
    code = "from functions.ops.dev import run; run.again(*__import__('sys').argv[1:])"
    arguments = (env["UNSTUCK_POLICY"], str(options.sweep_every), env["DATABASE_URL"])
    migration = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    if migration.returncode:
        lines = migration.stderr.strip().splitlines() or ["it printed nothing"]
        _say(f"not migrated: {lines[-1]}")


def again(policy: str, every: str, dsn: str) -> None:
    """Writes the policy for `dev` anew and migrates by it."""
    from functions.install.migrate import migrate

    Path(policy).write_text(policy_text(float(every)), encoding="utf-8")
    migrate(dsn, load(policy))


@dataclass
class Servers:
    """The two servers: `front` on the outer socket, `workers` on the inner one."""

    outer: socket.socket
    inner: socket.socket
    env: dict[str, str]
    front: list[str]
    _running: list[subprocess.Popen[str]] = field(default_factory=list)
    _ready: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def start(self) -> None:
        self._ready = threading.Semaphore(0)
        self.env["CREATE_URL"] = f"{_url(self.outer)}/create_task"
        if self.front:
            self._running = [self._start("front", self.outer, *self.front)]
            return
        workers = self._start("workers", self.inner)
        front = self._start(
            "front", self.outer, "--workers", _url(self.inner), "--workers-pid", str(workers.pid)
        )
        self._running = [front, workers]

    def start_again(self, stopped: threading.Event) -> None:
        self.start()
        self.wait(stopped)
        self.push_what_waits()

    def wait(self, stopped: threading.Event, limit: float = 30.0) -> None:
        """Until all serve. A server that does not start has printed why; a change of its code
        starts it again."""
        until = time.monotonic() + limit
        for _ in self._running:
            while not self._ready.acquire(timeout=0.05):
                if stopped.is_set() or self.ended() or time.monotonic() > until:
                    return

    def push_what_waits(self) -> None:
        """What the servers before had not delivered went with them."""
        if self.front:
            return
        import requests

        address = _url(self.outer)
        with contextlib.suppress(requests.RequestException):  # then the sweep does it, later
            requests.post(f"{address}/play/push", headers={"Origin": address}, timeout=10)

    def ended(self) -> bool:
        return any(server.poll() is not None for server in self._running)

    def stop(self) -> None:
        """SIGTERM, as the platform does. What is frozen is woken first; what is left is killed."""
        for server in self._running:
            for pid in session(server.pid):
                _signal(pid, signal.SIGCONT)
            _signal(server.pid, signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        for server in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(max(0.1, until - time.monotonic()))
            for pid in session(server.pid):
                _signal(pid, signal.SIGKILL)
            server.wait()
        self._running = []

    def _start(self, part: str, listener: socket.socket, *more: str) -> subprocess.Popen[str]:
        os.set_inheritable(listener.fileno(), True)
        command = [
            sys.executable,
            "-m",
            "functions.ops.dev.serve",
            part,
            "--fd",
            str(listener.fileno()),
            *more,
        ]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | self.env,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
        )
        threading.Thread(target=self._pump, args=(process, self._ready), daemon=True).start()
        return process

    @staticmethod
    def _pump(process: subprocess.Popen[str], ready: threading.Semaphore) -> None:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == READY:
                ready.release()
            elif text := _readable(line):
                print(visible(text), flush=True)


def _readable(line: str) -> str:
    """A log event as a person reads it; a line that is no event, as it is. Empty for a sweep that
    had nothing to do, since one ends every few seconds."""
    try:
        event = json.loads(line)
        has_moved = any(event.get(name) for name in ("failed", "requeued", "error"))
        if event.get("event") == "sweep_finished" and not has_moved:
            return ""
        return f"{time.strftime('%H:%M:%S')}  {event['severity'].lower():<8} {event['message']}"
    except (ValueError, KeyError, AttributeError):
        return line.rstrip()


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Raises DevError when the port is taken."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise DevError(
                f"Port {port} cannot be used: {error.strerror}. "
                "Another dev may be running: end it, or choose another with --port."
            ) from None
        listener.listen(2048)
        yield listener


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _say(text: str) -> None:
    print(f"unstuck: {visible(text)}", file=sys.stderr, flush=True)
