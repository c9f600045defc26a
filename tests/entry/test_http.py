"""What all entry points have in common: methods, bodies, errors, origins, traces, and what is kept
out of their answers and their log."""

import io
import json

import pytest

from functions.entry.app import App
from functions.entry.request_body import MAX_BODY_BYTES
from tests.entry.steps import BODY_FOR_ALL, DATABASE_PASSWORD, METHODS, NOBODY, PAYLOAD, error_code


@pytest.fixture
def cors(http, monkeypatch):
    def ask(target, origin, method, allowed="https://app.example https://beta.example"):
        monkeypatch.setenv("CORS_ORIGINS", allowed)
        http.restart()
        answer = http.client(target).open(
            "/", method=method, headers={"Origin": origin} if origin else {}
        )
        return answer.status_code, answer.headers.get("Access-Control-Allow-Origin")

    return ask


@pytest.mark.parametrize("target", ["create_task", "task_status", "cancel_task"])
def test_a_page_of_an_allowed_origin_may_ask_what_a_client_asks(http, cors, target):
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
        ("create_task", None, "*"),
        ("worker", "https://app.example", "*"),
        ("claim_task", "https://app.example", "*"),
        ("sweep", "https://app.example", "*"),
    ],
)
def test_no_other_page_may_and_nobody_s_page_asks_what_a_worker_asks(cors, target, origin, allowed):
    assert cors(target, origin, "OPTIONS", allowed) == (405, None)


def test_a_body_that_is_too_large_is_refused(http):
    answer = http.ask("create_task", data=b" " * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


def test_a_body_without_a_length_is_measured_too(http):
    chunked = {
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
    }
    body = b" " * (MAX_BODY_BYTES + 1)
    answer = http.ask("create_task", input_stream=io.BytesIO(body), environ_overrides=chunked)
    assert (answer.status_code, error_code(answer)) == (413, "too_large")
    task = io.BytesIO(b'{"kind": "returns"}')
    assert http.ask("create_task", input_stream=task, environ_overrides=chunked).status_code == 201


@pytest.mark.parametrize("target", METHODS)
def test_without_the_database_every_entry_point_asks_to_come_again(
    postgres_down, http, log, target
):
    path = f"/?task_id={NOBODY}" if target == "task_status" else "/"
    answer = http.ask(target, path, json=BODY_FOR_ALL)
    assert (answer.status_code, error_code(answer)) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert DATABASE_PASSWORD not in answer.text
    lines = log()
    assert [line["event"] for line in lines if line["severity"] == "ERROR"][-1] == "request_failed"
    assert DATABASE_PASSWORD not in json.dumps(lines)


@pytest.mark.parametrize("target", METHODS)
def test_a_database_that_refuses_is_an_error_with_the_next_step_in_the_log(
    http, empty_database, monkeypatch, log, target
):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    http.restart()
    path = f"/?task_id={NOBODY}" if target == "task_status" else "/"
    answer = http.ask(target, path, json=BODY_FOR_ALL)
    assert (answer.status_code, error_code(answer)) == (500, "store")
    assert "unstuck" not in answer.json["error"]["message"]
    assert "unstuck migrate --apply" in log("request_failed")[0]["error"]
    http.stop()  # or its connection keeps the database from being dropped


@pytest.mark.parametrize("target", METHODS)
def test_an_unexpected_error_is_logged_whole_and_told_without_internals(
    http, monkeypatch, log, target
):
    def fails(_):
        raise RuntimeError(DATABASE_PASSWORD)

    monkeypatch.setattr(App, "policy", property(fails))
    answer = http.ask(target, json=BODY_FOR_ALL)
    assert (answer.status_code, error_code(answer)) == (500, "internal")
    assert DATABASE_PASSWORD not in answer.text
    [line] = log("request_failed")
    assert (line["entry"], line["severity"]) == (target, "ERROR")
    assert DATABASE_PASSWORD in line["error"]
    assert "in fails" in line["detail"]


@pytest.mark.parametrize("target", METHODS)
def test_a_policy_that_cannot_be_used_is_told_to_the_operator_only(
    http, monkeypatch, tmp_path, log, target
):
    (tmp_path / "broken.yaml").write_text("watches: 7", encoding="utf-8")
    monkeypatch.setenv("UNSTUCK_POLICY", str(tmp_path / "broken.yaml"))
    http.restart()
    answer = http.ask(target, json=BODY_FOR_ALL)
    assert (answer.status_code, error_code(answer)) == (500, "policy")
    assert "yaml" not in answer.text
    assert "broken.yaml:1: the file: lacks `platform`" in log("request_failed")[0]["error"]


@pytest.mark.parametrize(("target", "method"), METHODS.items())
def test_a_wrong_method_is_refused_and_the_right_one_named(http, target, method):
    for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} - {method}:
        answer = http.ask(target, method=wrong)
        assert (answer.status_code, answer.headers["Allow"]) == (405, method)
        if wrong != "HEAD":
            assert error_code(answer) == "method_not_allowed"
            assert answer.json["error"]["message"] == f"{target} takes {method}, not {wrong}."


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


of_each_trace = pytest.mark.parametrize(
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


@of_each_trace
def test_each_line_of_a_request_carries_its_trace(http, log, headers, found):
    http.ask("create_task", json={"kind": "returns"}, headers=headers)
    http.ask("sweep", headers=headers)
    lines = log()
    assert [line["event"] for line in lines] == ["task_created", "sweep_finished"]
    expected = f"projects/our-project/traces/{found}" if found else None
    assert {line.get("logging.googleapis.com/trace") for line in lines} == {expected}


@of_each_trace
def test_an_attempt_keeps_the_trace_of_its_request_and_no_header_keeps_it_from_running(
    http, rows, headers, found
):
    task_id = http.create("returns")
    answer = http.ask("worker", json={"task_id": task_id}, headers=headers)
    assert answer.json["state"] == "completed"
    assert rows("select trace from unstuck.attempts") == [{"trace": found}]


def test_no_line_and_no_error_shows_what_a_task_is_about(http, rows, capfd):
    for kind in ("returns", "asks_again", "gives_up", "breaks"):
        task_id = http.create(kind, idempotency_key=kind)
        http.work(task_id)
        http.event({"task_id": task_id})
        http.status(task_id)
        again = http.ask(
            "create_task",
            json={"kind": "breaks", "input": {"other": PAYLOAD}, "idempotency_key": kind},
        )
        assert PAYLOAD not in again.text
    rows(
        "update tasks set scheduled_at = now() - interval '1 day' where status = 'pending' "
        "returning 1"
    )
    http.ask("sweep")
    said = capfd.readouterr()
    assert len(said.out.splitlines()) > 15
    assert PAYLOAD not in said.out + said.err
