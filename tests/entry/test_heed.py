"""A poll, a claim or a create notices that the sweep does not run, and tells it once in an hour;
nobody who asks for a task is failed by that."""

import json
import re
import time

import pytest
import responses

from functions.entry.app import HEED_SECONDS
from functions.errors import StoreError
from tests.entry.steps import NOBODY

URL = "https://hooks.example.com/team"
ASKS = {
    "task_status": {"query_string": {"task_id": NOBODY}},
    "claim_task": {"json": {"worker_id": "w"}},
    "create_task": {"json": {"kind": "returns", "input": {}}},
}


def swept(db, ago):
    db.execute(
        "insert into unstuck.sweeps (by, started_at, until, ended_at, ok, run) "
        "select 'test', at, at, at, true, gen_random_uuid() "
        "from (select now() - %s * interval '1 second' as at) t",
        (ago,),
    )


def notices(capsys):
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return [line for line in lines if line["event"] == "sweep_silent"]


@pytest.fixture
def asked(http, monkeypatch):
    """Asks, in a process that is old enough to look."""
    monkeypatch.setenv("NOTIFY_URL", URL)
    http.restart()
    task = http.create()

    def ask(entry, *, ready=True):
        if ready:
            http.app.heeds_at = 0.0
        more = {"query_string": {"task_id": task}} if entry == "task_status" else ASKS[entry]
        answer = http.ask(entry, **more)
        assert answer.status_code in {200, 201}, answer.text

    return ask


@pytest.mark.parametrize("entry", ASKS)
def test_a_silent_sweep_is_told_by_whoever_notices_it_and_not_again_at_once(
    entry, asked, db, capsys
):
    swept(db, 181)
    with responses.RequestsMock() as wire:
        wire.post(URL, "ok")
        asked(entry)
        asked(entry, ready=False)
        [call] = wire.calls
    told = json.loads(call.request.body)
    assert re.fullmatch(r"The sweep has not run for \d+ s: tasks that are stuck .*", told["text"])
    assert told["tasks"][0]["reason"] == "sweep_silent"
    [line] = notices(capsys)
    assert line["severity"] == "ERROR"
    assert line["age"] >= 181


def test_whoever_else_notices_it_sends_the_same_message(asked, db, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    swept(db, 500)
    with responses.RequestsMock() as wire:
        wire.post(URL, "ok")
        asked("task_status")
        asked("claim_task")
        first, second = (call.request.headers["webhook-id"] for call in wire.calls)
    assert first == second


@pytest.mark.parametrize("ago", [5, 90])
def test_a_sweep_that_runs_is_told_to_nobody(ago, asked, db, capsys):
    swept(db, 4000)
    swept(db, ago)
    asked("task_status")
    assert notices(capsys) == []


def test_a_sweep_that_never_ran_is_left_to_the_doctor(asked, capsys):
    asked("task_status")
    assert notices(capsys) == []


def test_nobody_is_failed_by_a_look_or_a_receiver_that_fails(asked, http, db, monkeypatch, capsys):
    swept(db, 181)
    with responses.RequestsMock() as wire:
        wire.post(URL, status=500)
        asked("task_status")
    assert len(notices(capsys)) == 1

    def fails(*_):
        raise StoreError("away", retryable=True)

    monkeypatch.setattr(http.app.store, "metrics", fails)
    asked("task_status")


def test_a_new_process_does_not_look_with_its_first_request(http):
    http.restart()
    assert http.app.heeds_at > time.monotonic() + HEED_SECONDS - 30
