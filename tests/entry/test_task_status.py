"""task_status: a poll tells how a task is, and heals it when it is overdue."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.entry.steps import NOBODY, PAYLOAD, claimed_elsewhere, error_code, make_overdue
from tests.entry.strategies import FUZZ


def test_a_waiting_task_is_told_by_query_and_by_path(http):
    task_id = http.create()
    answer = http.ask("task_status", f"/?task_id={task_id}")
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
    assert http.ask("task_status", f"/{task_id}").json == answer.json
    assert http.ask("task_status", f"/?watch=tasks&task_id={task_id.upper()}").json == answer.json


def test_an_ended_task_shows_its_result(http):
    task_id = http.create()
    http.work(task_id)
    shown = http.status(task_id)
    assert (shown["state"], shown["result"]) == ("completed", {"attempt": 1, "picture": "a.png"})
    assert shown["attempt"]["number"] == 1
    assert shown["attempt"]["outcome"] == "completed"


def test_an_unknown_task_is_not_found(http):
    answer = http.ask("task_status", f"/?task_id={NOBODY}")
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


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
def test_a_bad_poll_is_refused(http, path):
    answer = http.ask("task_status", path)
    assert (answer.status_code, error_code(answer)) == (400, "bad_request")


def test_a_poll_heals_an_overdue_task_and_pushes_it_again(http, pushed, rows, log):
    task_id = http.create()
    token = claimed_elsewhere(http.app, task_id).token
    make_overdue(rows, task_id)
    pushed.clear()
    shown = http.status(task_id)
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
    late = http.app.store.settle(http.app.policy.watch(), task_id, token, "complete", result={})
    assert late.verdict == "lost", "the worker that came back has nothing to say"


def test_a_poll_ends_a_task_that_nobody_picked_up(http, pushed, rows, log):
    task_id = http.create()
    rows("update tasks set scheduled_at = now() - interval '16 minutes' returning 1")
    pushed.clear()
    shown = http.status(task_id)
    assert (shown["state"], shown["reason"]) == ("failed", "never_claimed")
    assert shown["error"] == "No worker picked the task up in time."
    assert pushed == []
    assert [(line["by"], line["severity"]) for line in log("task_finished")] == [
        ("status", "WARNING")
    ]


def test_a_user_sees_neither_the_worker_nor_the_technical_side(http, rows):
    said = {}
    for kind in ("gives_up", "breaks", "asks_again"):
        task_id = http.create(kind)
        http.work(task_id)
        said[kind] = http.status(task_id)
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


@FUZZ
@given(
    st.binary(),
    st.sampled_from(["task_id", "watch", "x"]),
    st.binary() | st.uuids().map(lambda one: str(one).encode()),
)
def test_no_query_makes_the_status_fail(http, path, name, value):
    path = quote(path.replace(b"/", b""), safe="")
    answer = http.ask("task_status", f"/{path}?{name}={quote(value)}")
    assert answer.status_code in {400, 404}, answer.text
