"""The worker's side of the forkserver: asks it for the child of an attempt, and to load modules.

Nothing here waits: the guard sends heartbeats and keeps the deadline while a child is being made. A
forkserver that does not answer is replaced; the children that it has go on."""

import atexit
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import IO, Any

from functions.core import events
from functions.core.record import Record
from functions.core.settings import is_secret
from functions.worker import processes
from functions.worker.messages import Job

START_SECONDS = 10.0
"""So long a forkserver may take to fork; it may be loading modules meanwhile."""
END_SECONDS = 2.0
"""So long the end of the worker waits for its forkserver to end."""
PRELOAD_SECONDS = 5.0
"""A module whose import takes longer is not preloaded, since all other kinds would wait for it."""
DESCRIPTORS = 4
"""The most that come with a request: the request itself, pipe, output, status."""
NUMBER = "!q"
"""How process id and exit code are written to the status."""
FORKSERVER_DIED_EXIT_CODE = 255


class Attempt(Record):
    """A request for a child."""

    job: Job
    folder: str | None
    """For its temporary files."""
    tries_out: bool
    """Whether the child is to tell what the import of the handler's module does."""
    search_path: list[str]
    """`sys.path` of the worker."""
    secrets: dict[str, str]
    """Variables of the environment that the forkserver does not have, and this child may have."""


class Module(Record):
    """A request to load a module. `checked`: unless it leaves something open."""

    name: str
    checked: bool


class Child:
    """A child that was asked for. Readable (`fileno`) when there is news of it."""

    def __init__(self, forkserver: "_Client", status: int) -> None:
        self._pid: int | None = None
        self.exit_code: int | None = None
        self.refused = False
        self._forkserver, self._status = forkserver, status
        self._asked = time.monotonic()

    def fileno(self) -> int:
        return self._status

    @property
    def pid(self) -> int | None:
        """None until the forkserver has made it."""
        if self._pid is None and not self.refused:
            self.read()
        return self._pid

    def read(self) -> None:
        """Takes the news, if there is any."""
        try:
            news = os.read(self._status, struct.calcsize(NUMBER))
        except BlockingIOError:
            return
        if not news:
            self.refused = self._pid is None
            self.exit_code = FORKSERVER_DIED_EXIT_CODE
            return
        (number,) = struct.unpack(NUMBER, news)
        if self._pid is None:
            self._pid = number
            self._forkserver.answered()
        else:
            self.exit_code = number

    @property
    def is_overdue(self) -> bool:
        return self.pid is None and time.monotonic() > self._asked + START_SECONDS

    def kill(self) -> None:
        """With the programs that it started. After a normal end the forkserver ends them, which it
        cannot when it has died itself."""
        if self.pid is None:
            return
        if self.exit_code is None:
            processes.kill_tree(self.pid)
        elif self.exit_code == FORKSERVER_DIED_EXIT_CODE:
            processes.kill_group(self.pid)

    def close(self) -> None:
        if self.pid is None and not self.refused:
            self._forkserver.abandon(self._status)
        else:
            os.close(self._status)
        self._forkserver.release()


class _Client:
    """One forkserver."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair()
        self._requests.setblocking(False)
        start = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from functions.worker.forkserver import main; main({theirs.fileno()})"
        )
        # As multiprocessing does.
        options = subprocess._args_from_interpreter_flags()  # type: ignore
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, *options, "-c", start],
                env=_without_secrets(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._users = 1
        self._lock = threading.Lock()
        self._unanswered_since: float | None = None
        self._abandoned: list[int] = []
        """Statuses of attempts that ended before they had a child."""
        self._loading: dict[str, int] = {}
        """Statuses of the modules that it was asked to load."""

    def _send(self, request: Attempt | Module, *descriptors: int) -> int:
        """The status. Raises OSError when it has ended, or is so far behind that no more can be
        asked of it."""
        status, theirs = os.pipe()
        os.set_blocking(status, False)
        try:
            with _file_of(request) as file:
                requested = [file.fileno(), theirs, *descriptors]
                socket.send_fds(self._requests, [b"r"], requested)
        except OSError:
            os.close(status)
            raise
        finally:
            os.close(theirs)
        return status

    def load(self, module: Module) -> None:
        """Raises OSError as `child` does."""
        self._loading[module.name] = self._send(module)

    def not_loaded(self) -> list[str]:
        """The modules that it was asked for and has not loaded, or not without harm."""
        return [name for name, status in self._loading.items() if not _number(status)]

    def child(self, attempt: Attempt, pipe: int, output: int) -> Child:
        """Raises OSError when it has ended, or is so far behind that no more can be asked of it."""
        status = self._send(attempt, pipe, output)
        with self._lock:
            self._users += 1
            self._unanswered_since = self._unanswered_since or time.monotonic()
        return Child(self, status)

    def answered(self) -> None:
        self._unanswered_since = None

    def abandon(self, status: int) -> None:
        self._abandoned.append(status)

    @property
    def serves(self) -> bool:
        if any(_number(status) for status in self._abandoned):
            self.answered()
        since = self._unanswered_since
        hangs = since is not None and time.monotonic() > since + START_SECONDS
        return not hangs and self._process.poll() is None

    def release(self) -> None:
        """One user less: it is ended with the last one. The first is who made it."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self._close()
        threading.Thread(target=self._process.wait, daemon=True).start()

    def end(self) -> None:
        """At the end of the worker, with all children."""
        self._close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def _close(self) -> None:
        if not self.serves:
            self._process.kill()
        self._requests.close()
        for status in (*self._abandoned, *self._loading.values()):
            os.close(status)


class Forkservers:
    """The forkserver of this process, made when it is first needed and made anew when it does not
    serve, and what is known of the modules of handlers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: _Client | None = None
        self._modules: dict[str, Module | None] = {}
        """Those that were tried out; None: it is not to be preloaded."""

    def child(self, job: Job, folder: str | None, pipe: int, output: int) -> Child:
        """Raises OSError when no process can be made."""
        with self._lock:
            tries_out = module_of(job.handler) not in self._modules
            secrets = {name: os.environ[name] for name in job.secrets if name in os.environ}
            attempt = Attempt(job, folder, tries_out, sys.path, secrets)
            try:
                return self._serving().child(attempt, pipe, output)
            except OSError:
                self._replace()
                return self._serving().child(attempt, pipe, output)

    def replace(self, child: Child) -> None:
        """The child was refused, or not made in time."""
        with self._lock:
            if child._forkserver is self._current:
                self._replace()

    def learn(self, module: str, seconds: float, left_open: str, *, by_rule: bool | None) -> None:
        """How the import of a module went in a child. `by_rule`: what its rule says of it."""
        if by_rule is False or (left_open and not by_rule):
            request = None
        elif seconds > PRELOAD_SECONDS and not by_rule:
            request, left_open = None, f"its import took {seconds:.1f} s"
        else:
            request = Module(module, checked=not by_rule)
        with self._lock:
            if module in self._modules:
                return
            self._modules[module] = request
            if request:
                with suppress(OSError):
                    self._serving().load(request)
        if request is None and by_rule is None:
            _report(module, seconds, left_open)

    def _serving(self) -> _Client:
        if self._current and not self._current.serves:
            self._replace()
        if not self._current:
            self._current = _Client()
            atexit.register(self._current.end)
            for request in filter(None, self._modules.values()):
                self._current.load(request)
        return self._current

    def _replace(self) -> None:
        """What it did not load may be the cause: that is loaded in each child from now on."""
        if not self._current:
            return
        for module in self._current.not_loaded():
            self._modules[module] = None
            _report(module, 0.0, "the forkserver could not load it as its child did")
        atexit.unregister(self._current.end)
        self._current.release()
        self._current = None


def _without_secrets() -> dict[str, str]:
    """The environment of all children. A parser or a library that can be made to read a file or to
    tell its environment has no password of the database to tell."""
    return {name: value for name, value in os.environ.items() if not is_secret(name)}


def _report(module: str, seconds: float, cause: str) -> None:
    events.emit(events.MODULE_NOT_PRELOADED, module=module, seconds=round(seconds, 3), cause=cause)


def _number(status: int) -> int:
    """What was written to it; 0 when nothing was."""
    try:
        news = os.read(status, struct.calcsize(NUMBER))
    except BlockingIOError:
        return 0
    return int(struct.unpack(NUMBER, news)[0]) if news else 0


def module_of(handler: str) -> str:
    return handler.partition(":")[0]


def _file_of(request: Any) -> IO[bytes]:
    """In memory where the system can: a request may be larger than what a socket takes at once."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("unstuck"), "wb")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    pickle.dump(request, file)
    file.flush()
    return file


forkservers = Forkservers()
"""Of the whole process: its forkserver serves all requests."""
