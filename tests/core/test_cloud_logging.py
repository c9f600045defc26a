"""Our log lines are those that google-cloud-logging's own StructuredLogHandler would write, field
by field, so that Cloud Logging reads them the same; and all lines of one request, its handler's
too, carry that request's trace."""

import io
import json
import logging

import flask
import google.cloud.logging_v2
import pytest
from google.cloud.logging_v2.handlers import StructuredLogHandler
from google.cloud.logging_v2.handlers.structured_log import GCP_STRUCTURED_LOGGING_FIELDS

from functions.core import events, trace
from functions.core.dispatch import NoDispatch
from functions.core.policy import DEFAULT, parse
from functions.store.postgres import PostgresStore
from functions.worker.child import Work
from functions.worker.guard import guard
from functions.worker.messages import Job, Result
from tests.speaking import logs
from tests.worker import first_message

PROJECT = "our-project"
ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SPECIAL = {
    "severity",
    "logging.googleapis.com/labels",
    "logging.googleapis.com/trace",
    "logging.googleapis.com/spanId",
    "logging.googleapis.com/trace_sampled",
    "logging.googleapis.com/sourceLocation",
}
"""What the library writes, less httpRequest: Cloud Run logs each request itself, with its status
and latency."""
HEADERS = {
    "traceparent": {"traceparent": f"00-{ID}-{SPAN}-01"},
    "not sampled": {"traceparent": f"00-{ID}-{SPAN}-00"},
    "a later version": {"traceparent": f"01-{ID}-{SPAN}-03-more"},
    "both": {"traceparent": f"00-{ID}-{SPAN}-01", "X-Cloud-Trace-Context": f"{'a' * 32}/1;o=1"},
    "a broken traceparent": {
        "traceparent": f"ff-{ID}-{SPAN}-01",
        "X-Cloud-Trace-Context": f"{ID}/9;o=1",
    },
    "zeros": {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
    "no span": {"traceparent": f"00-{ID}-{'0' * 16}-01"},
    "cloud trace": {"X-Cloud-Trace-Context": f"{ID}/67667974448284343;o=1"},
    "cloud trace, not sampled": {"X-Cloud-Trace-Context": f"{ID}/67667974448284343;o=0"},
    "cloud trace, without options": {"X-Cloud-Trace-Context": f"{ID}/1"},
    "cloud trace alone": {"X-Cloud-Trace-Context": ID},
    "cloud trace, a span that is too large": {"X-Cloud-Trace-Context": f"{ID}/{2**64};o=1"},
    "nothing": {},
}


@pytest.fixture
def library(monkeypatch):
    """What the library writes for a record, as a dict."""
    monkeypatch.setattr(
        google.cloud.logging_v2, "_instrumentation_emitted", True
    )  # its line about itself
    written = io.StringIO()
    handler = StructuredLogHandler(project_id=PROJECT, stream=written)

    def entry(record):
        handler.handle(record)
        found = json.loads(written.getvalue().splitlines()[-1])
        return {
            name: value
            for name, value in found.items()
            if value not in ("", {}) and name != "httpRequest"
        }

    return entry


@pytest.fixture
def ours(capsys):
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def record_of(event, values, level):
    """The record that logs the same through the library: the fields as json_fields, the sentence as
    the message."""
    entry = json.loads(event.line(values, level))
    record = logging.LogRecord(
        "unstuck", getattr(logging, level), __file__, 1, entry.pop("message"), (), None
    )
    del entry["severity"]
    record.json_fields = {
        name: value for name, value in entry.items() if name not in GCP_STRUCTURED_LOGGING_FIELDS
    }
    return record


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_a_line_has_the_fields_that_the_library_writes(case, level, library):
    values = {
        "watch": "tasks",
        "task_id": "1",
        "kind": 'a "kind" ä\n',
        "seconds": 1.5,
        "number": 1,
        "state": None,
    }
    with flask.Flask("f").test_request_context("/", headers=HEADERS[case]):
        token = trace.current.set(trace.of(flask.request.headers, PROJECT))
        try:
            ours = json.loads(events.TASK_FINISHED.line(values, level))
            theirs = library(record_of(events.TASK_FINISHED, values, level))
        finally:
            trace.current.reset(token)
    of_the_record = {
        "logging.googleapis.com/labels",
        "logging.googleapis.com/sourceLocation",
    }  # an event has a name instead
    if "logging.googleapis.com/trace" not in theirs:
        of_the_record |= {"logging.googleapis.com/trace_sampled"}  # false, and of nothing
    assert ours == {name: value for name, value in theirs.items() if name not in of_the_record}


def test_a_handlers_line_has_the_fields_that_the_library_writes(library, ours):
    found = trace.Trace(f"projects/{PROJECT}/traces/{ID}", SPAN, sampled=True)
    work = Work(Job("tests.speaking:logs", "1", "image", 1, {}, {}, 10, 10**8, found), "thread")
    assert first_message(work) == Result("null")
    work.end()
    [line] = ours()
    record = logging.LogRecord(
        "unstuck.handler.image",
        logging.WARNING,
        logs.__code__.co_filename,
        0,
        "half of %s",
        ("it",),
        None,
        "logs",
    )
    record.lineno = logs.__code__.co_firstlineno + 1
    record.labels = {"step": "one"}
    record.trace, record.span_id, record.trace_sampled, _ = found
    theirs = library(record)
    assert set(theirs) == SPECIAL | {"message"}
    assert {name: line[name] for name in theirs} == theirs


def test_no_field_of_an_event_is_one_that_the_library_drops():
    for event in events.ALL.values():
        assert not GCP_STRUCTURED_LOGGING_FIELDS & set(event.fields), event.name


# -- from the request to the handler's process

POLICY = """
      traced: {handler: "tests.speaking:logs", attempts: 1}
      traced_thread: {handler: "tests.speaking:logs", attempts: 1, isolation: thread}
"""


@pytest.mark.parametrize("kind", ["traced", "traced_thread"])
def test_all_lines_of_a_request_carry_its_trace_down_to_the_handlers_process(kind, database, capfd):
    policy = parse(DEFAULT.read_text(encoding="utf-8").rstrip() + POLICY)
    store, found = (
        PostgresStore(database),
        trace.Trace(f"projects/{PROJECT}/traces/{ID}", SPAN, sampled=True),
    )
    watch = policy.watch()
    token = trace.current.set(found)
    try:
        task = store.create(watch, kind, {}).task_id
        answer = guard(store, policy, NoDispatch(), watch, task, worker="w")
        kept = store.timeline(watch, task).attempts[0].trace
    finally:
        trace.current.reset(token)
        store.close()
    assert (answer.state, kept) == ("completed", ID)
    lines = {line["event"]: line for line in map(json.loads, capfd.readouterr().out.splitlines())}
    assert set(lines) == {"task_claimed", "handler_log", "task_finished"}
    for line in lines.values():
        assert {name: line[name] for name in found.fields()} == found.fields()


def test_a_handler_without_a_request_has_no_trace(ours):
    work = Work(Job("tests.speaking:logs", "1", "image", 1, {}, {}, 10, 10**8), "thread")
    assert first_message(work) == Result("null")
    work.end()
    assert [name for line in ours() for name in line if "trace" in name] == []
