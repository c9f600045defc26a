"""SIGTERM: the guard must learn of it at once, since the platform grants 10 s.

gunicorn replaces signal handlers after it has imported main.py, and a handler set in a request is refused (not the
main thread). What works, measured: wrap the worker class's `handle_exit` at import, before the fork."""

import functools
import threading
from typing import Any

requested = threading.Event()


def install() -> None:
    """Listens to gunicorn's SIGTERM, for both worker classes that functions-framework uses. Repeating it is harmless."""
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
