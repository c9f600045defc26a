"""The local server: each entry point as a real functions-framework process under gunicorn, and a
tick in place of Cloud Scheduler. What runs here is what is deployed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from functions.core.settings import USER_TOKEN_VARIABLES
from functions.ops.local.processes import children
from functions.ops.postgres.embedded import free_port

ROOT = Path(__file__).parents[3]


def users_unchecked(environment: Mapping[str, str]) -> dict[str, str]:
    """The word that lets callers of this machine in without a token, unless the environment says
    how tokens are checked."""
    checked = ("USERS", "SUPABASE_URL", *USER_TOKEN_VARIABLES)
    return {} if any(name in environment for name in checked) else {"USERS": "none"}


class Server:
    """One entry point of main.py, served as it is in the cloud. `env` is added to the
    environment."""

    def __init__(
        self,
        target: str,
        env: Mapping[str, str],
        *,
        port: int = 0,
        signature: str = "http",
        name: str = "",
        log: Path | None = None,
    ) -> None:
        self.target, self.name, self.port = target, name or target, port or free_port()
        self._signature, self._log = signature, log
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        self.env = users_unchecked(self.env) | self.env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the gunicorn master."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, limit: float = 20.0) -> Self:
        """Raises RuntimeError with the end of its log when it does not listen within `limit`
        seconds."""
        command = [
            sys.executable,
            "-m",
            "functions_framework",
            "--target",
            self.target,
            "--signature-type",
            self._signature,
        ]
        out = self._log.open("ab") if self._log else None
        self._process = subprocess.Popen(
            [
                *command,
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--source",
                str(ROOT / "main.py"),
            ],
            env=self.env,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        if out:
            out.close()
        deadline = time.monotonic() + limit
        while not listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = self._log.read_text(errors="replace")[-2000:] if self._log else ""
                self.stop()
                raise RuntimeError(f"{self.target} does not serve: {text}")
            time.sleep(0.02)
        return self

    def workers(self) -> list[int]:
        """The gunicorn worker processes: what the platform kills when it kills."""
        return children(self.pid)

    def kill_worker(self, sig: int = signal.SIGKILL) -> list[int]:
        """Signals the gunicorn workers; the master starts new ones. Returns their pids."""
        pids = self.workers()
        for pid in pids:
            os.kill(pid, sig)
        return pids

    def kill(self) -> None:
        """SIGKILL to all of it, as when an instance goes."""
        if self._process:
            _signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self, limit: float = 5.0) -> None:
        """SIGTERM to the master; what is left after `limit` seconds is killed."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit)
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Tick:
    """Calls the sweep every `every` seconds, as Cloud Scheduler does: never two at once, each with
    its schedule time."""

    def __init__(self, url: str, every: float) -> None:
        self._url, self._every = url, every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        import requests

        while not self._stopped.wait(self._every):
            headers = {
                "X-CloudScheduler-ScheduleTime": str(time.time()),
                "X-CloudScheduler-JobName": "local-tick",
            }
            try:
                requests.post(self._url, headers=headers, timeout=30)
            except requests.RequestException as error:
                print(f"tick: {type(error).__name__}", file=sys.stderr)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(35)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _signal_group(pid: int, sig: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, sig)
