"""The deployed entry points: main.py in the real framework, on a real database, asked as their
callers ask.

Only the push is recorded in place of being sent, and handlers run in threads: what they do in
processes is in faults/."""

import base64
import datetime
import io
import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import functions_framework
import psycopg
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from functions import store as stores
from functions.core import dispatch
from functions.core import policy as policies
from functions.core import settings as environment
from functions.core.policy import DEFAULT, load
from functions.entry import http
from functions.entry.fields import task_id_of
from functions.errors import BadRequestError, Fail, Retry, StoreError
from functions.ops.local.samples import selection_input
from functions.store import Store
from functions.worker import shutdown
from functions.worker.instance import instance
from tests.conftest import copied

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
}
WHATEVER = {
    "kind": "returns",
    "task_id": NOBODY,
    "token": NOBODY,
    "worker_id": "w",
    "error": "It is broken.",
}
"""A body with all that any of them asks for."""
SECRET = "the-password-of-the-database"


# -- the handlers of these tests


def returns(ctx, task_input):
    return {"attempt": ctx.attempt, "picture": "a.png"}


def asks_again(ctx, task_input):
    raise Retry("The provider is busy.", detail="too many requests of ours", after=60)


def gives_up(ctx, task_input):
    raise Fail("The picture cannot be drawn.", detail="the provider said 400")


def breaks(ctx, task_input):
    ctx.progress(0.5, "half of it")
    raise ValueError("a bug in the handler")


def works_on(ctx, task_input):
    while not ctx.cancelled():
        time.sleep(0.01)


HANDLERS = (returns, asks_again, gives_up, breaks, works_on)


# -- the world of these tests


class Entry:
    """The entry points over HTTP, without a socket in between."""

    def __init__(self) -> None:
        self._clients = {}

    def client(self, target):
        if target not in self._clients:
            signature = "cloudevent" if target == "worker_event" else "http"
            self._clients[target] = functions_framework.create_app(
                target, str(MAIN), signature
            ).test_client()
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


class Pushes(list):
    """The dispatcher of these tests. `refuses` makes the queue refuse."""

    refuses = False

    def push(self, watch, task_id, number, delay=0.0):
        if self.refuses:
            raise dispatch.DispatchError("the queue is gone")
        self.append((watch, task_id, number, round(delay)))


@pytest.fixture(scope="module")
def shared(postgres, template):
    """A database and a connection to it."""
    with (
        copied(postgres, template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection,
    ):
        yield dsn, connection


@pytest.fixture
def database(shared):
    """Emptied instead of copied: 2 ms instead of 200."""
    dsn, connection = shared
    for table in (
        "tasks",
        "unstuck.attempts",
        "unstuck.sweeps",
        "unstuck.refusals",
        "unstuck.dispatches",
    ):
        connection.execute(f"delete from {table}".encode())
    return dsn


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("web") / "policy.yaml"
    file.write_text(yaml.safe_dump(policy_of_these_tests()), encoding="utf-8")
    return file


def policy_of_these_tests():
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    rules = {
        one.__name__: {"handler": f"{__name__}:{one.__name__}", "isolation": "thread"}
        for one in HANDLERS
    }
    policy["watches"]["tasks"]["rules"] |= rules
    return policy


@pytest.fixture
def pushed(monkeypatch):
    found = Pushes()
    monkeypatch.setattr(dispatch, "dispatcher", lambda: found)
    return found


@pytest.fixture
def entry(database, policy_file, pushed, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("UNSTUCK_POLICY", str(policy_file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "our-project")
    monkeypatch.setenv("FUNCTION_TARGET", "set by the framework")
    monkeypatch.setattr(sys, "path", [*sys.path])  # the framework appends to it
    monkeypatch.setitem(sys.modules, "main", None)
    forget()
    yield Entry()
    forget()


@pytest.fixture
def another_policy(entry, monkeypatch, tmp_path):
    """Changes the policy for the rest of the test, in a `with` block that is given it."""

    @contextmanager
    def changing():
        policy = policy_of_these_tests()
        yield policy
        (tmp_path / "another.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
        monkeypatch.setenv("UNSTUCK_POLICY", str(tmp_path / "another.yaml"))
        forget()

    return changing


def forget():
    """What a process keeps from its environment."""
    if stores.store.cache_info().currsize:
        stores.store().close()
    for kept in (environment.settings, stores.store, policies.policy, instance):
        kept.cache_clear()


@pytest.fixture
def rows(database, shared):
    """Asks the database."""
    return lambda text, *values: shared[1].execute(text, values).fetchall()


@pytest.fixture
def log(capfd):
    """The log lines that were written since the last call."""

    def lines(*names):
        found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        return [line for line in found if not names or line["event"] in names]

    return lines


@pytest.fixture
def impatient(monkeypatch):
    """The store tries once, and not for seconds."""
    patient = Store._verb
    monkeypatch.setattr(
        Store,
        "_verb",
        lambda self, function, limit=0, again=None, **more: patient(
            self, function, 0, again, **more
        ),
    )


@pytest.fixture
def away(entry, impatient, monkeypatch):
    """The database is not there."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{SECRET}@127.0.0.1:1/db")
    forget()


def error_of(answer):
    """The one form that every error has."""
    assert answer.content_type == "application/json"
    error = answer.json["error"]
    assert set(error) == {"code", "message"}
    assert error["code"].replace("_", "").isalpha()
    assert len(error["message"]) > 10
    return error["code"]


def overdue(rows, task_id):
    """Its deadline passes."""
    rows(
        "update unstuck.attempts set lease_until = now(), deadline_at = now() where task_id = %s returning 1",
        task_id,
    )


def held(task_id):
    """A worker that is at it."""
    answer = stores.store().claim(policies.policy().watch(), task_id, "another-worker")
    assert answer["verdict"] == "claimed"
    return answer


# -- create_task


def test_a_task_is_created_and_pushed(entry, pushed, rows, log):
    answer = entry.ask("create_task", json={"kind": "returns", "input": {"prompt": PAYLOAD}})
    assert (answer.status_code, answer.content_type) == (201, "application/json")
    task_id = answer.json["task_id"]
    assert answer.json == {"task_id": task_id, "state": "pending"}
    [row] = rows("select * from tasks")
    assert (str(row["id"]), row["kind"], row["input"], row["status"]) == (
        task_id,
        "returns",
        {"prompt": PAYLOAD},
        "pending",
    )
    assert pushed == [("tasks", task_id, 1, 0)]
    [line] = log("task_created")
    assert (line["watch"], line["task_id"], line["kind"]) == ("tasks", task_id, "returns")


def test_a_task_needs_no_input(entry, rows):
    assert entry.ask("create_task", json={"kind": "returns"}).status_code == 201
    assert rows("select input from tasks") == [{"input": {}}]


def test_a_kind_with_a_file_in_handlers_needs_no_rule(entry, another_policy):
    with another_policy() as policy:
        del policy["watches"]["tasks"]["rules"]["selection"]
    assert (
        entry.ask("create_task", json={"kind": "selection", "input": selection_input()}).status_code
        == 201
    )


def test_a_rule_with_a_handler_for_every_kind_takes_every_kind(entry, another_policy):
    with another_policy() as policy:
        policy["watches"]["tasks"]["rules"]["*"]["handler"] = f"{__name__}:returns"
    assert entry.ask("create_task", json={"kind": "Any kind at all"}).status_code == 201


def test_the_tasks_of_an_adopted_table_are_not_created_here(entry, another_policy):
    with another_policy() as policy:
        policy["watches"]["theirs"] = policy["watches"]["tasks"] | {
            "own": False,
            "table": "public.theirs",
        }
    answer = entry.ask("create_task", json={"kind": "returns", "watch": "theirs"})
    assert (answer.status_code, error_of(answer)) == (400, "bad_request")
    assert (
        answer.json["error"]["message"]
        == "Tasks of public.theirs are created by its own application."
    )


@pytest.fixture
def cors(entry, monkeypatch):
    def ask(target, origin, method, allowed="https://app.example https://beta.example"):
        monkeypatch.setenv("CORS_ORIGINS", allowed)
        forget()
        answer = entry.client(target).open(
            "/", method=method, headers={"Origin": origin} if origin else {}
        )
        return answer.status_code, answer.headers.get("Access-Control-Allow-Origin")

    return ask


@pytest.mark.parametrize("target", ["create_task", "task_status", "cancel_task"])
def test_a_page_of_an_allowed_origin_may_ask_what_a_client_asks(entry, cors, target):
    assert cors(target, "https://app.example", "OPTIONS") == (204, "https://app.example")
    assert cors(target, "https://elsewhere.example", "OPTIONS", "*") == (
        204,
        "https://elsewhere.example",
    )
    status, origin = cors(target, "https://beta.example", "PATCH")
    assert (status, origin) == (405, "https://beta.example"), "it can read the errors too"


@pytest.mark.parametrize(
    ("target", "origin", "allowed"),
    [
        ("create_task", "https://app.example.evil", "https://app.example"),
        ("create_task", "https://app.example", ""),
        ("create_task", None, "*"),
        ("worker", "https://app.example", "*"),
        ("claim_task", "https://app.example", "*"),
        ("sweep", "https://app.example", "*"),
    ],
)
def test_no_other_page_may_and_nobody_s_page_asks_what_a_worker_asks(cors, target, origin, allowed):
    assert cors(target, origin, "OPTIONS", allowed) == (405, None)


def test_a_task_has_the_price_that_the_caller_was_told(entry, another_policy, rows):
    with another_policy() as policy:
        watch = policy["watches"]["tasks"]
        watch["hooks"] = {"on_created": "pg_catalog.length"}  # any function that takes a text
        watch["rules"]["returns"] |= {"cost": 25}
        watch["rules"]["gives_up"] |= {"cost": {"at_least": 5, "at_most": 500}}
    for kind, cost, status in (
        ("returns", None, 201),
        ("returns", 25, 201),
        ("returns", 20, 409),
        ("returns", "25", 400),
        ("gives_up", None, 400),
        ("gives_up", 7, 201),
        ("gives_up", 501, 409),
        ("gives_up", True, 400),
    ):
        answer = entry.ask("create_task", json={"kind": kind, "input": {}, "cost": cost})
        assert (kind, cost, answer.status_code) == (kind, cost, status), answer.text
        assert status < 300 or "costs" in answer.json["error"]["message"]
    assert [row["metadata"] for row in rows("select metadata from tasks order by created_at")] == [
        {"cost": 25},
        {"cost": 25},
        {"cost": 7},
    ]


def test_a_hook_that_refuses_a_task_says_the_status_and_the_reason(entry, monkeypatch, log):
    def refuses(*_, **__):
        raise StoreError(
            "tasks_create: The task costs 25 cents, and 3 are left.", retryable=False, code="PT402"
        )

    monkeypatch.setattr(Store, "create", refuses)
    answer = entry.ask("create_task", json={"kind": "returns", "input": {}})
    assert (answer.status_code, error_of(answer)) == (402, "payment_required")
    assert answer.json["error"]["message"] == "The task costs 25 cents, and 3 are left."
    assert log("request_failed") == []


def test_a_unique_index_of_yours_refuses_a_second_task(entry, shared, rows, log):
    order = {"kind": "returns", "input": {"order": "7"}}
    shared[1].execute("create unique index yours on tasks ((input ->> 'order'))")
    try:
        assert entry.ask("create_task", json=order).status_code == 201
        answer = entry.ask("create_task", json=order)
    finally:
        shared[1].execute("drop index yours")
    assert (answer.status_code, error_of(answer)) == (409, "unique")
    assert "yours" not in answer.text
    assert log("request_failed") == []
    assert len(rows("select from tasks")) == 1


@pytest.mark.parametrize("code", ["PT500", "PT499", "P0001", ""])
def test_a_database_that_refuses_for_another_reason_is_no_mistake_of_the_caller(
    entry, monkeypatch, code
):
    def refuses(*_, **__):
        raise StoreError("tasks_create: no", retryable=False, code=code)

    monkeypatch.setattr(Store, "create", refuses)
    assert entry.ask("create_task", json={"kind": "returns", "input": {}}).status_code == 500


def test_the_same_key_finds_the_task_that_is_there(entry, pushed, rows, log):
    task = {"kind": "returns", "input": {"n": 1}, "idempotency_key": "order-7"}
    first = entry.ask("create_task", json=task)
    again = entry.ask("create_task", json=task)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    assert pushed == [("tasks", first.json["task_id"], 1, 0)] * 2, (
        "the first push may be what was lost"
    )
    assert len(log("task_created")) == len(rows("select from tasks")) == 1


def test_a_repeated_create_of_an_ended_task_tells_its_state_and_pushes_nothing(entry, pushed):
    task_id = entry.create(idempotency_key="order-7")
    assert entry.work(task_id).status_code == 200
    pushed.clear()
    again = entry.ask(
        "create_task",
        json={"kind": "returns", "input": {"prompt": PAYLOAD}, "idempotency_key": "order-7"},
    )
    assert (again.status_code, again.json) == (200, {"task_id": task_id, "state": "completed"})
    assert pushed == []


@pytest.mark.parametrize("change", [{"input": {"n": 2}}, {"kind": "breaks"}])
def test_the_same_key_for_another_task_is_a_conflict(entry, rows, change):
    task = {"kind": "returns", "input": {"n": 1}, "idempotency_key": "order-7"}
    entry.ask("create_task", json=task)
    answer = entry.ask("create_task", json=task | change)
    assert (answer.status_code, error_of(answer)) == (409, "conflict")
    assert len(rows("select from tasks")) == 1


def test_priority_and_time_are_kept_and_the_push_waits(entry, pushed, rows):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
    task_id = entry.create(priority=-7, scheduled_at=at.isoformat())
    [row] = rows("select priority, scheduled_at from tasks")
    assert row["priority"] == -7
    assert abs((row["scheduled_at"] - at).total_seconds()) < 10
    [(_, found, number, delay)] = pushed
    assert (found, number) == (task_id, 1)
    assert 7190 <= delay <= 7200


def test_a_time_that_has_passed_means_now(entry, pushed):
    entry.create(scheduled_at="2001-01-01T00:00:00Z", priority=1000)
    assert [delay for *_, delay in pushed] == [0]


def test_a_push_that_the_queue_refuses_does_not_fail_the_create(entry, pushed, log):
    pushed.refuses = True
    task_id = entry.create()
    [line] = log("dispatch_failed")
    assert (line["task_id"], line["severity"]) == (task_id, "ERROR")


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "bad_request", "must be a JSON object"),
        (b"{", "bad_request", "not JSON"),
        (b"\xff", "bad_request", "not JSON"),
        (b"[" * 100_000, "bad_request", "not JSON"),
        (b'{"kind": ' + b"9" * 5000 + b"}", "bad_request", "not JSON"),
        (b"[]", "bad_request", "must be a JSON object"),
        (b'"returns"', "bad_request", "must be a JSON object"),
        (b'{"kind": "returns", "input": {"n": NaN}}', "bad_request", "NaN"),
        (b'{"kind": "returns", "input": {"n": 1e999}}', "bad_request", "NaN"),
        (b'{"kind": "returns", "input": {"n": "\\u0000"}}', "bad_request", "NUL"),
        (b'{"kind": "returns", "input": {"n": "\\\\\\u0000"}}', "bad_request", "NUL"),
        (b'{"kind": "returns", "input": {"\\ud800": 1}}', "bad_request", "surrogate"),
        ({}, "bad_request", "`kind` is missing"),
        ({"kind": ""}, "bad_request", "`kind` must be a text"),
        ({"kind": None}, "bad_request", "`kind` is missing"),
        ({"kind": 7}, "bad_request", "`kind` must be a text"),
        ({"kind": "k" * 201}, "bad_request", "of 1 to 200 characters"),
        (
            {"kind": "nothing_like_it"},
            "unknown_kind",
            "Put one in functions/handlers/nothing_like_it.py",
        ),
        ({"kind": "*"}, "unknown_kind", "No handler is called '*'"),
        ({"kind": "../etc/passwd"}, "unknown_kind", "No handler"),
        ({"kind": "image.handle"}, "unknown_kind", "No handler"),
        ({"kind": "__init__"}, "unknown_kind", "No handler"),
        ({"kind": "Returns"}, "unknown_kind", "No handler"),
        ({"kind": "returns", "input": []}, "bad_request", "`input` must be a JSON object"),
        ({"kind": "returns", "input": None}, "bad_request", "`input` must be a JSON object"),
        ({"kind": "returns", "priority": 1001}, "bad_request", "-1000 to 1000"),
        ({"kind": "returns", "priority": 1.5}, "bad_request", "-1000 to 1000"),
        ({"kind": "returns", "priority": True}, "bad_request", "-1000 to 1000"),
        ({"kind": "returns", "priority": "1"}, "bad_request", "-1000 to 1000"),
        ({"kind": "returns", "scheduled_at": "tomorrow"}, "bad_request", "a time with a zone"),
        (
            {"kind": "returns", "scheduled_at": "2026-01-31T12:00:00"},
            "bad_request",
            "a time with a zone",
        ),
        ({"kind": "returns", "scheduled_at": 1767225600}, "bad_request", "a time with a zone"),
        (
            {"kind": "returns", "scheduled_at": "9999-12-31T23:59:59-23:59"},
            "bad_request",
            "30 days ahead at most",
        ),
        ({"kind": "returns", "idempotency_key": ""}, "bad_request", "1 to 200 characters"),
        ({"kind": "returns", "idempotency_key": 7}, "bad_request", "must be a text"),
        ({"kind": "returns", "watch": "nothing"}, "bad_request", "There are: tasks."),
        ({"kind": "returns", "watch": ["tasks"]}, "bad_request", "`watch` must be a text"),
    ],
)
def test_a_bad_create_is_refused_with_the_next_step(entry, pushed, rows, body, code, says):
    answer = entry.ask("create_task", data=body if isinstance(body, bytes) else json.dumps(body))
    assert (answer.status_code, error_of(answer)) == (400, code)
    assert says in answer.json["error"]["message"]
    assert (pushed, rows("select from tasks")) == ([], [])


def test_a_text_that_only_looks_like_a_nul_is_stored(entry, rows):
    entry.ask("create_task", json={"kind": "returns", "input": {"n": "\\u0000"}})
    assert rows("select input from tasks") == [{"input": {"n": "\\u0000"}}]


def test_a_body_that_is_too_large_is_refused(entry):
    answer = entry.ask("create_task", data=b" " * (http.MAX_BODY + 1))
    assert (answer.status_code, error_of(answer)) == (413, "too_large")


def test_a_body_without_a_length_is_measured_too(entry):
    chunked = {
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
    }
    body = b" " * (http.MAX_BODY + 1)
    answer = entry.ask("create_task", input_stream=io.BytesIO(body), environ_overrides=chunked)
    assert (answer.status_code, error_of(answer)) == (413, "too_large")
    task = io.BytesIO(b'{"kind": "returns"}')
    assert entry.ask("create_task", input_stream=task, environ_overrides=chunked).status_code == 201


# -- task_status


def test_a_waiting_task_is_told_by_query_and_by_path(entry):
    task_id = entry.create()
    answer = entry.ask("task_status", f"/?task_id={task_id}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {
        "task_id": task_id,
        "kind": "returns",
        "state": "pending",
        "result": None,
        "error": None,
        "reason": None,
        "due_in": 0,
        "attempt": None,
    }
    assert entry.ask("task_status", f"/{task_id}").json == answer.json
    assert entry.ask("task_status", f"/?watch=tasks&task_id={task_id.upper()}").json == answer.json


def test_an_ended_task_shows_its_result(entry):
    task_id = entry.create()
    entry.work(task_id)
    shown = entry.status(task_id)
    assert (shown["state"], shown["result"]) == ("completed", {"attempt": 1, "picture": "a.png"})
    assert shown["attempt"]["number"] == 1
    assert shown["attempt"]["outcome"] == "completed"


def test_an_unknown_task_is_not_found(entry):
    answer = entry.ask("task_status", f"/?task_id={NOBODY}")
    assert (answer.status_code, error_of(answer)) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?task_id=",
        "/?task_id=7",
        "/?task_id=%00",
        "/robots",
        "/a/b",
        f"/?task_id={NOBODY}&watch=nothing",
    ],
)
def test_a_bad_poll_is_refused(entry, path):
    answer = entry.ask("task_status", path)
    assert (answer.status_code, error_of(answer)) == (400, "bad_request")


@pytest.mark.parametrize(
    ("key_type", "given", "found"),
    [
        ("uuid", NOBODY.upper(), NOBODY),
        ("uuid", NOBODY.replace("-", ""), NOBODY),
        ("uuid", "7", None),
        ("uuid", 7, None),
        ("integer", 7, "7"),
        ("integer", "-07", "-7"),
        ("integer", 2**31 - 1, str(2**31 - 1)),
        ("integer", 2**31, None),
        ("integer", -(2**31), str(-(2**31))),
        ("integer", -(2**31) - 1, None),
        ("integer", "7.5", None),
        ("bigint", 2**31, str(2**31)),
        ("bigint", 2**63 - 1, str(2**63 - 1)),
        ("bigint", 2**63, None),
        ("bigint", "9" * 5000, None),
        ("text", "a/b c", "a/b c"),
        ("text", 7, "7"),
        ("text", "a\0b", None),
        ("text", "\ud800", None),
        ("text", "", None),
        ("text", True, None),
        ("text", None, None),
        ("text", ["a"], None),
        ("text", 7.5, None),
    ],
)
def test_an_id_is_what_the_key_of_its_table_can_be(key_type, given, found):
    watch = replace(load(str(DEFAULT)).watch(), key_type=key_type)
    if found is None:
        with pytest.raises(BadRequestError, match=rf"must be a {key_type}\.|is missing\. Send"):
            task_id_of(watch, given)
    else:
        assert task_id_of(watch, given) == found


def test_a_poll_heals_an_overdue_task_and_pushes_it_again(entry, pushed, rows, log):
    task_id = entry.create()
    token = held(task_id)["token"]
    overdue(rows, task_id)
    pushed.clear()
    shown = entry.status(task_id)
    assert (shown["state"], shown["attempt"]["outcome"]) == ("pending", "retried")
    [(watch, found, number, delay)] = pushed
    assert (watch, found, number) == ("tasks", task_id, 2)
    assert 0 <= delay <= 2
    [line] = log("task_requeued")
    assert (line["by"], line["reason"], line["number"], line["task_id"]) == (
        "status",
        "deadline",
        1,
        task_id,
    )
    late = stores.store().settle(policies.policy().watch(), task_id, token, "complete", result={})
    assert late["verdict"] == "lost", "the worker that came back has nothing to say"


def test_a_poll_ends_a_task_that_nobody_picked_up(entry, pushed, rows, log):
    task_id = entry.create()
    rows("update tasks set scheduled_at = now() - interval '16 minutes' returning 1")
    pushed.clear()
    shown = entry.status(task_id)
    assert (shown["state"], shown["reason"]) == ("failed", "never_claimed")
    assert shown["error"] == "No worker picked the task up in time."
    assert pushed == []
    assert [(line["by"], line["severity"]) for line in log("task_finished")] == [
        ("status", "WARNING")
    ]


def test_a_user_sees_neither_the_worker_nor_the_technical_side(entry, rows):
    said = {}
    for kind in ("gives_up", "breaks", "asks_again"):
        task_id = entry.create(kind)
        entry.work(task_id)
        said[kind] = entry.status(task_id)
    assert said["gives_up"]["error"] == "The picture cannot be drawn."
    assert {row["detail"] is None for row in rows("select detail from unstuck.attempts")} == {False}
    for text in map(json.dumps, said.values()):
        for hidden in (
            "provider said",
            "too many",
            "Traceback",
            "a bug in the handler",
            "worker",
            "token",
            PAYLOAD,
        ):
            assert hidden not in text


# -- worker


def test_a_pushed_task_is_run_to_its_end(entry, log):
    task_id = entry.create()
    answer = entry.work(task_id, number=1, watch="tasks")
    assert answer.status_code == 200
    assert answer.json == {
        "task_id": task_id,
        "verdict": "settled",
        "state": "completed",
        "reason": None,
    }
    assert entry.status(task_id)["state"] == "completed"
    claimed, finished = log("task_claimed", "task_finished")
    assert (claimed["worker"], claimed["number"]) == (environment.settings().instance, 1)
    assert (finished["state"], finished["by"], finished["severity"]) == (
        "completed",
        "guard",
        "INFO",
    )


def test_a_second_push_of_an_ended_task_is_acknowledged_and_does_nothing(entry, rows):
    task_id = entry.create()
    entry.work(task_id)
    answer = entry.work(task_id)
    assert (answer.status_code, answer.json["verdict"]) == (200, "ended")
    assert len(rows("select from unstuck.attempts")) == 1


def test_a_push_of_an_unknown_task_is_not_found(entry):
    answer = entry.work(NOBODY)
    assert (answer.status_code, error_of(answer)) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"task_id": null}',
        b'{"task_id": true}',
        b'{"task_id": ""}',
        b'{"task_id": "x"}',
        b'{"task_id": {}}',
        b'{"task_id": 7}',
        b'{"task_id": "\\u0000"}',
        b'{"task_id": "x", "watch": 7}',
    ],
)
def test_a_bad_push_is_refused(entry, body):
    answer = entry.ask("worker", data=body)
    assert (answer.status_code, error_of(answer)) == (400, "bad_request")


def test_a_push_of_a_held_task_asks_to_come_again_and_leaves_the_holder_alone(entry, rows):
    task_id = entry.create()
    held(task_id)
    answer = entry.work(task_id)
    assert (answer.status_code, error_of(answer)) == (409, "held")
    assert (answer.json["task_id"], answer.json["state"]) == (task_id, "running")
    assert 1 < int(answer.headers["Retry-After"]) <= 120
    assert [
        row["worker"] for row in rows("select worker from unstuck.attempts where ended_at is null")
    ] == ["another-worker"]


def test_a_push_of_a_task_whose_worker_is_overdue_takes_it_over(entry, rows, log):
    task_id = entry.create()
    held(task_id)
    overdue(rows, task_id)
    assert entry.work(task_id).status_code == 200
    [line] = log("task_requeued")
    assert (line["by"], line["reason"], line["number"]) == ("claim", "deadline", 1)
    assert entry.status(task_id)["result"]["attempt"] == 2


def test_a_push_that_comes_long_before_its_time_asks_to_come_again(entry):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    answer = entry.work(entry.create(scheduled_at=at.isoformat()))
    assert (answer.status_code, error_of(answer)) == (409, "early")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3601


def test_a_task_that_is_pending_again_is_pushed_and_the_queue_is_done_with_this_push(entry, pushed):
    task_id = entry.create("asks_again")
    answer = entry.work(task_id)
    assert (answer.status_code, answer.json["state"], answer.json["reason"]) == (
        200,
        "pending",
        "transient",
    )
    assert pushed == [("tasks", task_id, 1, 0), ("tasks", task_id, 2, 60)]


def test_a_task_that_could_not_be_pushed_again_is_asked_to_come_again(entry, pushed, log):
    task_id = entry.create("asks_again")
    pushed.refuses = True
    answer = entry.work(task_id)
    assert (answer.status_code, error_of(answer)) == (503, "settled")
    assert int(answer.headers["Retry-After"]) >= 60
    assert len(log("dispatch_failed")) == 1


def test_a_worker_that_is_shut_down_claims_nothing_more(entry, rows, monkeypatch):
    task_id = entry.create("works_on")
    monkeypatch.setattr(shutdown, "requested", threading.Event())
    shutdown.requested.set()
    answer = entry.work(task_id)
    assert (answer.status_code, error_of(answer), answer.headers["Retry-After"]) == (
        503,
        "shutdown",
        "2",
    )
    assert rows("select outcome from unstuck.attempts") == []


@pytest.mark.parametrize("target", METHODS)
def test_without_the_database_every_entry_point_asks_to_come_again(away, entry, log, target):
    path = f"/?task_id={NOBODY}" if target == "task_status" else "/"
    answer = entry.ask(target, path, json=WHATEVER)
    assert (answer.status_code, error_of(answer)) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert SECRET not in answer.text
    lines = log()
    assert [line["event"] for line in lines if line["severity"] == "ERROR"][-1] == "request_failed"
    assert SECRET not in json.dumps(lines)


@pytest.mark.parametrize("target", METHODS)
def test_a_database_that_refuses_is_an_error_with_the_next_step_in_the_log(
    entry, empty_database, monkeypatch, log, target
):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    forget()
    path = f"/?task_id={NOBODY}" if target == "task_status" else "/"
    answer = entry.ask(target, path, json=WHATEVER)
    assert (answer.status_code, error_of(answer)) == (500, "store")
    assert "unstuck" not in answer.json["error"]["message"]
    assert "python -m functions migrate --apply" in log("request_failed")[0]["error"]
    forget()  # or its connection keeps the database from being dropped


@pytest.mark.parametrize("target", METHODS)
def test_an_unexpected_error_is_logged_whole_and_told_without_internals(
    entry, monkeypatch, log, target
):
    def fails():
        raise RuntimeError(SECRET)

    for module in ("create", "status", "cancel", "claim", "beat", "complete", "worker", "tick"):
        monkeypatch.setattr(f"functions.{module}.policy", fails)
    answer = entry.ask(target, json=WHATEVER)
    assert (answer.status_code, error_of(answer)) == (500, "internal")
    assert SECRET not in answer.text
    [line] = log("request_failed")
    assert (line["entry"], line["severity"]) == (target, "ERROR")
    assert SECRET in line["error"]
    assert "in fails" in line["detail"]


@pytest.mark.parametrize("target", METHODS)
def test_a_policy_that_cannot_be_used_is_told_to_the_operator_only(
    entry, monkeypatch, tmp_path, log, target
):
    (tmp_path / "broken.yaml").write_text("watches: 7", encoding="utf-8")
    monkeypatch.setenv("UNSTUCK_POLICY", str(tmp_path / "broken.yaml"))
    forget()
    answer = entry.ask(target, json=WHATEVER)
    assert (answer.status_code, error_of(answer)) == (500, "policy")
    assert "yaml" not in answer.text
    assert "broken.yaml:1: the file: lacks `platform`" in log("request_failed")[0]["error"]


@pytest.mark.parametrize(("target", "method"), METHODS.items())
def test_a_wrong_method_is_refused_and_the_right_one_named(entry, target, method):
    for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} - {method}:
        answer = entry.ask(target, method=wrong)
        assert (answer.status_code, answer.headers["Allow"]) == (405, method)
        if wrong != "HEAD":
            assert error_of(answer) == "method_not_allowed"
            assert answer.json["error"]["message"] == f"{target} takes {method}, not {wrong}."


# -- worker_event


def test_a_message_runs_its_task(entry):
    task_id = entry.create()
    answer = entry.event({"task_id": task_id, "watch": "tasks", "number": 1})
    assert (answer.status_code, answer.text) == (200, "OK")
    assert entry.status(task_id)["state"] == "completed"


def test_a_message_in_one_piece_runs_its_task_too(entry):
    """The structured form of a CloudEvent: all of it in the body."""
    task_id = entry.create()
    data = base64.b64encode(json.dumps({"task_id": task_id}).encode()).decode()
    event = {
        "id": "1",
        "source": "//pubsub",
        "type": "t",
        "specversion": "1.0",
        "data": {"message": {"data": data}},
    }
    answer = entry.client("worker_event").post(
        "/", data=json.dumps(event), content_type="application/cloudevents+json"
    )
    assert answer.status_code == 200
    assert entry.status(task_id)["state"] == "completed"


def test_a_message_of_a_held_task_is_delivered_again(entry):
    task_id = entry.create()
    held(task_id)
    assert entry.event({"task_id": task_id}).status_code == 500


def test_a_message_of_an_ended_or_an_unknown_task_is_done_with(entry):
    task_id = entry.create()
    entry.work(task_id)
    assert entry.event({"task_id": task_id}).status_code == 200
    assert entry.event({"task_id": NOBODY}).status_code == 200


def test_a_message_that_finds_no_database_is_delivered_again(away, entry, log):
    answer = entry.event({"task_id": NOBODY})
    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert [line["entry"] for line in log("request_failed")] == ["worker_event"]


def test_an_unexpected_error_of_a_message_is_logged_whole_and_the_message_delivered_again(
    entry, monkeypatch, log
):
    def fails(*_):
        raise RuntimeError(SECRET)

    monkeypatch.setattr("functions.entry.worker.guard", fails)
    answer = entry.event({"task_id": NOBODY})
    assert answer.status_code == 500
    assert SECRET not in answer.text
    [line] = log("request_failed")
    assert (line["entry"], line["severity"]) == ("worker_event", "ERROR")
    assert SECRET in line["error"]
    assert "in fails" in line["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        7,
        None,
        {"message": None},
        {"message": {}},
        {"message": {"data": None}},
        {"message": {"data": "not base64 at all"}},
        {"message": {"data": "w7w="}},
        {"message": {"data": "e30="}},
        {"message": {"data": "W10="}},
        {"message": {"data": base64.b64encode(b'{"task_id": "x"}').decode()}},
        {"message": {"data": base64.b64encode(b'{"task_id": "\\ud800"}').decode()}},
        {"message": {"data": base64.b64encode(b"[" * 100_000).decode()}},
    ],
)
def test_a_message_that_names_no_task_is_said_and_not_delivered_for_ever(entry, log, body):
    assert entry.raw_event(body).status_code == 200
    [line] = log()
    assert (line["event"], line["entry"], line["severity"]) == (
        "request_failed",
        "worker_event",
        "ERROR",
    )


def test_what_is_not_an_event_is_refused(entry):
    assert entry.client("worker_event").post("/", json={}).status_code == 400
    assert entry.client("worker_event").get("/").status_code == 405


# -- sweep


def test_a_sweep_says_how_long_the_oldest_task_has_waited_that_may_run_now(entry, rows):
    entry.create()
    first, later = entry.create(), entry.create()
    rows(
        "update tasks set scheduled_at = now() - interval '90 seconds' where id = %s returning 1",
        first,
    )
    rows(
        "update tasks set scheduled_at = now() + interval '1 hour' where id = %s returning 1", later
    )
    assert 90 <= entry.ask("sweep").json["oldest_pending_seconds"] < 150
    rows("delete from tasks where id <> %s returning 1", later)
    assert entry.ask("sweep").json["oldest_pending_seconds"] == 0, "what is for later does not wait"


def test_a_sweep_tells_its_counts(entry, pushed, rows, log):
    waiting, lost, spent = entry.create(), entry.create(), entry.create()
    rows(
        "update tasks set scheduled_at = now() - interval '1 day' where id = %s returning 1",
        waiting,
    )
    pushed_again = "insert into unstuck.dispatches (watch, task_id, times, at) values ('tasks', %s, 2, now() - interval '20 h')"
    rows(f"{pushed_again} returning 1", waiting)
    for task_id in (lost, spent):
        held(task_id)
        overdue(rows, task_id)
    rows("update unstuck.attempts set tries = 3 where task_id = %s returning 1", spent)
    pushed.clear()
    answer = entry.ask(
        "sweep",
        headers={
            "X-CloudScheduler-JobName": "every-minute",
            "X-CloudScheduler-ScheduleTime": "12:00",
        },
    )
    assert (answer.status_code, answer.json["verdict"]) == (200, "ok")
    counts = {
        "failed": 2,
        "requeued": 1,
        "redispatched": 0,
        "suspended": 0,
        "unsweepable": 0,
        "orphaned": 0,
        "pruned": 0,
    }
    assert counts.items() <= answer.json.items()
    assert 85000 < answer.json["oldest_overdue_seconds"] < 87000
    [run] = rows("select key, by, ok, counts from unstuck.sweeps")
    assert (run["key"], run["by"], run["ok"]) == ("12:00", "every-minute", True)
    assert counts.items() <= run["counts"].items()
    assert [entry.status(one)["state"] for one in (waiting, lost, spent)] == [
        "failed",
        "pending",
        "failed",
    ]
    assert [(task_id, number) for _, task_id, number, _ in pushed] == [(lost, 2)]
    lines = log()
    assert [line["outcome"] for line in lines if line["event"] == "sweep_finished"] == ["ok"]
    assert {line["reason"] for line in lines if line["event"] == "task_finished"} == {
        "never_claimed",
        "attempts_exhausted",
    }


def test_the_same_call_twice_sweeps_once(entry, rows, log):
    headers = {"X-CloudScheduler-ScheduleTime": "2026-01-31T12:00:00Z"}
    assert entry.ask("sweep", headers=headers).json["verdict"] == "ok"
    task_id = entry.create()
    held(task_id)
    overdue(rows, task_id)
    answer = entry.ask("sweep", headers=headers)
    assert (answer.status_code, answer.json) == (200, {"verdict": "duplicate"})
    assert rows("select status from tasks") == [{"status": "processing"}]
    assert [line["verdict"] for line in log("sweep_skipped")] == ["duplicate"]
    assert entry.ask("sweep").json["requeued"] == 1, "a call without a time is never a duplicate"


def test_a_sweep_beside_a_sweep_does_nothing(entry, rows):
    rows("insert into unstuck.sweeps (until) values (now() + interval '1 minute') returning 1")
    answer = entry.ask("sweep")
    assert (answer.status_code, answer.json) == (200, {"verdict": "running"})


def test_a_sweep_that_fails_on_the_way_says_so_everywhere(entry, rows, log, monkeypatch):
    def fails(*_):
        raise StoreError(f"connection lost: {SECRET}", retryable=True)

    monkeypatch.setattr(Store, "suspend", fails)
    answer = entry.ask("sweep", headers={"X-CloudScheduler-ScheduleTime": "12:00"})
    assert (answer.status_code, error_of(answer)) == (500, "sweep")
    assert SECRET not in answer.text
    [line] = log("sweep_finished")
    assert (line["outcome"], line["severity"]) == ("error", "ERROR")
    assert "connection lost" in line["error"]
    assert rows("select ok from unstuck.sweeps") == [{"ok": False}]
    monkeypatch.undo()
    again = entry.ask("sweep", headers={"X-CloudScheduler-ScheduleTime": "12:00"})
    assert again.json["verdict"] == "ok", "a repetition of a call that failed is not a duplicate"


def test_a_sweep_that_could_not_even_begin_counts_as_a_failed_one(away, entry, log):
    entry.ask("sweep")
    assert [(line["outcome"], line["severity"]) for line in log("sweep_finished")] == [
        ("error", "ERROR")
    ]


# -- what all have in common

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"X-Cloud-Trace-Context": f"{TRACE}/67667974448284343;o=1"}, TRACE),
        ({"X-Cloud-Trace-Context": TRACE}, TRACE),
        (
            {
                "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
                "X-Cloud-Trace-Context": f"{'0' * 32}/1",
            },
            TRACE,
        ),
        ({"traceparent": "nonsense", "X-Cloud-Trace-Context": f"{TRACE}/1"}, TRACE),
        ({"traceparent": "a-b-c-d"}, None),
        ({"X-Cloud-Trace-Context": "../../etc"}, None),
        ({}, None),
    ],
)
def test_each_line_of_a_request_carries_its_trace(entry, log, headers, found):
    entry.ask("create_task", json={"kind": "returns"}, headers=headers)
    entry.ask("sweep", headers=headers)
    lines = log()
    assert [line["event"] for line in lines] == ["task_created", "sweep_finished"]
    expected = f"projects/our-project/traces/{found}" if found else None
    assert {line.get("logging.googleapis.com/trace") for line in lines} == {expected}


def test_no_line_and_no_error_shows_what_a_task_is_about(entry, rows, capfd):
    for kind in ("returns", "asks_again", "gives_up", "breaks"):
        task_id = entry.create(kind, idempotency_key=kind)
        entry.work(task_id)
        entry.event({"task_id": task_id})
        entry.status(task_id)
        again = entry.ask(
            "create_task",
            json={"kind": "breaks", "input": {"other": PAYLOAD}, "idempotency_key": kind},
        )
        assert PAYLOAD not in again.text
    rows(
        "update tasks set scheduled_at = now() - interval '1 day' where status = 'pending' returning 1"
    )
    entry.ask("sweep")
    said = capfd.readouterr()
    assert len(said.out.splitlines()) > 15
    assert PAYLOAD not in said.out + said.err


# -- whatever is sent, it is never our error

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([NOBODY, "returns"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = {
    name: st.just(usual) | ANYTHING
    for name, usual in {
        "kind": "returns",
        "input": {},
        "priority": 1,
        "scheduled_at": "2030-01-01T00:00:00Z",
        "idempotency_key": "k",
        "watch": "tasks",
        "task_id": NOBODY,
    }.items()
}
TIMES = st.datetimes(timezones=st.timezones()).map(datetime.datetime.isoformat)
OBJECTS = st.fixed_dictionaries(
    {}, optional=FIELDS | {"scheduled_at": FIELDS["scheduled_at"] | TIMES}
)
BODIES = (
    st.binary()
    | st.text().map(str.encode)
    | (OBJECTS | ANYTHING).map(lambda one: json.dumps(one).encode())
)
FUZZ = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(BODIES)
def test_no_body_makes_the_create_fail(entry, body):
    answer = entry.ask("create_task", data=body)
    assert answer.status_code in {200, 201, 400, 409, 413}, answer.text
    assert answer.status_code < 400 or error_of(answer)


@FUZZ
@given(BODIES)
def test_no_body_makes_the_worker_fail(entry, body):
    answer = entry.ask("worker", data=body)
    assert answer.status_code in {400, 404, 413}, answer.text
    assert error_of(answer)


@FUZZ
@given(
    st.binary(),
    st.sampled_from(["task_id", "watch", "x"]),
    st.binary() | st.uuids().map(lambda one: str(one).encode()),
)
def test_no_query_makes_the_status_fail(entry, path, name, value):
    path = quote(path.replace(b"/", b""), safe="")
    answer = entry.ask("task_status", f"/{path}?{name}={quote(value)}")
    assert answer.status_code in {400, 404}, answer.text


@FUZZ
@given(BODIES)
def test_no_message_makes_the_worker_event_fail(entry, body):
    assert entry.event(body).status_code == 200


HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=255))
NAMES = st.sampled_from(["traceparent", "X-Cloud-Trace-Context", "X-CloudScheduler-JobName"])


@FUZZ
@given(st.dictionaries(NAMES, HEADERS))
def test_no_header_makes_the_sweep_fail(entry, headers):
    assert entry.ask("sweep", headers=headers).status_code == 200
