"""SIGTERM reaches the guard by gunicorn's own handler, wrapped once before the fork. With real
signals: faults/."""

import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import Mock

import pytest
from gunicorn.workers import base, gthread, sync

from functions.worker import shutdown

ROOT = Path(__file__).parents[2]


class Original:
    """gunicorn's two classes as gunicorn makes them."""

    def __init__(self, monkeypatch):
        for worker in (base.Worker, gthread.ThreadWorker):
            handle_exit = worker.__dict__["handle_exit"]
            monkeypatch.setattr(
                worker, "handle_exit", getattr(handle_exit, "__wrapped__", handle_exit)
            )
        monkeypatch.setattr(shutdown, "requested", shutdown.Request())
        self.of_base = base.Worker.__dict__["handle_exit"]
        self.of_thread = gthread.ThreadWorker.__dict__["handle_exit"]


@pytest.fixture
def original(monkeypatch):
    return Original(monkeypatch)


def worker_of(kind):
    """A gunicorn worker that does not run: its constructor would open files."""
    worker = kind.__new__(kind)
    worker.alive = True
    worker.method_queue = Mock()
    return worker


@pytest.mark.parametrize("kind", [sync.SyncWorker, gthread.ThreadWorker])
def test_sigterm_is_heard_and_gunicorn_still_stops_the_worker(original, kind):
    shutdown.install()
    worker = worker_of(kind)
    assert (worker.alive, shutdown.requested.is_set()) == (True, False)
    worker.handle_exit(15, None)
    assert (worker.alive, shutdown.requested.is_set()) == (False, True)


def test_each_class_is_wrapped_once_however_often_it_is_installed(original):
    for _ in range(3):
        shutdown.install()
    assert base.Worker.__dict__["handle_exit"].__wrapped__ is original.of_base
    assert gthread.ThreadWorker.__dict__["handle_exit"].__wrapped__ is original.of_thread
    assert sync.SyncWorker.handle_exit is base.Worker.handle_exit, (
        "the sync worker has none of its own"
    )


def test_the_wrapper_keeps_the_name_and_hands_on_what_it_is_given(original, monkeypatch):
    seen = []

    def handle_exit(self, sig, frame):
        """Says something."""
        seen.append((self, sig, frame))
        return "gunicorn's answer"

    monkeypatch.setattr(base.Worker, "handle_exit", handle_exit)
    shutdown.install()
    worker = worker_of(sync.SyncWorker)
    assert worker.handle_exit(15, "frame") == "gunicorn's answer"
    assert seen == [(worker, 15, "frame")]
    assert (base.Worker.handle_exit.__name__, base.Worker.handle_exit.__doc__) == (
        "handle_exit",
        "Says something.",
    )


def test_main_installs_it_before_the_fork_and_once_for_all_targets():
    """The framework executes main.py again for each target of a process."""
    code = """
        import functions_framework
        from gunicorn.workers import base, gthread

        for target in ("worker", "sweep"):
            functions_framework.create_app(target, "main.py", "http")
        for worker in (base.Worker, gthread.ThreadWorker):
            assert hasattr(worker.handle_exit, "__wrapped__")
            assert not hasattr(worker.handle_exit.__wrapped__, "__wrapped__")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=True, timeout=60)


def test_without_gunicorn_nothing_is_installed_and_nothing_fails(monkeypatch):
    """functions-framework --debug: Flask's own server."""
    monkeypatch.setitem(sys.modules, "gunicorn.workers", None)
    shutdown.install()
