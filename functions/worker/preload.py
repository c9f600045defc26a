"""Imported by the forkserver when it starts: loads the modules of the handlers, so that each child
begins with them.

Not by the forkserver's own means: there an import that fails ends the forkserver, and one that
hangs holds up every task of the worker. What is not loaded here is loaded in the child, where the
guard sends heartbeats, keeps the deadline and learns of the error."""

import contextlib
import importlib
import os
import signal
import time
from typing import Any

NAME = "UNSTUCK_PRELOAD"
TIMEOUT_SECONDS = 5.0
"""For all modules. The first task of a worker waits for them, without a heartbeat."""


def load(module: str, seconds: float) -> None:
    def too_long(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        importlib.import_module(module)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


until = time.monotonic() + TIMEOUT_SECONDS
for name in (os.environ.get(NAME) or "").split():
    with contextlib.suppress(BaseException):
        load(name, max(0.01, until - time.monotonic()))
