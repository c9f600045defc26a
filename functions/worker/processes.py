"""A handler's process and the programs that it started, by /proc: what they hold in memory, and
their common end. Where there is no /proc (macOS), the process group alone is known."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(signal_number: int) -> None:
    """The kernel sends this process the signal when its parent ends, even of SIGKILL. Linux only;
    elsewhere nothing."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> None:
    """A descendant whose parent ends becomes a child of this process, not of process 1: also a
    program that has made itself a daemon is found. Linux only; elsewhere nothing."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc().prctl(option, value)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def children(pid: int) -> list[int]:
    """The direct children of a process; none of one that has just ended."""
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return pids


def tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    for child in children(pid):
        yield from tree(child)


def memory(pids: Iterable[int]) -> int:
    """Bytes that the processes hold, which is at most what is counted: a page that several of them
    share counts in each. Without the page cache: the system takes back a file that is only mapped
    when it needs the room. 25 µs a process."""
    return sum(map(_held, pids))


def exact_memory(pids: Iterable[int]) -> int:
    """As `memory`, but what several processes share counts once. The kernel walks all their pages:
    several ms for 400 MB, so it is asked only where `memory` is above the limit."""
    return sum(map(_held_in_proportion, pids))


def mapped_files(pids: Iterable[int]) -> set[str]:
    """The files that are mapped into the memory of the processes."""
    files = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in _read(f"/proc/{pid}/maps").splitlines():
                _, slash, path = line.partition("/")
                files.add(slash + path)
    return files


def offer_to_the_system() -> None:
    """When memory runs out the kernel ends this process, and what it starts, before the worker."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")


def _held(pid: int) -> int:
    try:
        status = _kilobytes(f"/proc/{pid}/status", "RssAnon:", "RssShmem:")
        if status is not None:
            return status
        _, resident, mapped, *_ = _read(f"/proc/{pid}/statm").split()  # gVisor
        return (int(resident) - int(mapped)) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def _held_in_proportion(pid: int) -> int:
    try:
        held = _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss_Anon:", "Pss_Shmem:")
    except (OSError, ValueError):
        held = None
    return _held(pid) if held is None else held


def _kilobytes(file: str, *fields: str) -> int | None:
    """Bytes: the sum of the lines that begin so; None when there is no such line."""
    sizes = [int(line.split()[1]) for line in _read(file).splitlines() if line.startswith(fields)]
    return sum(sizes) * 1024 if sizes else None


def _read(file: str) -> str:
    with open(file, encoding="ascii", errors="replace") as opened:
        return opened.read()


def kill_tree(leader: int) -> None:
    """SIGKILL to all of them: those of its process group, whoever their parent is now, those that
    left the group, and the leader itself, last: it may be ours, or lead no group."""
    kill(member for member in list(tree(leader)) if member != leader)
    kill_group(leader)
    kill([leader])


def kill_group(leader: int) -> None:
    """Also when the leader has ended: its number stays taken while the group has a member."""
    with contextlib.suppress(OSError):
        # Without such a group all of it has ended, or the child has only just begun.
        os.killpg(leader, signal.SIGKILL)


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
