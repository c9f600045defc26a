"""task-client.js in a real Chromium, against the real functions: a page of another origin watches
tasks to their end."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import load
from functions.ops.local.servers import Server
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from tests.conftest import copied
from tests.missing import missing

CLIENT = Path(__file__).parents[2] / "functions" / "page" / "static" / "task-client.js"
NOBODY = "00000000-0000-4000-8000-000000000000"
START = """
async ({id, options}) => {
  const { watchTask } = await import("/task-client.js");
  const aborter = new AbortController();
  const watch = { updates: [], ended: null, abort: () => aborter.abort() };
  const onUpdate = (update) => watch.updates.push(update);
  watchTask(id, { ...options, ...(window.more ?? {}), onUpdate, signal: aborter.signal }).then(
    (task) => { watch.ended = { task }; },
    (error) => { watch.ended = { name: error.name, code: error.code, message: error.message, task:
      error.task ?? null }; },
  );
  window.watch = watch;
}
"""


class Pages(SimpleHTTPRequestHandler):
    """An empty page, and the client beside it."""

    def do_GET(self) -> None:
        script = self.path == "/task-client.js"
        content = CLIENT.read_bytes() if script else b"<!doctype html><title>an application</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def dsn(postgres: Postgres, template: str) -> Iterator[str]:
    with copied(postgres, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def status(dsn: str, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": dsn, "CORS_ORIGINS": f"https://app.example, {origin}"}
    server = Server("task_status", env, log=tmp_path_factory.mktemp("status") / "log")
    with server:
        yield server
        server.kill()


@pytest.fixture
def db(dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as db:
        yield db


class Browser:
    """One page that watches one task. `create` and `store` play the others."""

    def __init__(self, tab: Any, origin: str, url: str, dsn: str) -> None:
        self.tab, self.url, self.store, self.policy = tab, url, PostgresStore(dsn), load().watch()
        tab.goto(origin)

    def create(self) -> str:
        return str(self.store.create(self.policy, "image", {}).task_id)

    def watch(self, task_id: str, **options: Any) -> None:
        self.tab.evaluate(START, {"id": task_id, "options": {"url": self.url} | options})

    def sees(self, message: str) -> None:
        self.tab.wait_for_function(
            "(message) => window.watch.updates.some((one) => one.message === message)", arg=message
        )

    def ended(self) -> dict[str, Any]:
        self.tab.wait_for_function("() => window.watch.ended")
        found: dict[str, Any] = self.tab.evaluate("() => window.watch.ended")
        return found

    @property
    def messages(self) -> list[str]:
        return [update["message"] for update in self.tab.evaluate("() => window.watch.updates")]


@pytest.fixture
def browser(tab, origin, status, dsn) -> Iterator[Browser]:
    made = Browser(tab, origin, status.url, dsn)
    yield made
    made.store.close()


def test_a_page_sees_a_task_from_its_start_to_its_end(browser):
    task_id = browser.create()
    browser.watch(task_id)
    browser.sees("Waiting to start …")
    claimed = browser.store.claim(browser.policy, task_id, "worker")
    browser.sees("Working …")
    browser.store.beat(
        browser.policy, task_id, claimed.token, {"fraction": 0.4, "message": "Drawing"}
    )
    browser.sees("Drawing (40 %) …")
    browser.store.settle(
        browser.policy, task_id, claimed.token, "complete", result={"url": "a.png"}
    )
    assert browser.ended()["task"]["result"] == {"url": "a.png"}
    assert browser.messages == ["Waiting to start …", "Working …", "Drawing (40 %) …", "Done."]


def test_a_failure_is_an_end_with_a_sentence(browser):
    task_id = browser.create()
    claimed = browser.store.claim(browser.policy, task_id, "worker")
    browser.store.settle(
        browser.policy, task_id, claimed.token, "fail", error="The picture cannot be drawn."
    )
    browser.watch(task_id)
    assert browser.ended()["task"]["state"] == "failed"
    assert browser.messages == ["The picture cannot be drawn."]


def test_a_poll_of_a_page_ends_a_task_that_nobody_claims(browser, db):
    db.execute("delete from unstuck.attempts")  # else it would wait for its turn behind others
    task_id = browser.create()
    db.execute(
        "update tasks set scheduled_at = now() - interval '1 hour' where id = %s", (task_id,)
    )
    browser.watch(task_id)
    assert browser.ended()["task"]["reason"] == "never_claimed"
    assert browser.messages == ["No worker picked the task up in time."]


def test_a_task_that_is_not_there_is_said_to_be_missing(browser):
    browser.watch(NOBODY)
    ended = browser.ended()
    assert (ended["name"], ended["code"]) == ("WatchError", "not_found")
    assert ended["message"] == "There is no such task, or it is not yours."


def test_what_the_server_refuses_is_told_in_its_words(browser):
    browser.watch("not-a-task")
    assert {name: browser.ended()[name] for name in ("code", "message")} == {
        "code": "refused",
        "message": "`task_id` must be a uuid.",
    }


def test_a_watch_can_be_aborted(browser):
    browser.watch(browser.create())
    browser.sees("Waiting to start …")
    browser.tab.evaluate("() => window.watch.abort()")
    assert browser.ended()["name"] == "AbortError"


def test_a_watch_ends_when_its_time_is_over_and_says_that_the_task_goes_on(browser):
    task_id = browser.create()
    browser.watch(task_id, timeout=300)
    ended = browser.ended()
    assert (ended["code"], ended["task"]["task_id"]) == ("timeout", task_id)
    assert "It goes on" in ended["message"]


def test_a_server_that_does_not_answer_is_noticed_and_its_return_too(browser, status):
    task_id = browser.create()
    browser.watch(task_id)
    browser.sees("Waiting to start …")
    status.kill()
    browser.sees("The server does not answer. Trying again …")
    claimed = browser.store.claim(browser.policy, task_id, "worker")
    browser.store.settle(browser.policy, task_id, claimed.token, "complete", result={})
    status.start()
    assert browser.ended()["task"]["state"] == "completed"


def test_a_server_that_stays_away_is_given_up(browser):
    browser.url = "http://127.0.0.1:1/"  # where nobody listens
    browser.watch(NOBODY, patience=100)
    assert browser.ended()["code"] == "unreachable"
    assert browser.messages == ["The server does not answer. Trying again …"]


@pytest.mark.parametrize("answer", ["<html>a proxy's page</html>", "{}", "null", "[1]", ""])
def test_what_is_no_task_counts_as_no_answer(browser, answer):
    browser.tab.route("**/?task_id=*", lambda route: route.fulfill(status=200, body=answer))
    browser.watch(NOBODY, patience=100)
    assert browser.ended()["code"] == "unreachable"


def test_a_token_that_has_expired_is_asked_for_again_once(browser):
    asked = []

    def refuse(route: Any) -> None:
        asked.append(route.request.headers["authorization"])
        route.fulfill(status=401, body="{}")

    browser.tab.route("**/?task_id=*", refuse)
    browser.tab.evaluate(
        "() => { let n = 0; window.more = { token: async () => `token-${++n}` }; }"
    )
    browser.watch(NOBODY)
    ended = browser.ended()
    assert (ended["code"], ended["message"]) == (
        "unauthorized",
        "You are not signed in any more. Sign in, and look again.",
    )
    assert asked == ["Bearer token-1", "Bearer token-2"]


def test_a_busy_server_is_left_alone_as_long_as_it_says(browser):
    task = {
        "task_id": NOBODY,
        "kind": "image",
        "state": "completed",
        "result": 1,
        "error": None,
        "attempt": None,
    }
    shown = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "retry-after"}
    busy = {"status": 429, "headers": {"Retry-After": "1"} | shown, "body": "{}"}
    answers = iter([busy, {"status": 200, "headers": shown, "body": json.dumps(task)}])
    browser.tab.route("**/?task_id=*", lambda route: route.fulfill(**next(answers)))
    began = browser.tab.evaluate("() => performance.now()")
    browser.watch(NOBODY)
    assert browser.ended()["task"]["result"] == 1
    assert browser.tab.evaluate("() => performance.now()") - began >= 990


def test_its_types_are_what_its_comments_say():
    compiler = Path(__file__).with_name("node_modules") / ".bin" / "tsc"
    if not compiler.exists():
        missing("there is no TypeScript: run `make typescript` (npm)")
    wanted = [
        "--strict",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom,dom.iterable",
        "--module",
        "es2022",
    ]
    command = [compiler, "--noEmit", "--checkJs", "--allowJs", *wanted, CLIENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


CHANNEL = """
() => {
  const channel = {
    heard: [], ended: false,
    on(type, filter, changed) { this.heard.push(type, filter); this.changed = changed; return this;
      },
    subscribe(told) { this.told = told; return this; },
    unsubscribe() { this.ended = true; },
  };
  window.more = { channel };
  const real = window.fetch;
  window.polls = 0;
  window.fetch = (...all) => { window.polls += 1; return real(...all); };
}
"""


def test_a_channel_wakes_the_watch_which_else_hardly_polls(browser):
    browser.tab.evaluate(CHANNEL)
    task_id = browser.create()
    browser.watch(task_id)
    browser.tab.evaluate("() => window.more.channel.told('SUBSCRIBED')")
    browser.sees("Waiting to start …")
    polls = browser.tab.evaluate("() => window.polls")
    browser.tab.wait_for_timeout(1500)  # it would poll twice in that time
    assert browser.tab.evaluate("() => window.polls") - polls <= 1, "the one that was under way"
    claimed = browser.store.claim(browser.policy, task_id, "worker")
    browser.store.settle(browser.policy, task_id, claimed.token, "complete", result={})
    browser.tab.evaluate("() => window.more.channel.changed()")
    assert browser.ended()["task"]["state"] == "completed"
    assert browser.tab.evaluate("() => window.more.channel.heard") == [
        "postgres_changes",
        {"event": "*", "schema": "public", "table": "tasks", "filter": f"id=eq.{task_id}"},
    ]
    assert browser.tab.evaluate("() => window.more.channel.ended")


def test_a_channel_that_breaks_is_replaced_by_polls(browser):
    browser.tab.evaluate(CHANNEL)
    task_id = browser.create()
    browser.watch(task_id)
    browser.tab.evaluate("() => window.more.channel.told('SUBSCRIBED')")
    browser.sees("Waiting to start …")
    browser.tab.evaluate("() => window.more.channel.told('CHANNEL_ERROR')")
    browser.store.operate(browser.policy, "cancel", [task_id])
    assert browser.ended()["task"]["state"] == "cancelled"
