"""The processes of a local server: its workers, their forkservers, and the handlers below these.

By psutil, which is not deployed: `functions/worker/processes.py` does without it."""

import os
from contextlib import suppress

import psutil  # type: ignore[import-untyped]


def children(pid: int) -> list[int]:
    """The direct children of a process, without those that have ended."""
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children() if lives(child.pid)]
    return []


def family(pid: int) -> list[int]:
    """A process and all below it: worker, forkserver, and the child with the handler."""
    with suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return [pid]


def session(leader: int) -> list[int]:
    """The living processes of a session, those too whose parent has ended."""
    pids = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == leader and lives(pid):
                pids.append(pid)
    return pids


def is_frozen(pid: int) -> bool:
    """Whether a process is stopped by SIGSTOP."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def lives(pid: int) -> bool:
    """Whether there is such a process and it has not ended."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    return False
