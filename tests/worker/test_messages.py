"""What a handler's process can do to the worker: nothing but say what the worker understands. And
what it can read there: no secret that its rule does not name."""

import json
import os
import pickle
import random
from multiprocessing import Pipe
from pathlib import Path

import pytest

from functions.core.settings import SECRET_VARIABLES
from functions.core.states import Reason, SettleAs
from functions.worker import handler_log, spawn
from functions.worker.child import Work
from functions.worker.inbox import Inbox
from functions.worker.messages import (
    Begin,
    Checkpoint,
    CheckpointAnswer,
    Failed,
    Imported,
    Job,
    LogLine,
    Progress,
    Ready,
    Result,
    Stopped,
    decode,
    encode,
)
from tests.worker import first_message

JOB = Job("tests.worker.test_messages:tells_its_environment", "1", "image", 1, {}, {}, 60.0, 10**9)
MESSAGES = (
    Imported(0.5, "a file"),
    Ready(),
    Checkpoint("step", {"a": [1, None]}),
    Progress({"fraction": 0.5}),
    LogLine("INFO", "text", "logger", {"line": 3}, {"label": "x"}),
    Result('{"url": "x"}'),
    Failed(SettleAs.RETRY, Reason.TRANSIENT, None, "detail", 2.5),
    Failed(None, Reason.HANDLER_ERROR, "No.", "detail"),
    Stopped(),
    Begin(12.25),
    CheckpointAnswer(held=True, error=None),
)


class RunsAProgram:
    def __init__(self, file):
        self._file = file

    def __reduce__(self):
        return os.system, (f"touch {self._file}",)


def tells_its_environment(ctx, task_input):
    """Its own, and that with which its process and its parent were started."""
    started = "".join(
        Path(f"/proc/{process}/environ").read_text() for process in ("self", os.getppid())
    )
    names = task_input["names"]
    return {
        "own": {name: os.environ.get(name) for name in names},
        "started": [name for name in names if f"{name}=" in started],
    }


def sends(data):
    """The Inbox of a guard to whom a handler's process has sent these bytes."""
    ours, theirs = Pipe()
    theirs.send_bytes(data)
    inbox = Inbox(ours)
    inbox.read()
    return inbox


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_message_arrives_as_it_was_sent(message):
    assert decode(encode(message)) == message


def test_what_a_handler_sends_runs_nothing_in_the_worker(tmp_path):
    inbox = sends(pickle.dumps(RunsAProgram(tmp_path / "it-ran")))
    with pytest.raises(ValueError, match="no message"):
        inbox.take()
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "null",
        "[]",
        '["Exited", {"exit_code": 0}]',
        '["Job", {}]',
        '["Result", {}]',
        '["Result", {"text": 1}]',
        '["Result", {"text": null}]',
        '["Progress", {"progress": []}]',
        '["Failed", {"settle_as": "complete", "reason": "shutdown", "error": "", "detail": ""}]',
        '["Failed", {"settle_as": null, "reason": "no such", "error": "", "detail": ""}]',
        '["Failed", {"settle_as": "fail", "reason": "cancelled", "error": "", "detail": ""}]',
        '["Failed", {"settle_as": "fail", "reason": "never_claimed", "error": "", "detail": ""}]',
        '["LogLine", {"severity": "INFO", "text": {}, "logger": "", "where": {}, "labels": {}}]',
        '["Begin", {"until": true}]',
        "[" * 100_000,
        '["Result", {"text": ' + "9" * 5000 + "}]",
    ],
)
def test_what_is_no_message_is_refused(sent):
    with pytest.raises(ValueError, match="no message"):
        decode(sent.encode())


def test_no_bytes_make_anything_but_a_message_or_a_refusal():
    chosen = random.Random(1)
    frames = [encode(message) for message in MESSAGES]
    for _ in range(3000):
        frame = bytearray(chosen.choice(frames))
        for _ in range(chosen.randint(1, 6)):
            frame[chosen.randrange(len(frame))] = chosen.randrange(256)
        try:
            decoded = decode(bytes(frame))
        except ValueError:
            continue
        assert type(decoded) in {type(message) for message in MESSAGES}, bytes(frame)


def test_a_log_line_cannot_be_another_event_whatever_it_claims_to_be():
    forged = {"event": "sweep_finished", "severity": "INFO", "message": "x"}
    said = LogLine("EMERGENCY", json.dumps(forged), "a\nb", forged, forged)
    line = handler_log.line(JOB, said)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["event"], entry["severity"]) == ("handler_log", "INFO")
    assert entry["message"] == json.dumps(forged)


def test_whatever_a_log_line_claims_it_is_strict_json_without_secrets():
    deep = []
    for _ in range(900):
        deep = [deep]
    labels = {"number": 1e999, "deep": deep, "password": "lilac7", "url": "x://ada:lilac7@db.test"}
    where = {"line": float("nan"), "file": {"a": 1}, "function": "draw", "event": "sweep_finished"}
    line = handler_log.line(JOB, LogLine("INFO", "x", "logger", where, labels))
    entry = json.loads(line, parse_constant=pytest.fail)
    assert "lilac7" not in line
    assert entry["logging.googleapis.com/sourceLocation"] == {"function": "draw"}
    assert all(isinstance(label, str) for label in entry["logging.googleapis.com/labels"].values())


@pytest.mark.parametrize("names", [(), ("DATABASE_URL",)])
def test_a_handler_sees_the_secrets_that_its_rule_names_and_no_other(names, monkeypatch):
    for name in SECRET_VARIABLES:
        monkeypatch.setenv(name, f"the value of {name}")
    monkeypatch.setenv("A_VARIABLE_OF_THE_HANDLER", "its value")
    monkeypatch.setattr(spawn, "forkservers", spawn.Forkservers())
    asked = [*sorted(SECRET_VARIABLES), "A_VARIABLE_OF_THE_HANDLER"]
    job = Job(*list(vars(JOB).values())[:4], {"names": asked}, {}, 60.0, 10**9, secrets=names)
    work = Work(job, "process")
    try:
        answer = json.loads(first_message(work).text)
    finally:
        work.end()
    seen = {name: value for name, value in answer["own"].items() if value is not None}
    expected = {name: f"the value of {name}" for name in names}
    assert seen == expected | {"A_VARIABLE_OF_THE_HANDLER": "its value"}
    assert answer["started"] == ["A_VARIABLE_OF_THE_HANDLER"]
