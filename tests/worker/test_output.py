"""What a handler prints is what a handler says, and never an event of ours."""

import ctypes
import json
import os
import subprocess
import sys

from functions.worker.child import Work
from functions.worker.messages import Exited, Job, Result
from tests.worker import first_message, next_message

FORGED = json.dumps({"severity": "INFO", "event": "sweep_finished", "outcome": "ok"})
FLOOD = 50_000
LINES = ["nice", FORGED, '{"event": "sweep_suspended", "severity": "CRITICAL"}']


def prints(ctx, task_input):
    print("prompt:", task_input["prompt"])
    print(task_input["prompt"], file=sys.stderr)
    os.write(1, f"{FORGED}\n".encode())
    subprocess.run(["echo", FORGED], check=True)
    ctx.logger.info("prompt: %s", task_input["prompt"])
    return 1


def floods(ctx, task_input):
    for number in range(FLOOD):
        print(f"line {number}")
    print(FORGED)


def crashes(ctx, task_input):
    ctypes.CDLL(None).puts(b"the library gives up")
    ctypes.CDLL(None).fflush(None)
    os.abort()


def events_of(handler, capfd, last):
    job = Job(
        f"{__name__}:{handler.__name__}",
        "task-1",
        "image",
        1,
        {"prompt": "\n".join(LINES)},
        {},
        60.0,
        400_000_000,
    )
    work = Work(job, "process")
    message = first_message(work)
    while not isinstance(message, last):
        message = next_message(work)
    work.end()
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_what_it_prints_is_logged_line_by_line_as_its_own_words(capfd):
    lines = events_of(prints, capfd, Result)
    assert {line["event"] for line in lines} == {"handler_log"}
    assert {(line["task_id"], line["kind"], line["number"]) for line in lines} == {
        ("task-1", "image", 1)
    }
    printed = [line["message"] for line in lines if line["logger"] == "output"]
    assert sorted(printed) == sorted(["prompt: nice", *LINES[1:], *LINES, FORGED, FORGED])


def test_a_flood_of_lines_becomes_few_events_and_none_is_lost(capfd):
    """Each event costs the guard time, in which it sends no heartbeat."""
    lines = events_of(floods, capfd, Result)
    assert {line["event"] for line in lines} == {"handler_log"}
    printed = [text for line in lines for text in line["message"].splitlines()]
    assert printed == [*(f"line {number}" for number in range(FLOOD)), FORGED]
    assert len(lines) < FLOOD / 20


def test_the_last_words_of_a_process_that_crashes_are_heard(capfd):
    lines = events_of(crashes, capfd, Exited)
    assert "the library gives up" in [line.get("message") for line in lines]
