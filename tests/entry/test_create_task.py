"""create_task: a client's task is written, pushed, or refused with the next step."""

import datetime
import json

import pytest
from hypothesis import given

from functions.errors import StoreError
from functions.ops.local.samples import selection_input
from functions.store import Store
from tests.entry.steps import PAYLOAD, error_code
from tests.entry.strategies import BODIES, FUZZ


def test_a_task_is_created_and_pushed(http, pushed, rows, log):
    answer = http.ask("create_task", json={"kind": "returns", "input": {"prompt": PAYLOAD}})
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


def test_a_task_needs_no_input(http, rows):
    assert http.ask("create_task", json={"kind": "returns"}).status_code == 201
    assert rows("select input from tasks") == [{"input": {}}]


def test_a_kind_with_a_file_in_handlers_needs_no_rule(http, another_policy):
    with another_policy() as policy:
        del policy["watches"]["tasks"]["rules"]["selection"]
    assert (
        http.ask("create_task", json={"kind": "selection", "input": selection_input()}).status_code
        == 201
    )


def test_a_rule_with_a_handler_for_every_kind_takes_every_kind(http, another_policy):
    with another_policy() as policy:
        policy["watches"]["tasks"]["rules"]["*"]["handler"] = "tests.entry.handlers:returns"
    assert http.ask("create_task", json={"kind": "Any kind at all"}).status_code == 201


def test_the_tasks_of_an_adopted_table_are_not_created_here(http, another_policy):
    with another_policy() as policy:
        policy["watches"]["theirs"] = policy["watches"]["tasks"] | {
            "own": False,
            "table": "public.theirs",
        }
    answer = http.ask("create_task", json={"kind": "returns", "watch": "theirs"})
    assert (answer.status_code, error_code(answer)) == (400, "bad_request")
    assert (
        answer.json["error"]["message"]
        == "Tasks of public.theirs are created by its own application."
    )


def test_a_task_has_the_price_that_the_caller_was_told(http, another_policy, rows):
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
        answer = http.ask("create_task", json={"kind": kind, "input": {}, "cost": cost})
        assert (kind, cost, answer.status_code) == (kind, cost, status), answer.text
        assert status < 300 or "costs" in answer.json["error"]["message"]
    assert [row["metadata"] for row in rows("select metadata from tasks order by created_at")] == [
        {"cost": 25},
        {"cost": 25},
        {"cost": 7},
    ]


def test_a_hook_that_refuses_a_task_says_the_status_and_the_reason(http, monkeypatch, log):
    def refuses(*_, **__):
        raise StoreError(
            "tasks_create: The task costs 25 cents, and 3 are left.", retryable=False, code="PT402"
        )

    monkeypatch.setattr(Store, "create", refuses)
    answer = http.ask("create_task", json={"kind": "returns", "input": {}})
    assert (answer.status_code, error_code(answer)) == (402, "payment_required")
    assert answer.json["error"]["message"] == "The task costs 25 cents, and 3 are left."
    assert log("request_failed") == []


def test_a_unique_index_of_yours_refuses_a_second_task(http, db, rows, log):
    order = {"kind": "returns", "input": {"order": "7"}}
    db.execute("create unique index yours on tasks ((input ->> 'order'))")
    try:
        assert http.ask("create_task", json=order).status_code == 201
        answer = http.ask("create_task", json=order)
    finally:
        db.execute("drop index yours")
    assert (answer.status_code, error_code(answer)) == (409, "unique")
    assert "yours" not in answer.text
    assert log("request_failed") == []
    assert len(rows("select from tasks")) == 1


@pytest.mark.parametrize("code", ["PT500", "PT499", "P0001", ""])
def test_a_database_that_refuses_for_another_reason_is_no_mistake_of_the_caller(
    http, monkeypatch, code
):
    def refuses(*_, **__):
        raise StoreError("tasks_create: no", retryable=False, code=code)

    monkeypatch.setattr(Store, "create", refuses)
    assert http.ask("create_task", json={"kind": "returns", "input": {}}).status_code == 500


def test_the_same_key_finds_the_task_that_is_there(http, pushed, rows, log):
    task = {"kind": "returns", "input": {"n": 1}, "idempotency_key": "order-7"}
    first = http.ask("create_task", json=task)
    again = http.ask("create_task", json=task)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    assert pushed == [("tasks", first.json["task_id"], 1, 0)] * 2, (
        "the first push may be what was lost"
    )
    assert len(log("task_created")) == len(rows("select from tasks")) == 1


def test_a_repeated_create_of_an_ended_task_tells_its_state_and_pushes_nothing(http, pushed):
    task_id = http.create(idempotency_key="order-7")
    assert http.work(task_id).status_code == 200
    pushed.clear()
    again = http.ask(
        "create_task",
        json={"kind": "returns", "input": {"prompt": PAYLOAD}, "idempotency_key": "order-7"},
    )
    assert (again.status_code, again.json) == (200, {"task_id": task_id, "state": "completed"})
    assert pushed == []


@pytest.mark.parametrize("change", [{"input": {"n": 2}}, {"kind": "breaks"}])
def test_the_same_key_for_another_task_is_a_conflict(http, rows, change):
    task = {"kind": "returns", "input": {"n": 1}, "idempotency_key": "order-7"}
    http.ask("create_task", json=task)
    answer = http.ask("create_task", json=task | change)
    assert (answer.status_code, error_code(answer)) == (409, "conflict")
    assert len(rows("select from tasks")) == 1


def test_priority_and_time_are_kept_and_the_push_waits(http, pushed, rows):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
    task_id = http.create(priority=-7, scheduled_at=at.isoformat())
    [row] = rows("select priority, scheduled_at from tasks")
    assert row["priority"] == -7
    assert abs((row["scheduled_at"] - at).total_seconds()) < 10
    [(_, found, number, delay)] = pushed
    assert (found, number) == (task_id, 1)
    assert 7190 <= delay <= 7200


def test_a_callback_at_an_allowed_host_is_kept(http, rows, monkeypatch):
    monkeypatch.setenv("CALLBACK_HOSTS", "api.example.com")
    monkeypatch.setenv("CALLBACK_SECRET", "both know it")
    http.restart()
    http.create(callback_url="https://api.example.com/done")
    assert rows("select callback_url from tasks") == [
        {"callback_url": "https://api.example.com/done"}
    ]


@pytest.mark.parametrize("hours_wrong", [-3, 3])
def test_the_clock_of_the_function_moves_no_time(http, pushed, rows, monkeypatch, hours_wrong):
    real = datetime.datetime
    wrong_by = datetime.timedelta(hours=hours_wrong)

    class WrongClock(real):
        @classmethod
        def now(cls, tz=None):
            return real.now(tz) + wrong_by

    at = real.now(datetime.UTC) + datetime.timedelta(hours=2)
    monkeypatch.setattr(datetime, "datetime", WrongClock)
    http.create(scheduled_at=at.isoformat())
    monkeypatch.undo()
    assert rows("select scheduled_at from tasks") == [{"scheduled_at": at}]
    [(*_, delay)] = pushed
    assert 7100 <= delay <= 7200


def test_a_time_that_has_passed_means_now(http, pushed):
    http.create(scheduled_at="2001-01-01T00:00:00Z", priority=1000)
    assert [delay for *_, delay in pushed] == [0]


def test_a_push_that_the_queue_refuses_does_not_fail_the_create(http, pushed, log):
    pushed.refuses = True
    task_id = http.create()
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
        (
            {"kind": "returns", "callback_url": "https://api.example.com/done"},
            "bad_request",
            "a host that is allowed (CALLBACK_HOSTS)",
        ),
        ({"kind": "returns", "idempotency_key": ""}, "bad_request", "1 to 200 characters"),
        ({"kind": "returns", "idempotency_key": 7}, "bad_request", "must be a text"),
        ({"kind": "returns", "watch": "nothing"}, "bad_request", "There are: tasks."),
        ({"kind": "returns", "watch": ["tasks"]}, "bad_request", "`watch` must be a text"),
    ],
)
def test_a_bad_create_is_refused_with_the_next_step(http, pushed, rows, body, code, says):
    answer = http.ask("create_task", data=body if isinstance(body, bytes) else json.dumps(body))
    assert (answer.status_code, error_code(answer)) == (400, code)
    assert says in answer.json["error"]["message"]
    assert (pushed, rows("select from tasks")) == ([], [])


def test_a_text_that_only_looks_like_a_nul_is_stored(http, rows):
    http.ask("create_task", json={"kind": "returns", "input": {"n": "\\u0000"}})
    assert rows("select input from tasks") == [{"input": {"n": "\\u0000"}}]


@FUZZ
@given(BODIES)
def test_no_body_makes_the_create_fail(http, body):
    answer = http.ask("create_task", data=body)
    assert answer.status_code in {200, 201, 400, 409, 413}, answer.text
    assert answer.status_code < 400 or error_code(answer)
