"""dev: the whole of Unstuck on this machine: PostgreSQL, every entry point, workers, the tick, and
the page, on one port.

One process that starts two servers (serve.py) and keeps their sockets. When the code changes it
ends both as the platform does, with SIGTERM, so that tasks at work are released and lose no try,
and starts them again."""

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
from functions.ops.dev.serve import READY
from functions.ops.dev.sources import Sources
from functions.ops.local.processes import session
from functions.ops.local.servers import ROOT, Tick

if TYPE_CHECKING:
    from functions.ops.postgres.embedded import Postgres

DATA = ROOT / ".cache" / "dev"
HOST = "127.0.0.1"
STOP_LIMIT = 9.0
"""Seconds that a server may take to release its tasks."""
LEASE = {"beat": "1s", "for": "7s"}
"""Shorter than in the cloud, so that a rescue can be watched; longer than the first task of a
worker may wait for its preload (5 s), which is without a beat."""


class DevError(Exception):
    """dev could not begin; the text says the next step."""


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
        }
        database = None if options.dsn else opened.enter_context(_database(options))
        env |= _own(opened, options, database) if database else _theirs(options)
        servers = Servers(outer, inner, env, _front(options))
        opened.callback(servers.stop)
        servers.start()  # they load their code while PostgreSQL starts: half of the time
        if database:
            _begin(database, options, env, servers)
        if options.dsn is None or options.apply:
            _migrated(env, started)
        servers.wait(stopped)
        if options.dsn is None and options.samples:
            _first_tasks(env)
        if options.dsn is None or options.apply:
            opened.enter_context(Tick(f"{_url(outer)}/sweep", options.sweep_every))
        if options.dsn is None:
            _say(f"for other commands: export DATABASE_URL={env['DATABASE_URL']}")
        _say(f"ready in {time.monotonic() - started:.1f} s: {_url(outer)}/  (Ctrl-C ends)")
        _watch(servers, options, env, stopped)
        _say("ending: tasks at work are released")
    return 0


def _front(options: Options) -> list[str]:
    """What the front server is told, when the database is not our own."""
    if options.dsn is None or options.apply:
        return []
    from functions.ops.dev.look import installed

    if options.table is None and installed(options.dsn, load().watch().name):
        return ["--watch-only"]
    return ["--look", *(["--table", options.table] if options.table else [])]


@contextlib.contextmanager
def _database(options: Options) -> "Iterator[Postgres]":
    """An embedded PostgreSQL whose data is kept: its port is known, and it is not started yet."""
    from functions.ops.postgres.embedded import Postgres

    options.data.mkdir(parents=True, exist_ok=True)
    server = Postgres(options.data / "postgres")
    try:
        yield server
    finally:
        server.stop()


def _begin(database: "Postgres", options: Options, env: dict[str, str], servers: "Servers") -> None:
    """Starts it. If its port was taken in that moment, the servers begin again with its new one."""
    database.start()
    if env["DATABASE_URL"] != database.dsn():
        servers.stop()
        env["DATABASE_URL"] = database.dsn()
        servers.start()
    (options.data / "dsn").write_text(
        database.dsn(), encoding="utf-8"
    )  # for the commands, in another terminal


def _own(opened: contextlib.ExitStack, options: Options, database: "Postgres") -> dict[str, str]:
    """The environment with that database, and an image provider."""
    from functions.ops.local.provider import Provider

    policy = options.data / "policy.yaml"
    policy.write_text(policy_text(options.sweep_every), encoding="utf-8")
    env = {"DATABASE_URL": database.dsn(), "UNSTUCK_POLICY": str(policy)}
    if "IMAGE_PROVIDER_URL" not in os.environ:
        env["IMAGE_PROVIDER_URL"] = opened.enter_context(Provider(latency=2.0)).url
    return env


def _theirs(options: Options) -> dict[str, str]:
    """Sessions that cannot write, unless that was asked for."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    dsn = options.dsn or ""
    if options.apply:
        return {"DATABASE_URL": dsn}
    before = str(conninfo_to_dict(dsn).get("options") or "")
    return {
        "DATABASE_URL": make_conninfo(
            dsn, options=f"{before} -c default_transaction_read_only=on".strip()
        )
    }


def policy_text(every: float) -> str:
    """The policy that is in force, with shorter clocks. `every`: seconds between two sweeps."""
    every = min(
        every, load().sweep_every
    )  # which says what is wrong with it by its own line numbers
    found = yaml.safe_load(
        Path(os.environ.get("UNSTUCK_POLICY") or DEFAULT).read_text(encoding="utf-8")
    )
    found["lease"] = LEASE
    found["sweep"] |= {"every": every, "budget": every * 0.9}
    for watch in found["watches"].values():
        watch["rules"]["*"]["redispatch_after"] = "15s"
    text = yaml.safe_dump(found, sort_keys=False)
    parse(text)
    return text


def _migrated(env: dict[str, str], started: float) -> None:
    from functions.install.migrate import migrate

    steps = migrate(env["DATABASE_URL"], load(env.get("UNSTUCK_POLICY")))
    if steps:
        _say(f"migrated: {len(steps)} steps ({time.monotonic() - started:.1f} s)")


def _first_tasks(env: dict[str, str]) -> None:
    """A new database begins with some, to look at and to play with."""
    import psycopg

    watch = load(env["UNSTUCK_POLICY"]).watch()
    if not watch.own:
        return
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as connection:
        if connection.execute(f"select 1 from {watch.table} limit 1").fetchone():
            return
    import requests

    from functions.ops.dev.play import FIRST, sample

    for seed, name in enumerate(FIRST):
        kind, task_input = sample(name, seed)
        with contextlib.suppress(requests.RequestException):
            requests.post(env["CREATE_URL"], json={"kind": kind, "input": task_input}, timeout=10)


def _watch(
    servers: "Servers", options: Options, env: dict[str, str], stopped: threading.Event
) -> None:
    """Until the end: loads the code again when it changes, and says when a server has ended by
    itself."""
    sources = Sources()
    while not stopped.wait(0.5):
        changed = sources.changed() if options.reload else []
        if changed:
            _say(
                f"changed: {', '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}; loading again"
            )
            servers.stop()
            if options.dsn is None:
                _migrate_again(options, env)
            servers.start()
            servers.wait(stopped)
            _say("ready")
        elif servers.ended():
            _say("a server has ended; starting it again")
            servers.stop()
            stopped.wait(1.0)
            servers.start()


def _migrate_again(options: Options, env: dict[str, str]) -> None:
    """In a process of its own: this one has the old code."""
    text = "from functions.ops.dev import run; run.again(*__import__('sys').argv[1:])"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            text,
            env["UNSTUCK_POLICY"],
            str(options.sweep_every),
            env["DATABASE_URL"],
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        _say(
            f"not migrated: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it said nothing'}"
        )


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

    def wait(self, stopped: threading.Event, limit: float = 30.0) -> None:
        """Until all serve. A server that does not start has said why; a change of its code starts
        it again."""
        until = time.monotonic() + limit
        for _ in self._running:
            while not self._ready.acquire(timeout=0.05):
                if stopped.is_set() or self.ended() or time.monotonic() > until:
                    return

    def ended(self) -> bool:
        return any(one.poll() is not None for one in self._running)

    def stop(self) -> None:
        """SIGTERM, as the platform does; what is frozen is woken first, and what is left is killed."""
        for one in self._running:
            for pid in session(one.pid):
                _signal(pid, signal.SIGCONT)
            _signal(one.pid, signal.SIGTERM)
        until = time.monotonic() + STOP_LIMIT
        for one in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(max(0.1, until - time.monotonic()))
            for pid in session(one.pid):
                _signal(pid, signal.SIGKILL)
            one.wait()
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
            elif told := _told(line):
                print(told, flush=True)


def _told(line: str) -> str:
    """An event as a person reads it; what is no event as it is."""
    try:
        event = json.loads(line)
        if event.get("event") == "sweep_finished" and not any(
            event.get(name) for name in ("failed", "requeued", "error")
        ):
            return ""  # each few seconds
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
    before = {
        one: signal.signal(one, lambda *_: stopped.set()) for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _signal(pid: int, sig: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def _say(text: str) -> None:
    print(f"unstuck: {text}", file=sys.stderr, flush=True)
