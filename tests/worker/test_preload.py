"""The forkserver loads the module of a handler for all children only when that is safe, and no
module keeps others from running."""

import json
import os
import signal
import sys
import textwrap

import pytest

from functions.core import events
from functions.worker import spawn
from functions.worker.child import Work
from functions.worker.messages import Job, Result
from functions.worker.spawn import Forkservers
from tests.waiting import eventually
from tests.worker import first_message

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is open is known by /proc")

HANDLER = """
import os
IMPORTED_IN = os.getpid()
def handle(ctx, task_input):
    return {"imported here": IMPORTED_IN == os.getpid(), "forkserver": os.getppid()}
"""
LEAVES_OPEN = {
    "connection": "import socket; KEPT = socket.create_server(('127.0.0.1', 0))",
    "file": "KEPT = open('/proc/self/status')",
    "thread": (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    ),
    "program": "import subprocess; KEPT = subprocess.Popen(['sleep', '60'])",
    "lock": "import multiprocessing; KEPT = multiprocessing.Lock()",
}


@pytest.fixture
def forkservers(monkeypatch):
    """One of the test's own."""
    own = Forkservers()
    monkeypatch.setattr(spawn, "forkservers", own)
    yield own
    with own._lock:
        own._replace()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of that source."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, source=""):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source) + HANDLER)
        return name

    return write


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(events, "_write", lambda written: lines.extend(map(json.loads, written)))
    return lines


def run(module, preloads=None):
    job = Job(module, "task-1", "image", 1, {}, {}, 60.0, 400_000_000)
    work = Work(job, "process", preloads)
    try:
        message = first_message(work)
    finally:
        work.end()
    assert isinstance(message, Result), message
    return json.loads(message.text)


def is_preloaded(module, preloads=None):
    """Whether a later child begins with it."""
    return not run(module, preloads)["imported here"]


def test_a_module_is_imported_once_for_all_later_children(forkservers, module):
    assert not is_preloaded(module("quiet"))
    eventually(lambda: is_preloaded("quiet"))


@pytest.mark.parametrize("thing", LEAVES_OPEN)
def test_a_module_that_leaves_something_open_is_imported_in_each_child_and_that_is_said_once(
    forkservers, module, told, thing
):
    module(f"keeps_{thing}", LEAVES_OPEN[thing])
    assert [is_preloaded(f"keeps_{thing}") for _ in range(3)] == [False] * 3
    [line] = [line for line in told if line["event"] == "module_not_preloaded"]
    assert line["module"] == f"keeps_{thing}"
    assert line["cause"]


def test_a_rule_can_choose(forkservers, module, told):
    module("wanted", LEAVES_OPEN["connection"])
    module("unwanted")
    assert not is_preloaded("wanted", preloads=True)
    eventually(lambda: is_preloaded("wanted", preloads=True))
    assert [is_preloaded("unwanted", preloads=False) for _ in range(3)] == [False] * 3
    assert told == []


def test_a_module_whose_import_hangs_keeps_no_other_task_from_running(forkservers, module):
    module("hangs", "import ctypes; ctypes.PyDLL(None).sleep(600)")  # with the GIL
    hanging = Work(Job("hangs", "task-1", "image", 1, {}, {}, 60.0, 400_000_000), "process")
    try:
        eventually(lambda: hanging._process.pid)
        assert run(module("quiet"))
        assert hanging.receive(0) is None
    finally:
        hanging.end()


def test_a_module_that_is_slow_is_not_preloaded(forkservers, module, told, monkeypatch):
    monkeypatch.setattr(spawn, "PRELOAD_SECONDS", 0.0)
    module("slow")
    assert [is_preloaded("slow") for _ in range(2)] == [False] * 2
    assert [line["cause"].split()[:2] for line in told] == [["its", "import"]]


def test_a_module_that_cannot_be_imported_today_can_be_tomorrow(forkservers, module, tmp_path):
    source = f"open({str(tmp_path / 'mounted')!r}).close()"
    with pytest.raises(AssertionError):
        run(module("waits_for_a_disk", source))
    (tmp_path / "mounted").touch()
    assert run("waits_for_a_disk")


def test_a_forkserver_that_does_not_answer_is_made_anew_and_its_children_go_on(
    forkservers, module, monkeypatch
):
    stopped = run(module("quiet"))["forkserver"]
    older = Work(
        Job("tests.worker.test_child:stays", "1", "image", 1, {}, {}, 60.0, 10**9), "process"
    )
    try:
        assert first_message(older)
        monkeypatch.setattr(spawn, "START_SECONDS", 0.5)
        os.kill(stopped, signal.SIGSTOP)
        assert run("quiet")["forkserver"] != stopped
        assert older.receive(0.1) is None, "it is still running"
    finally:
        older.end()


def test_a_module_that_spoils_the_forkserver_alone_is_found_there_too(forkservers, module, told):
    """In its child it looked harmless."""
    module(
        "two_faced",
        "import os\nif os.getpid() == os.getpgid(0): KEPT = None\nelse: KEPT = os.pipe()",
    )
    first = run("two_faced")["forkserver"]
    eventually(lambda: run("two_faced")["forkserver"] != first)
    assert not is_preloaded("two_faced")
    assert [line["module"] for line in told] == ["two_faced"]
