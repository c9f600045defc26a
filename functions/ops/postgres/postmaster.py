"""The processes of an embedded PostgreSQL: how they are started, watched, recognised and ended,
also when the process that started them has died.

A server is known by its `name`: it has that as its cluster name, so that it stands in the command
line of each of its processes."""

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

IPC_RMID = 0
"""The command of shmctl(2) that removes a segment."""
STOP_TIMEOUT_SECONDS = 10.0
"""A fast shutdown takes 0.1, but it never ends while a backend is under SIGSTOP."""

WATCHDOG = """read -r _; kill -INT "$1"; i=0
while kill -0 "$1" && [ $i -lt 100 ]; do i=$((i + 1)); sleep 0.1; done; rm -rf -- "$2" """
"""A shell script that waits for the end of its input, which is the death of the launcher, then
stops the server ($1) and removes its scratch folder ($2)."""


def lock_folder(path: Path) -> int:
    """Locks the file and returns its descriptor. The kernel frees the lock when we die, however
    that happens: a server that runs while its lock is free is a leftover. Raises PostgresError."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PostgresError(
            f"another process uses {path.parent}: end it, or choose another folder"
        ) from None
    return lock


def spawn(command: list[Any], arguments: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts a program out of reach of the terminal's Ctrl-C. `arguments` are those of Popen."""
    return subprocess.Popen(command, start_new_session=True, **arguments)


def start_watchdog(pid: int, scratch: str) -> subprocess.Popen[bytes]:
    """Starts the process that stops the server `pid` when we die."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = ["/bin/sh", "-c", WATCHDOG, "unstuck-watchdog", str(pid), scratch]
    return spawn(command, surroundings({}) | streams)


def stop_leftover(data: Path, name: str) -> str:
    """Ends the server that a dead launcher left running on our data. Returns the pid that stands in
    its postmaster.pid, "" if none does.

    PostgreSQL does not start while a process with that pid lives, although by now it may be a
    stranger or a zombie. It ignores the pid that PG_GRANDPARENT_PID names, and then still checks
    whether old backends hold the shared memory. Deleting postmaster.pid would switch off both
    checks, so only an empty one is deleted: its server was killed before it wrote the pid."""
    file = data / "postmaster.pid"
    pid = file.read_text().partition("\n")[0] if file.exists() else ""
    if not pid:
        file.unlink(missing_ok=True)
    postmaster = [process for process in family_of(name) if str(process.pid) == pid]
    for process in postmaster:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while postmaster and family_of(name) and time.monotonic() < deadline:
        time.sleep(0.02)
    kill_all(name)
    return pid


def kill_all(name: str) -> None:
    """SIGKILL to all processes of the server, again until none is left, since a postmaster forks
    until it dies. All, because when the postmaster alone was killed under load, its backends waited
    for ever for the lock of one that had died. One by one, because each is a process group of its
    own."""
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while (family := family_of(name)) and time.monotonic() < deadline:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def family_of(name: str) -> list[psutil.Process]:
    """The living processes of one server: the postmaster has the cluster name as an option, the
    others have it in their titles. A zombie has no command line; pid 1 may be slow to reap it."""
    family = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = f"{' '.join(process.cmdline())} " if process.name() == "postgres" else ""
            if command.startswith(f"postgres: {name}: ") or f" --cluster_name={name} " in command:
                family.append(process)
    return family


def forget_shared_memory(data: Path) -> None:
    """Removes the System V segment of 56 bytes that SIGKILL leaves, since Linux has room for 4096.
    The pid file names it."""
    file = data / "postmaster.pid"
    fields = file.read_text().split() if file.exists() else []
    if len(fields) > 7:  # pid, folder, time, port, socket folder, address, key, id
        ctypes.CDLL(None).shmctl(int(fields[7]), IPC_RMID, None)
