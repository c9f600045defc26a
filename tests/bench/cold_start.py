"""d: CPU time from the start of a process to its first answer, of each function, against a bare
hello world."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from functions.install.migrate import migrate
from functions.ops.local.processes import children
from functions.ops.local.servers import ROOT, listens
from functions.ops.postgres.embedded import Postgres, free_port
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.server import make_database
from tests.supabase.stack import Supabase, bootstrap, found_postgrest

HELLO = Path(__file__).with_name("hello.py")
DEPLOYED = Path(__file__).with_name("deployed")
"""Says of packages that are only here for the tests that they are not there: httpx would load
them."""
TARGETS = ("task_status", "create_task", "sweep", "worker")
BUSY = "worker that runs a task"
"""One that `create_task` made: in a process of its own, whose CPU counts."""
REST = "task_status by the REST API"
ROUNDS = 9
TICKS = os.sysconf("SC_CLK_TCK")
ASKED = "00000000-0000-0000-0000-000000000000"
REQUESTS = {
    "hello": ("GET", "/", None),
    "task_status": ("GET", f"/?task_id={ASKED}", None),
    "create_task": (
        "POST",
        "/",
        b'{"kind": "image", "input": {"prompt": "a cat", "size": "256x256"}}',
    ),
    "sweep": ("POST", "/", b""),
    "worker": ("POST", "/", f'{{"task_id": "{ASKED}"}}'.encode()),
}


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {
        "USERS": "none",
        "DATABASE_URL": make_database(server, "cold_start"),
        "PYTHONPATH": os.pathsep.join([str(DEPLOYED), str(ROOT)]),
        "THREADS": "4",
    }
    env.pop("WORKER_URL", None)
    ways = {name: (lambda name=name: _cpu(name, env)) for name in ("hello", *TARGETS)}
    idle = env | {"DATABASE_URL": make_database(server, "cold_start_idle")}
    ways["worker"] = lambda: _cpu("worker", idle)
    ways[BUSY] = lambda: _cpu("worker", env)
    with ExitStack() as open_:
        if found_postgrest():
            stack = open_.enter_context(Supabase(_supabase(server)))
            ways[REST] = lambda: _cpu("task_status", env | stack.env)
        for way in ways.values():
            way()  # compiles what is not compiled yet
        seconds = in_turns(ways, max(1, int(ROUNDS * scale)))
    figures = [
        Figure(f"{name}: CPU to the first answer", middle(seconds[name], 1000), "ms")
        for name in ways
    ]
    return [
        *figures,
        *(
            Figure(f"{name}/hello world", ratio(seconds[name], seconds["hello"]), aim="<= 1.5")
            for name in TARGETS
        ),
        Figure(f"{BUSY}/hello world", ratio(seconds[BUSY], seconds["hello"])),
        *(
            [
                Figure(
                    f"{REST}/by psycopg", ratio(seconds[REST], seconds["task_status"]), aim="<= 1.5"
                )
            ]
            if REST in seconds
            else []
        ),
    ]


def _supabase(server: Postgres) -> str:
    dsn = make_database(server, "cold_start_rest", migrated=False)
    bootstrap(dsn)
    migrate(dsn, supabase="public")
    return dsn


def _cpu(name: str, env: dict[str, str]) -> float:
    """Seconds of CPU of all its processes, imports, the database connection and the request
    included."""
    port = free_port()
    source = HELLO if name == "hello" else ROOT / "main.py"
    command = [
        sys.executable,
        "-m",
        "functions_framework",
        "--target",
        name,
        "--source",
        str(source),
    ]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            until = time.monotonic() + 30
            while not listens(port):
                assert time.monotonic() < until, f"{name} does not serve"
                time.sleep(0.005)
            _ask(name, port)
            return _spent(process.pid)
        finally:
            os.killpg(process.pid, 9)


def _ask(name: str, port: int) -> None:
    method, path, body = REQUESTS[name]
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, method=method)
    try:
        status = urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status in {200, 201, 404}, (name, status)


def _spent(pid: int) -> float:
    """Of a process, of its children that have ended, and of those that live."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS + sum(
        _spent(child) for child in children(pid)
    )
