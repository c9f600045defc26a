"""Python and JavaScript of the pages are run, not only read: handlers by the real guard, the
client of a browser by node."""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from functions.testing import Ran, run
from tests.docs.pages import READ_BY_NEW_USERS, ROOT, blocks, name
from tests.missing import missing

HOW_TO = ROOT / "docs" / "how-to"
CLIENT = ROOT / "functions" / "page" / "static" / "task-client.js"


@pytest.fixture
def module() -> Iterator[Callable[..., ModuleType]]:
    """A block of a page as a module that can be imported, with names that the page leaves out."""
    module = ModuleType("snippet_of_a_page")
    sys.modules[module.__name__] = module

    def from_page(page: Path, number: int, **missing_names: Any) -> ModuleType:
        vars(module).update(missing_names)
        exec(compile(blocks(page, "python")[number].text, name(page), "exec"), vars(module))
        vars(module).update(missing_names)
        return module

    yield from_page
    del sys.modules[module.__name__]


def ended(ran: Ran) -> tuple[str, Any]:
    return str(ran.state), ran.error if ran.result is None else ran.result


def test_the_handler_of_the_readme(module):
    handler = module(ROOT / "README.md", 0, fetch=lambda month, timeout: month, draw=str.upper)
    assert ended(run(handler.handle, {})) == ("failed", "Say which month.")
    ran = run(handler.handle, {"month": "may"})
    assert ended(ran) == ("completed", {"url": "MAY"})
    assert ran.checkpoints == {"fetched": "may"}


def test_the_handler_of_the_tutorial(module):
    handler = module(ROOT / "docs" / "tutorial.md", 0)
    ran = run(handler.handle, {"name": "Ada"})
    assert ended(ran) == ("completed", {"text": "Good day, Ada."})


def test_a_charge_carries_the_id_of_its_task(module):
    sent: list[dict[str, Any]] = []

    def post(url: str, **rest: Any) -> Any:
        sent.append(rest)
        return SimpleNamespace(raise_for_status=lambda: None, json=lambda: {"id": "ch_1"})

    handler = module(HOW_TO / "side-effects.md", 0, requests=SimpleNamespace(post=post))
    assert ended(run(handler.handle, {"amount": 100})) == ("completed", {"charge": "ch_1"})
    assert sent[0]["headers"]["Idempotency-Key"].endswith("-charge")
    assert 0 < sent[0]["timeout"] <= 20


@pytest.mark.parametrize(
    ("was_sent", "end"),
    [(True, ("completed", {"sent": True})), (False, ("failed", "It may have been sent."))],
)
def test_a_mail_is_not_sent_again(module, was_sent, end):
    mails = []
    handler = module(
        HOW_TO / "side-effects.md", 1, send=mails.append, was_sent=lambda task_input: was_sent
    )
    first = run(handler.handle, {"to": "ada"}, lease_lost_at="sent")
    again = run(handler.handle, {"to": "ada"}, attempt=2, checkpoints=first.checkpoints)
    assert (ended(again), len(mails)) == (end, 1)


def test_the_first_handler_of_its_page(module):
    handler = module(HOW_TO / "write-a-handler.md", 0)
    assert ended(run(handler.handle, {})) == ("failed", "Say which month.")
    assert ended(run(handler.handle, {"month": "may"})) == ("completed", {"total": 8})
    late = run(handler.handle, {"month": "may"}, run_for=0.5)
    assert (late.state, late.retry_after) == ("pending", 30)


def test_a_connection_that_is_made_in_handle_is_made_once(module):
    snippet = module(HOW_TO / "write-a-handler.md", 1, functools=functools, Client=object)
    assert snippet.client() is snippet.client()


def test_the_tests_that_the_page_shows_pass(module):
    snippet = module(HOW_TO / "write-a-handler.md", 2)
    tests = [value for each, value in vars(snippet).items() if each.startswith("test_")]
    for test in tests:
        test()
    assert len(tests) == 2


ELSEWHERE = {("docs/how-to/without-google-cloud.md", 0)}
"""Blocks of Python that test_elsewhere.py runs."""
HERE = {
    ("README.md", 0),
    ("docs/tutorial.md", 0),
    ("docs/how-to/side-effects.md", 0),
    ("docs/how-to/side-effects.md", 1),
    ("docs/how-to/write-a-handler.md", 0),
    ("docs/how-to/write-a-handler.md", 1),
    ("docs/how-to/write-a-handler.md", 2),
}


def test_no_python_of_these_pages_is_only_read():
    numbered = {
        (name(page), number)
        for page in READ_BY_NEW_USERS
        for number, _ in enumerate(blocks(page, "python"))
    }
    assert numbered == HERE | ELSEWHERE


class Status(BaseHTTPRequestHandler):
    """task_status for a user who is logged in."""

    def do_GET(self) -> None:
        tokens = self.server.tokens  # type: ignore[attr-defined]
        tokens.append(self.headers["Authorization"])
        state = "completed" if len(tokens) > 1 else "running"
        task = {"task_id": "t1", "kind": "image", "state": state, "result": {"url": "x.png"}}
        task |= {"error": None, "reason": None, "due_in": None, "attempt": None}
        content = json.dumps(task).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def status() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Status) as server:
        server.tokens = []  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


BROWSER = """
const shown = [];
const id = "t1", line = {}, aborter = new AbortController(), token = "a token";
const show = (result) => shown.push(result), onUpdate = () => {};
let session = SESSION;
const channel = { on: () => channel, subscribe: () => channel, unsubscribe: () => {} };
const supabase = {
  auth: { getSession: async () => ({ data: { session } }) },
  channel: () => channel,
};
const url = "https://REGION-PROJECT.cloudfunctions.net/task_status";
"""
END = "\nconsole.log(JSON.stringify({ shown, line: line.textContent }));\nprocess.exit(0);\n"


def browser(tmp_path: Path, number: int, server: ThreadingHTTPServer, session: str) -> Any:
    """What the block of the page showed to its user."""
    node = shutil.which("node") or missing("there is no node: install Node.js")
    shutil.copy(CLIENT, tmp_path / "task-client.js")
    snippet = blocks(HOW_TO / "watch-in-a-browser.md", "js")[number].text
    imports = 'import { watchTask, WatchError } from "./task-client.js";\n'
    script = imports + BROWSER.replace("SESSION", session) + snippet.replace(imports, "") + END
    address = f"http://127.0.0.1:{server.server_port}/task_status"
    script = script.replace("https://REGION-PROJECT.cloudfunctions.net/task_status", address)
    (tmp_path / "page.mjs").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [node, "page.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("session", "authorization"),
    [('{ access_token: "ada" }', "Bearer ada"), ("null", None)],
    ids=["logged in", "not logged in"],
)
def test_a_page_shows_the_result_when_the_task_is_completed(
    tmp_path, status, session, authorization
):
    seen = browser(tmp_path, 0, status, session)
    assert seen["shown"] == [{"url": "x.png"}]
    assert set(status.tokens) == {authorization}


def test_a_page_that_listens_to_realtime_comes_to_the_end_too(tmp_path, status):
    browser(tmp_path, 1, status, "null")
    assert len(status.tokens) >= 2
