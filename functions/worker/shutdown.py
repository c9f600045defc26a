"""SIGTERM: the guard must learn of it at once, since the platform grants 10 s.

gunicorn replaces signal handlers after it has imported main.py, and a handler set in a request is
refused (not the main thread). What works, measured: wrap the worker class's `handle_exit` at
import, before the fork."""

import functools
import threading
import time
from typing import Any

GRANTED_SECONDS = 10.0
"""From SIGTERM to the platform's SIGKILL."""


class Request(threading.Event):
    """Set when the signal arrives."""

    _at: float | None = None

    def set(self) -> None:
        if self._at is None:
            self._at = time.monotonic()
        super().set()

    def seconds_ago(self) -> float:
        """0 while it is not set."""
        return 0.0 if self._at is None else time.monotonic() - self._at


requested = Request()
"""Of the whole process, as the signal is: gunicorn hears it outside of any request."""


def wait(seconds: float) -> bool:
    """Whether it is requested, within `seconds`. Not by Event.wait: where the signal interrupts
    this very thread (a sync worker, a worker that pulls) it would find the event's lock taken."""
    until = time.monotonic() + seconds
    while not requested.is_set() and time.monotonic() < until:
        time.sleep(0.01)
    return requested.is_set()


def install() -> None:
    """Listens to gunicorn's SIGTERM, for both worker classes that functions-framework uses.
    Repeating it is harmless."""
    try:
        from gunicorn.workers import base, gthread  # main.py is imported before gunicorn is
    except ImportError:
        return  # functions-framework --debug: Flask's own server

    for worker in (base.Worker, gthread.ThreadWorker):
        handle_exit = worker.__dict__.get("handle_exit")
        if handle_exit and not hasattr(handle_exit, "__wrapped__"):
            worker.handle_exit = _announcing(handle_exit)


def _announcing(handle_exit: Any) -> Any:
    @functools.wraps(handle_exit)
    def wrapper(self: Any, sig: int, frame: Any) -> Any:
        requested.set()
        return handle_exit(self, sig, frame)

    return wrapper
