"""worker: a push runs its task in the guard, and the answer tells the queue the truth.

Handlers run in threads: what they do in processes is in faults/."""

import datetime

import pytest
from hypothesis import given

from functions.worker import shutdown
from tests.entry.steps import NOBODY, claimed_elsewhere, error_code, make_overdue
from tests.entry.strategies import BODIES, FUZZ


def test_a_pushed_task_is_run_to_its_end(http, log):
    task_id = http.create()
    answer = http.work(task_id, number=1, watch="tasks")
    assert answer.status_code == 200
    assert answer.json == {
        "task_id": task_id,
        "verdict": "settled",
        "state": "completed",
        "reason": None,
    }
    assert http.status(task_id)["state"] == "completed"
    claimed, finished = log("task_claimed", "task_finished")
    assert (claimed["worker"], claimed["number"]) == (http.app.worker, 1)
    assert (finished["state"], finished["by"], finished["severity"]) == (
        "completed",
        "guard",
        "INFO",
    )


def test_a_second_push_of_an_ended_task_is_acknowledged_and_does_nothing(http, rows):
    task_id = http.create()
    http.work(task_id)
    answer = http.work(task_id)
    assert (answer.status_code, answer.json["verdict"]) == (200, "ended")
    assert len(rows("select from unstuck.attempts")) == 1


def test_a_push_of_an_unknown_task_is_not_found(http):
    answer = http.work(NOBODY)
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


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
def test_a_bad_push_is_refused(http, body):
    answer = http.ask("worker", data=body)
    assert (answer.status_code, error_code(answer)) == (400, "bad_request")


def test_a_push_of_a_held_task_asks_to_come_again_and_leaves_the_holder_alone(http, rows):
    task_id = http.create()
    claimed_elsewhere(http.app, task_id)
    answer = http.work(task_id)
    assert (answer.status_code, error_code(answer)) == (409, "held")
    assert (answer.json["task_id"], answer.json["state"]) == (task_id, "running")
    assert 1 < int(answer.headers["Retry-After"]) <= 120
    assert [
        row["worker"] for row in rows("select worker from unstuck.attempts where ended_at is null")
    ] == ["another-worker"]


def test_a_push_of_a_task_whose_worker_is_overdue_takes_it_over(http, rows, log):
    task_id = http.create()
    claimed_elsewhere(http.app, task_id)
    make_overdue(rows, task_id)
    assert http.work(task_id).status_code == 200
    [line] = log("task_requeued")
    assert (line["by"], line["reason"], line["number"]) == ("claim", "deadline", 1)
    assert http.status(task_id)["result"]["attempt"] == 2


def test_a_push_that_comes_long_before_its_time_asks_to_come_again(http):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    answer = http.work(http.create(scheduled_at=at.isoformat()))
    assert (answer.status_code, error_code(answer)) == (409, "early")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3601


def test_a_task_that_is_pending_again_is_pushed_and_the_queue_is_done_with_this_push(http, pushed):
    task_id = http.create("asks_again")
    answer = http.work(task_id)
    assert (answer.status_code, answer.json["state"], answer.json["reason"]) == (
        200,
        "pending",
        "transient",
    )
    assert pushed == [("tasks", task_id, 1, 0), ("tasks", task_id, 2, 60)]


def test_a_task_that_could_not_be_pushed_again_is_asked_to_come_again(http, pushed, log):
    task_id = http.create("asks_again")
    pushed.refuses = True
    answer = http.work(task_id)
    assert (answer.status_code, error_code(answer)) == (503, "settled")
    assert int(answer.headers["Retry-After"]) >= 60
    assert len(log("dispatch_failed")) == 1


def test_a_worker_that_is_shut_down_claims_nothing_more(http, rows, monkeypatch):
    task_id = http.create("works_on")
    monkeypatch.setattr(shutdown, "requested", shutdown.Request())
    shutdown.requested.set()
    answer = http.work(task_id)
    assert (answer.status_code, error_code(answer), answer.headers["Retry-After"]) == (
        503,
        "shutdown",
        "2",
    )
    assert rows("select outcome from unstuck.attempts") == []


@FUZZ
@given(BODIES)
def test_no_body_makes_the_worker_fail(http, body):
    answer = http.ask("worker", data=body)
    assert answer.status_code in {400, 404, 413}, answer.text
    assert error_code(answer)
