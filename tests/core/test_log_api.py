"""LOG_TRANSPORT=api: a worker elsewhere sends its lines to Cloud Logging itself, where the same
metrics count them. What cannot be sent is printed, and nothing waits for it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import responses
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import logging_v2

from functions.core import events, log_api, trace
from functions.core.dispatch import NoDispatch
from functions.core.policy import DEFAULT, parse
from functions.core.settings import Settings
from functions.store.postgres import PostgresStore
from functions.worker.guard import guard
from tests.chain.definitions import from_files
from tests.chain.logging_api import LoggingApi
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PROJECT = "our-project"
TASK = {
    "watch": "tasks",
    "task_id": "1",
    "kind": "image",
    "state": "completed",
    "by": "guard",
    "seconds": 1.5,
    "number": 1,
}


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> log_api.CloudLogging:
    """The writer of this process, for the time of a test."""
    monkeypatch.setattr(events, "_write", events.print_lines)  # what is undone at its end
    settings = Settings.read({"LOG_TRANSPORT": "api", "GOOGLE_CLOUD_PROJECT": PROJECT})
    made = log_api.CloudLogging(settings)
    events.write_by(made.write)
    return made


@pytest.fixture
def api(transport: log_api.CloudLogging, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoggingApi]:
    """Cloud Logging at the wire, and a process that sends there."""
    client = logging_v2.Client(project=PROJECT, credentials=AnonymousCredentials(), _use_grpc=False)
    monkeypatch.setattr(log_api, "client", lambda _: client)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield LoggingApi(mock)
        for sender in transport.senders.values():
            sender.close()


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Any:
    return lambda: [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def sent(api: LoggingApi, count: int) -> list[dict[str, Any]]:
    """The entries, once there are so many."""

    def found() -> list[dict[str, Any]]:
        return [entry for body in api.written for entry in body["entries"]]

    eventually(lambda: len(found()) >= count)
    return found()


def test_a_line_arrives_as_cloud_run_would_have_brought_it(api: LoggingApi, printed: Any) -> None:
    token = trace.current.set(
        trace.Trace(f"projects/{PROJECT}/traces/t", "00f067aa0ba902b7", sampled=True)
    )
    events.emit(
        events.TASK_FINISHED,
        level="WARNING",
        about={"logging.googleapis.com/labels": {"a": "b"}},
        **TASK,
    )
    trace.current.reset(token)
    [entry] = sent(api, 1)
    line = json.loads(events.TASK_FINISHED.line(TASK))
    del line["severity"]
    assert entry["jsonPayload"] == line
    assert (entry["severity"], entry["trace"]) == ("WARNING", f"projects/{PROJECT}/traces/t")
    assert (entry["spanId"], entry["traceSampled"]) == ("00f067aa0ba902b7", True)
    assert entry["labels"] == {"a": "b", "transport": "api", "host": os.uname().nodename}
    assert entry["timestamp"]
    assert api.written[0]["logName"] == f"projects/{PROJECT}/logs/unstuck"
    assert printed() == []


def test_the_same_metrics_count_it(api: LoggingApi) -> None:
    events.emit(events.TASK_FINISHED, **TASK)
    [entry] = sent(api, 1)
    counted = {one.name for one in from_files().metrics if one.takes(entry)}
    assert counted == {"unstuck_task_finished", "unstuck_task_seconds"}


def test_many_lines_go_in_few_requests_and_in_their_order(api: LoggingApi) -> None:
    for number in range(500):
        events.emit(events.TASK_FINISHED, **TASK | {"number": number})
    found = sent(api, 500)
    assert [entry["jsonPayload"]["number"] for entry in found] == list(range(500))
    assert len(api.written) < 100


@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_is_refused_is_printed(status: int, api: LoggingApi, printed: Any) -> None:
    api.status = status
    for _ in range(3):
        events.emit(events.TASK_FINISHED, **TASK)
    lines: list[dict[str, Any]] = []
    eventually(
        lambda: (
            lines.extend(printed())
            or len([one for one in lines if one["event"] == "task_finished"]) == 3
        )
    )
    told = [one for one in lines if one["event"] == "log_failed"]
    assert len(told) == 1, "said once in a minute"


def test_without_credentials_it_is_as_if_it_were_off(
    api: LoggingApi, printed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(_: Settings) -> Any:
        raise DefaultCredentialsError("no credentials")

    monkeypatch.setattr(log_api, "client", client)
    events.emit(events.TASK_FINISHED, **TASK)
    lines: list[dict[str, Any]] = []
    eventually(lambda: lines.extend(printed()) or len(lines) == 2)
    assert [one["event"] for one in lines] == ["log_failed", "task_finished"]
    assert "no credentials" in lines[0]["error"]


def test_a_network_that_hangs_holds_nobody_up_and_loses_no_line(
    api: LoggingApi, transport: log_api.CloudLogging, printed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(log_api, "client", lambda _: released.wait(60))
    monkeypatch.setattr(log_api, "WAITING_LINES", 50)
    started = time.monotonic()
    for number in range(200):
        events.emit(events.TASK_FINISHED, **TASK | {"number": number})
    assert time.monotonic() - started < 10
    [sender] = transport.senders.values()
    sender.close(0.1)
    assert sorted(one["number"] for one in printed()) == list(range(200))
    released.set()
    sender._thread.join(10)
    assert not sender._thread.is_alive()


POLICY = """
      says: {handler: "tests.speaking:logs", attempts: 1}
      says_thread: {handler: "tests.speaking:logs", attempts: 1, isolation: thread}
"""


@pytest.mark.parametrize("kind", ["says", "says_thread"])
def test_what_a_handler_says_goes_by_the_guard(
    kind: str, api: LoggingApi, database: str, printed: Any
) -> None:
    """Its process has no client: one would cost each task a second."""
    policy = parse(DEFAULT.read_text(encoding="utf-8").rstrip() + POLICY)
    store = PostgresStore(database)
    answer = guard(
        store,
        policy,
        NoDispatch(),
        policy.watch(),
        store.create(policy.watch(), kind, {}).task_id,
        worker="w",
    )
    store.close()
    assert answer.state == "completed"
    found = [entry["jsonPayload"] for entry in sent(api, 3)]
    assert [one["event"] for one in found] == ["task_claimed", "handler_log", "task_finished"]
    assert found[1]["message"] == "half of it"
    assert printed() == []


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received += [entry["jsonPayload"]["task_id"] for entry in body["entries"]]  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


PROCESS = """
    import signal, sys, time
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import logging_v2
    from functions.core import events, log_api
    from functions.entry.app import App

    there = logging_v2.Client(
        project="p", credentials=AnonymousCredentials(), _use_grpc=False,
          client_options={"api_endpoint": sys.argv[1]}
    )
    log_api.client = lambda _: there
    App().settings  # LOG_TRANSPORT=api
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for number in range(50):
        events.emit(events.TASK_CREATED, watch="tasks", task_id=str(number), kind="image")
    if sys.argv[2] == "waits":
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("end", ["ends", "waits"])
def test_the_last_lines_are_sent_when_the_process_ends_by_itself_or_by_sigterm(end: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    env = os.environ | {
        "LOG_TRANSPORT": "api",
        "GOOGLE_CLOUD_PROJECT": "p",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), url, end]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        if end == "waits":
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    printed = [
        json.loads(line)["task_id"] for line in rest.splitlines()
    ]  # on a machine that is too busy for the limit
    assert sorted(server.received + printed, key=int) == [str(number) for number in range(50)]  # type: ignore[attr-defined]
    assert server.received  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
