"""The processes of an embedded PostgreSQL: how they are started, watched, found and ended, whoever
has died before."""

import ctypes
import fcntl
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from functions.ops.postgres.binaries import PostgresError, surroundings

STOP_LIMIT = 10.0  # seconds; a fast stop takes 0.1, but never ends while a backend is under SIGSTOP

# EOF on stdin is the launcher's death. $1 is the server, $2 its scratch folder.
WATCHDOG = """read -r _; kill -INT "$1"; i=0
while kill -0 "$1" && [ $i -lt 100 ]; do i=$((i + 1)); sleep 0.1; done; rm -rf -- "$2" """


def lock_folder(path: Path) -> int:
    """Held until we die, however that happens: so a server whose lock is free is a leftover."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PostgresError(
            f"another process uses {path.parent}: end it, or choose another folder"
        ) from None
    return lock


def spawn(command: list[Any], how: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, start_new_session=True, **how
    )  # out of reach of the terminal's Ctrl-C


def watch_over(pid: int, scratch: str) -> subprocess.Popen[bytes]:
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return spawn(
        ["/bin/sh", "-c", WATCHDOG, "unstuck-watchdog", str(pid), scratch], surroundings({}) | quiet
    )


def stop_leftover(data: Path, name: str) -> str:
    """End what a dead launcher left running on our data, and answer the pid in postmaster.pid.

    PostgreSQL does not start while that pid lives, though it may be a stranger's by now, or a
    zombie's. It passes over a pid in PG_GRANDPARENT_PID, and its other check, whether old backends
    hold the shared memory, stays in force: deleting the file would end both. Only an empty file
    (killed before the write) has to go."""
    file = data / "postmaster.pid"
    pid = file.read_text().partition("\n")[0] if file.exists() else ""
    if not pid:
        file.unlink(missing_ok=True)
    postmaster = [process for process in family_of(name) if str(process.pid) == pid]
    for process in postmaster:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_LIMIT
    while postmaster and family_of(name) and time.monotonic() < deadline:
        time.sleep(0.02)
    kill_all(name)
    return pid


def kill_all(name: str) -> None:
    """Until none is left, since a postmaster forks until it dies. When it alone was killed under
    load, backends waited for ever for a lock of one that had gone (seen). Each is a process group
    of its own: no killpg."""
    deadline = time.monotonic() + STOP_LIMIT
    while (family := family_of(name)) and time.monotonic() < deadline:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def family_of(name: str) -> list[psutil.Process]:
    """The living of one server: the postmaster has the cluster name as an option, the others in
    their titles. A zombie has no command line, and pid 1 may be slow to reap it (seen)."""
    family = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = f"{' '.join(process.cmdline())} " if process.name() == "postgres" else ""
            if command.startswith(f"postgres: {name}: ") or f" --cluster_name={name} " in command:
                family.append(process)
    return family


def forget_shared_memory(data: Path) -> None:
    """SIGKILL leaves a System V segment of 56 bytes (seen; Linux has room for 4096), named in the
    pid file."""
    file = data / "postmaster.pid"
    words = file.read_text().split() if file.exists() else []
    if len(words) > 7:  # pid, folder, time, port, socket folder, address, key, id
        ctypes.CDLL(None).shmctl(int(words[7]), 0, None)  # 0 is IPC_RMID
