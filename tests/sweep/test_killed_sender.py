"""A sender that the system ends at any moment, by SIGKILL: nothing is lost, and each death repeats
one message at most."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from functions.core.policy import DEFAULT, Policy, load
from functions.sweep.notify import LEASE_SECONDS
from tests.sql import pass_time
from tests.terraform import ROOT

SENDER = """
import os, sys, time
import requests
from functions.core.policy import DEFAULT, load
from functions.core.settings import Settings
from functions.store.postgres import PostgresStore
from functions.sweep import notify

policy = load(str(DEFAULT))
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        store = PostgresStore(sys.argv[1])
        notify.notify(store, policy, Settings.read(), time.monotonic() + 20)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Sends what waits, in a new process for each line that it reads. Says the process, and how it
ended."""
MOMENTS = ("before the message is read", "before the answer", "after the answer", "some time")


class Receiver(ThreadingHTTPServer):
    """Takes every message, and ends its sender at the `moment`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.moment: str | None = None
        self.sender: int | None = None
        self.is_known = threading.Event()
        self.messages: Counter[str] = Counter()
        self.tasks: set[str] = set()
        self.heard = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end_at(self, moment: str) -> None:
        if self.moment == moment and self.is_known.wait(10) and self.sender:
            with suppress(ProcessLookupError):
                os.kill(self.sender, signal.SIGKILL)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The sender is gone: that is what is tried here."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.end_at(MOMENTS[0])
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.heard:
            self.server.messages[body["id"]] += 1
            self.server.tasks |= {task["task_id"] for task in body["tasks"]}
        self.server.end_at(MOMENTS[1])
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.server.end_at(MOMENTS[2])

    def log_message(self, *arguments: Any) -> None:
        pass


class Sender:
    def __init__(self, dsn: str, receiver: Receiver) -> None:
        self.receiver = receiver
        self.process = subprocess.Popen(
            [sys.executable, "-c", SENDER, dsn],
            cwd=ROOT,
            env=os.environ | {"NOTIFY_URL": receiver.url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, moment: str | None = None, after: float = 0.0) -> bool:
        """Whether it came to its end."""
        self.receiver.moment = moment
        self.receiver.is_known.clear()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.receiver.sender = int(self.process.stdout.readline())
        self.receiver.is_known.set()
        if moment == MOMENTS[3]:
            time.sleep(after)
            with suppress(ProcessLookupError):
                os.kill(self.receiver.sender, signal.SIGKILL)
        return int(self.process.stdout.readline()) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(str(DEFAULT))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server
        server.shutdown()


@pytest.fixture
def sender(dsn: str, receiver: Receiver) -> Iterator[Sender]:
    made = Sender(dsn, receiver)
    yield made
    made.close()


def test_whenever_the_sender_is_killed_nothing_is_lost_and_a_death_repeats_one_message_at_most(
    store, db, policy, sender, receiver
):
    fate = random.Random(16)
    assert sender.send(), "from its first question on everything is kept for it"
    failed, deaths = set(), Counter()
    for number in range(16):
        for _ in range(fate.randrange(1, 4)):
            task = store.create(policy.watch(), "film", {}).task_id
            token = store.claim(policy.watch(), task, "worker").token
            store.settle(policy.watch(), task, token, "fail", reason="handler_error")
            failed.add(task)
        moment = MOMENTS[number % 4]
        deaths[moment] += not sender.send(moment, fate.uniform(0, 0.05))
        pass_time(db, fate.choice([0, 1, LEASE_SECONDS + 1]))
    assert deaths[MOMENTS[0]] + deaths[MOMENTS[1]] > 0, "nobody was killed"
    for _ in range(3):
        pass_time(db, LEASE_SECONDS + 1)
        assert sender.send()
    outcomes = db.execute("select distinct outcome from unstuck.outbox").fetchall()
    assert outcomes == [{"outcome": "sent"}]
    assert receiver.tasks == failed
    assert receiver.messages.total() <= len(receiver.messages) + deaths.total()
    assert max(receiver.messages.values()) <= 1 + deaths.total()
