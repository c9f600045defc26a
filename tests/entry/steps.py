"""What the tests of entry points do: main.py in the real framework, asked as its callers ask, with
the pushes recorded in place of being sent."""

import base64
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import functions_framework
import yaml

from functions.core import dispatch
from functions.core.policy import DEFAULT
from functions.entry.app import App
from tests.chain import platform
from tests.entry.handlers import HANDLERS

MAIN = Path(__file__).parents[2] / "main.py"
NOBODY = "00000000-0000-4000-8000-000000000000"
PAYLOAD = "a-prompt-that-is-nobody-else's-business"
METHODS = {
    "create_task": "POST",
    "task_status": "GET",
    "cancel_task": "POST",
    "claim_task": "POST",
    "beat_task": "POST",
    "complete_task": "POST",
    "fail_task": "POST",
    "worker": "POST",
    "sweep": "POST",
    "rescue": "POST",
}
OUT_OF_MEMORY = platform.line("Memory limit of 512 MiB exceeded.", datetime.now(UTC))
BODY_FOR_ALL = {
    "message": {"data": base64.b64encode(json.dumps(OUT_OF_MEMORY).encode()).decode()},
    "kind": "returns",
    "task_id": NOBODY,
    "token": NOBODY,
    "worker_id": "w",
    "error": "It is broken.",
}
"""What any of the entry points asks for."""
DATABASE_PASSWORD = "the-password-of-the-database"


class EntryPoints:
    """The entry points over HTTP, without a socket in between. All of them share one App, which
    reads the environment of the test and pushes to `pushes`."""

    def __init__(self, pushes):
        self._pushes, self._modules, self._clients = pushes, {}, {}
        self.app = None
        self.restart()

    def restart(self):
        """As a new process would: the environment is read again."""
        self.stop()
        self.app = App()
        self.app.dispatcher = self._pushes
        for module in self._modules.values():
            module.app = self.app

    def stop(self):
        if self.app and "store" in vars(self.app):
            self.app.store.close()

    def client(self, target):
        if target not in self._clients:
            server = functions_framework.create_app(target, str(MAIN))
            self._modules[target], self._clients[target] = sys.modules["main"], server.test_client()
            self._modules[target].app = self.app
        return self._clients[target]

    def ask(self, target, path="/", *, method=None, **request):
        return self.client(target).open(path, method=method or METHODS[target], **request)

    def create(self, kind="returns", **more):
        answer = self.ask("create_task", json={"kind": kind, "input": {"prompt": PAYLOAD}, **more})
        assert answer.status_code in {200, 201}, answer.text
        return answer.json["task_id"]

    def work(self, task_id, **more):
        return self.ask("worker", json={"task_id": task_id, **more})

    def status(self, task_id):
        answer = self.ask("task_status", f"/?task_id={task_id}")
        assert answer.status_code == 200, answer.text
        return answer.json

    def event(self, data, **more):
        """A message as Eventarc delivers it."""
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self.raw_event(
            {"message": {"data": base64.b64encode(text).decode(), "messageId": "1"}}, **more
        )

    def raw_event(self, body, headers=(), **more):
        kind = "google.cloud.pubsub.topic.v1.messagePublished"
        headers = {
            "ce-id": "1",
            "ce-source": "//pubsub",
            "ce-type": kind,
            "ce-specversion": "1.0",
            **dict(headers),
        }
        return self.client("worker_event").post("/", json=body, headers=headers, **more)


class RecordedPushes(list):
    """The dispatcher of these tests. `refuses` makes the queue refuse."""

    refuses = False

    def push(self, watch, task_id, number, delay=0.0):
        if self.refuses:
            raise dispatch.DispatchError("the queue is gone")
        self.append((watch, task_id, number, round(delay)))


def policy_with_test_handlers():
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    rules = {
        one.__name__: {"handler": f"tests.entry.handlers:{one.__name__}", "isolation": "thread"}
        for one in HANDLERS
    }
    policy["watches"]["tasks"]["rules"] |= rules
    return policy


def error_code(answer):
    """The code of an error, which has the one form of all errors."""
    assert answer.content_type == "application/json"
    error = answer.json["error"]
    assert set(error) == {"code", "message"}
    assert error["code"].replace("_", "").isalpha()
    assert len(error["message"]) > 10
    return error["code"]


def make_overdue(rows, task_id):
    """The deadline of its attempt passes."""
    rows(
        "update unstuck.attempts set lease_until = now(), deadline_at = now() where task_id = %s "
        "returning 1",
        task_id,
    )


def claimed_elsewhere(app, task_id):
    """Another worker holds the task. Returns its claim."""
    answer = app.store.claim(app.policy.watch(), task_id, "another-worker")
    assert answer.verdict == "claimed"
    return answer
