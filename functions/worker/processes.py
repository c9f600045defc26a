"""A handler's process and the programs that it started, by /proc: what they hold in memory, and
their common end. Where there is no /proc (macOS), the process group alone is known."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int) -> None:
    """The kernel sends this process the signal when its parent ends, even of SIGKILL. Linux only;
    elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


def tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    with contextlib.suppress(OSError):  # it has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as below
            for child in _read(f"/proc/{pid}/task/{thread}/children"):
                yield from tree(int(child))


def memory(pid: int) -> int:
    """Bytes that they hold; of the descendants without what is shared (libraries, mapped files)."""
    pages = sum(_held(member, shared=member != pid) for member in tree(pid))
    return pages * resource.getpagesize()


def _held(pid: int, *, shared: bool) -> int:
    try:
        _, resident, mapped, *_ = _read(f"/proc/{pid}/statm")
    except (OSError, ValueError):
        return 0
    return int(resident) - (int(mapped) if shared else 0)


def _read(file: str) -> list[str]:
    with open(file, encoding="ascii") as opened:  # noqa: PTH123 - a third of pathlib's time
        return opened.read().split()


def kill_tree(leader: int) -> None:
    """SIGKILL to all of them: those of its process group, whoever their parent is now, and those
    that left the group."""
    for pid in [member for member in tree(leader) if member != leader]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        # Without such a group all of it has ended, or the child has only just begun.
        os.killpg(leader, signal.SIGKILL)
