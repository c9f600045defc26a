"""worker_event: a message of Pub/Sub runs its task, and is delivered again only where that
helps."""

import base64
import json

import pytest
from hypothesis import given

from tests.entry.steps import DATABASE_PASSWORD, NOBODY, claimed_elsewhere
from tests.entry.strategies import BODIES, FUZZ


def test_a_message_runs_its_task(http):
    task_id = http.create()
    answer = http.event({"task_id": task_id, "watch": "tasks", "number": 1})
    assert (answer.status_code, answer.json) == (200, {"task_id": task_id, "verdict": "settled"})
    assert http.status(task_id)["state"] == "completed"


def test_a_message_in_one_piece_runs_its_task_too(http):
    """The structured form of a CloudEvent: all of it in the body."""
    task_id = http.create()
    data = base64.b64encode(json.dumps({"task_id": task_id}).encode()).decode()
    event = {
        "id": "1",
        "source": "//pubsub",
        "type": "t",
        "specversion": "1.0",
        "data": {"message": {"data": data}},
    }
    answer = http.client("worker_event").post(
        "/", data=json.dumps(event), content_type="application/cloudevents+json"
    )
    assert answer.status_code == 200
    assert http.status(task_id)["state"] == "completed"


def test_a_message_of_a_held_task_is_delivered_again(http):
    task_id = http.create()
    claimed_elsewhere(http.app, task_id)
    assert http.event({"task_id": task_id}).status_code == 503


def test_a_message_of_an_ended_or_an_unknown_task_is_done_with(http):
    task_id = http.create()
    http.work(task_id)
    assert http.event({"task_id": task_id}).status_code == 200
    assert http.event({"task_id": NOBODY}).status_code == 200


def test_a_message_that_finds_no_database_is_delivered_again(postgres_down, http, log):
    answer = http.event({"task_id": NOBODY})
    assert answer.status_code == 503
    assert DATABASE_PASSWORD not in answer.text
    assert [line["entry"] for line in log("request_failed")] == ["worker_event"]


def test_an_unexpected_error_of_a_message_is_logged_whole_and_the_message_delivered_again(
    http, monkeypatch, log
):
    def fails(*_, **__):
        raise RuntimeError(DATABASE_PASSWORD)

    monkeypatch.setattr("functions.entry.worker.guard", fails)
    answer = http.event({"task_id": NOBODY})
    assert answer.status_code == 500
    assert DATABASE_PASSWORD not in answer.text
    [line] = log("request_failed")
    assert (line["entry"], line["severity"]) == ("worker_event", "ERROR")
    assert DATABASE_PASSWORD in line["error"]
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
def test_a_message_that_names_no_task_is_said_and_not_delivered_for_ever(http, log, body):
    assert http.raw_event(body).status_code == 200
    [line] = log()
    assert (line["event"], line["entry"], line["severity"]) == (
        "request_failed",
        "worker_event",
        "ERROR",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe9",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"specversion": []}',
        b'{"specversion": "1.0", "data": 7}',
    ],
)
def test_bytes_that_are_no_event_do_not_come_again_either(http, data):
    for content_type in ("application/json", "application/cloudevents+json", "text/plain"):
        answer = http.client("worker_event").post("/", data=data, content_type=content_type)
        assert (answer.status_code, answer.json) == (200, {"verdict": "bad_request"})


def test_an_event_is_posted(http):
    assert http.client("worker_event").get("/").status_code == 405


@FUZZ
@given(BODIES)
def test_no_message_makes_the_worker_event_fail(http, body):
    assert http.event(body).status_code == 200
