"""A lock between processes that write to one pipe or file: without it a text above 4 kB (PIPE_BUF)
is torn. By the kernel (lockf), on what is written to, so that no file is needed, and a process that
dies holds nothing."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WAIT_SECONDS = 10.0
"""Who holds the lock for longer was stopped while it wrote. Then a torn line is better than a
worker that sends no heartbeats."""
POLL_SECONDS = 0.002


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Between the processes; the threads of one process need a lock of their own beside it."""
    until = time.monotonic() + WAIT_SECONDS
    while not _taken(descriptor) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, ValueError):
        return True  # what is written to knows no locks
    return True
