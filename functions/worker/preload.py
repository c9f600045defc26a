"""What a module does when it is imported: how long it takes, and what it leaves open.

The forkserver imports a handler's module once, and each child inherits what it left: one connection
that all tasks would read from, a thread that is not there after the fork, a lock that a killed task
keeps for ever. So only a module that leaves nothing open is imported there. It is tried out first,
in the child of a task that needs it: what hangs or crashes does so in that task alone."""

import importlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from functions.core.record import Record
from functions.worker import processes

HARMLESS_FILES = {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"}


class Import(Record):
    """How the import of a module went."""

    seconds: float
    left_open: str
    """In words, such as "a socket and 2 threads"; empty when nothing."""


def try_out(module: str) -> Import:
    """Imports it. Raises what the module raises."""
    before = _holdings()
    started = time.monotonic()
    importlib.import_module(module)
    return Import(time.monotonic() - started, _in_words(_opened_since(before)))


def is_loaded(module: str) -> bool:
    return module in sys.modules


def _holdings() -> dict[str, set[str]]:
    return {name: collect() for name, collect in _COLLECTORS.items()}


def _opened_since(before: dict[str, set[str]]) -> list[str]:
    after = _holdings()
    if after["thread"] - before["thread"]:
        _fork_once()
        after["thread"] = _threads()
    opened = []
    for name, held in after.items():
        opened += [_NAMES.get(thing.partition(":")[0], name) for thing in held - before[name]]
    return sorted(opened)


def _fork_once() -> None:
    """Threads that are made for it end at a fork, such as those of OpenBLAS (numpy), and begin anew
    when they are needed. What is left after it is not made for it."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _in_words(opened: list[str]) -> str:
    counted = [
        f"{opened.count(name)} {name}s" if opened.count(name) > 1 else f"1 {name}"
        for name in dict.fromkeys(opened)
    ]
    return " and ".join(counted)


def _threads() -> set[str]:
    return _listed("/proc/self/task")


def _files() -> set[str]:
    """As Linux tells them, such as "socket:[4711]"."""
    files = set()
    for number in _listed("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            file = os.readlink(f"/proc/self/fd/{number}")
            if file not in HARMLESS_FILES:
                files.add(f"{file} {number}" if file.startswith("/") else f"{file}{number}")
    return files


def _programs() -> set[str]:
    return set(map(str, processes.children(os.getpid())))


def _shared_memory() -> set[str]:
    """Mappings that a child writes and all others see, such as a multiprocessing.Lock."""
    mappings = set()
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            address, permissions, *_ = line.split()
            if permissions.startswith("rw") and permissions.endswith("s"):
                mappings.add(address)
    return mappings


def _listed(folder: str) -> set[str]:
    with suppress(OSError):
        return set(os.listdir(folder))
    return set()


_COLLECTORS: dict[str, Callable[[], set[str]]] = {
    "thread": _threads,
    "open file": _files,
    "process": _programs,
    "piece of shared memory": _shared_memory,
}
_NAMES = {"socket": "socket", "pipe": "pipe"}
