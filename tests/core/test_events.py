"""The log: every line of the system is in events.py, whole, in the form that Cloud Logging reads,
and without payloads."""

import ast
import json
import logging
import os
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import psycopg
import pytest
import responses

from functions.core import events, log_api, trace
from functions.core.answers import Evidence, Lost, Rescued, RescuedState
from functions.core.dispatch import DispatchError, NoDispatch
from functions.core.events import ALL, Event
from functions.core.policy import DEFAULT, load
from functions.core.record import replace
from functions.core.report import report
from functions.core.settings import Settings
from functions.core.states import SettleAs
from functions.core.trace import Trace
from functions.entry import http
from functions.entry.app import App
from functions.entry.heed import heed
from functions.entry.public_keys import Keys
from functions.errors import BadRequestError, StoreError
from functions.store import store_of
from functions.store.postgres import PostgresStore
from functions.sweep import clock, evidence, gauges, notify
from functions.sweep.after_sweep import afterwards
from functions.sweep.ping import ping
from functions.worker.child import Work
from functions.worker.claim import claim
from functions.worker.guard import _Attempt
from functions.worker.messages import Job, Result
from functions.worker.settle import AttemptEnd, settle
from functions.worker.spawn import Forkservers
from tests.sweep.steps import sweep
from tests.worker import first_message

ROOT = Path(__file__).parents[2]
DEPLOYED = [
    ROOT / "main.py",
    *(one for one in (ROOT / "functions").rglob("*.py") if "ops" not in one.parts),
]
SEVERITIES = {
    "DEFAULT",
    "DEBUG",
    "INFO",
    "NOTICE",
    "WARNING",
    "ERROR",
    "CRITICAL",
    "ALERT",
    "EMERGENCY",
}
POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()

UNKNOWN = {
    "claim_refused": {"kind", "retry_after"},  # of a task that does not exist
    "task_finished": {"seconds", "detail"},  # of a worker that said nothing
    "task_requeued": {"detail"},
}
"""What a line may leave null, since nobody knows it."""


# -- read from the code


def uses():
    """(file, call or None, name) for each `events.NAME` in the deployed code."""
    for path in DEPLOYED:
        text = path.read_text(encoding="utf-8")
        if "events." not in text:
            continue
        tree = ast.parse(text)
        calls = {id(call.args[0]): call for call in ast.walk(tree) if is_emit(call)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and getattr(node.value, "id", None) == "events"
                and node.attr.isupper()
            ):
                yield path, calls.get(id(node)), node.attr


def is_emit(node):
    return isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "emit" and node.args


EMITS = [(path, call, name) for path, call, name in uses() if call]


def test_every_event_is_written_somewhere_and_none_is_made_up():
    constants = {name for name, value in vars(events).items() if isinstance(value, Event)}
    used = {name for _, _, name in uses()}
    assert used - constants == used & {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
    itself = ast.parse(Path(events.__file__).read_text(encoding="utf-8"))
    used |= {
        node.id
        for node in ast.walk(itself)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert constants - used == set()


def test_every_event_is_called_as_its_constant():
    assert all(vars(events)[name.upper()] is event for name, event in ALL.items())


@pytest.mark.parametrize(
    ("path", "call", "name"), EMITS, ids=[f"{p.stem}:{c.lineno}:{n}" for p, c, n in EMITS]
)
def test_what_is_given_to_an_event_is_what_it_carries(path, call, name):
    event = getattr(events, name)
    given = [keyword.arg for keyword in call.keywords]
    named = {one for one in given if one} - {"level", "about"}
    assert named <= set(event.fields), "it is given what it does not carry"
    if None not in given:  # no **values: then all must be there
        assert named == set(event.fields)


def test_nothing_else_in_the_deployed_code_prints():
    for path in DEPLOYED:
        if path.name == "__main__.py":  # the command line
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in names, path


def test_no_field_is_called_like_a_payload_or_a_secret():
    forbidden = {
        "input",
        "result",
        "output",
        "payload",
        "body",
        "data",
        "checkpoint",
        "progress",
        "prompt",
        "metadata",
    }
    forbidden |= {
        "token",
        "secret",
        "password",
        "dsn",
        "url",
        "headers",
        "owner",
        "user",
        "email",
        "idempotency_key",
        "key",
    }
    for event in ALL.values():
        assert not forbidden & set(event.fields), event.name


def test_no_field_takes_the_place_of_one_of_cloud_logging():
    reserved = {
        "severity",
        "message",
        "event",
        "time",
        "timestamp",
        "httpRequest",
        "labels",
        "level",
    }
    for event in ALL.values():
        assert not reserved & set(event.fields), event.name
        assert len(set(event.fields)) == len(event.fields)


# -- as they are written


@pytest.mark.parametrize("event", ALL.values(), ids=ALL)
@pytest.mark.parametrize(
    "value", ["plain", None, "{task_id} %s \n\r\t \0 \ud800 ä", 7.5, b"bytes", {"a": [1]}, object()]
)
def test_a_line_is_one_line_of_json_whatever_the_values(event, value):
    line = event.line(dict.fromkeys(event.fields, value) | {"token": "secret", "input": "secret"})
    assert "\n" not in line
    assert line.isascii()
    entry = json.loads(line)
    assert set(entry) == {"severity", "event", "message", *event.fields}
    assert entry["severity"] in SEVERITIES
    assert entry["event"] == event.name
    assert "secret" not in line


def test_a_sentence_has_no_holes():
    for event in ALL.values():
        values = {name: f"<{name}>" for name in (*event.fields, "text")}
        message = json.loads(event.line(values))["message"]
        assert "{" not in message
        assert "<" in message
        assert json.loads(event.line({}))["message"].count("-") >= message.count("<"), (
            "what is unknown is a dash"
        )


def test_a_traceback_is_where_error_reporting_reads_it_and_secrets_are_hidden_there_too():
    """https://docs.cloud.google.com/error-reporting/docs/formatting-error-messages"""
    error = ValueError("postgresql://me:s3cret@db/x")
    try:
        raising(error)()
    except ValueError:
        detail = traceback.format_exc()
    entry = json.loads(events.REQUEST_FAILED.line({"entry": "sweep", "detail": detail}))
    assert entry["stack_trace"].startswith("Traceback (most recent call last):")
    assert entry["@type"].endswith("ReportedErrorEvent")
    assert "s3cret" not in entry["stack_trace"]
    plain = json.loads(events.REQUEST_FAILED.line({"entry": "sweep", "detail": "55P03"}))
    assert not {"stack_trace", "@type"} & plain.keys()


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}", "\x01", "\ud800"])
def test_no_line_is_longer_than_an_entry_may_be(character):
    long = character * 70_000
    nested = {"a" * 100 + str(number): {"b": [character * 99]} for number in range(400)}
    for event in (events.HANDLER_LOG, events.TASK_FINISHED, events.REQUEST_FAILED):
        values = dict.fromkeys((*event.fields, "text"), long)
        line = event.line(values, "INFO", {events.LABELS: nested, "x": long})
        assert len(line.encode()) <= events.LINE_BYTES
        assert json.loads(line)["event"] == event.name


@pytest.mark.parametrize("state", RescuedState)
def test_lines_of_a_mass_of_tasks_are_as_each_made_alone(state, capfd):
    ids = ["a", 'say "hi"', "100 %s {kind}", "\u732b\n\ud83d\ude00", "x" * 150_000]
    tasks = [
        Rescued(task_id, kind, number, 2, None, state, "stale", "stale", None, delay, 1.0)
        for task_id in ids
        for kind, number, delay in [("image", 1, 0.1), ("image", 1, None), ("{by} \\", 2, 3)]
    ]
    report(None, WATCH, tasks, by="sweep")
    lines = capfd.readouterr().out.splitlines()
    event = events.ALL[json.loads(lines[0])["event"]]
    level = json.loads(lines[0])["severity"]
    assert lines == [
        event.line({**vars(task), "watch": WATCH.name, "by": "sweep"}, level) for task in tasks
    ]
    assert all(len(line) <= events.LINE_BYTES for line in lines)


def test_a_line_of_a_request_carries_its_trace():
    held = trace.current.set(Trace("projects/p/traces/t", "00f067aa0ba902b7", sampled=True))
    try:
        entry = json.loads(events.TASK_CREATED.line({}))
    finally:
        trace.current.reset(held)
    assert entry["logging.googleapis.com/trace"] == "projects/p/traces/t"
    assert entry["logging.googleapis.com/spanId"] == "00f067aa0ba902b7"
    assert entry["logging.googleapis.com/trace_sampled"] is True


def test_lines_of_many_threads_do_not_mix(tmp_path):
    """Without a lock 300 of 3,200 lines of 6 kB were cut or lost (Python 3.11)."""
    writer = """
        import sys, threading
        from functions.core import events

        sys.setswitchinterval(1e-6)

        def write(name):
            for number in range(100):
                text = "x" * (20_000 if number % 3 else 10)
                events.emit(events.HANDLER_LOG, task_id=name, kind="k", number=number, text=text,
                  logger="l")

        threads = [threading.Thread(target=write, args=(name,)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    command = [sys.executable, "-c", textwrap.dedent(writer)]
    out = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 1600
    for name in range(16):
        assert [line["number"] for line in lines if line["task_id"] == name] == list(range(100))


def test_each_line_is_an_entry_of_its_own_where_the_framework_adds_execution_ids(tmp_path):
    """Cloud Functions set LOG_EXECUTION_ID: the framework then rewrites each write as one entry of
    JSON."""
    (tmp_path / "main.py").write_text(
        textwrap.dedent("""
        import functions_framework
        from functions.core import events, trace

        @functions_framework.http
        def batch(request):
            trace.current.set(trace.of(request.headers, None))
            events.emit_lines(events.TASK_CREATED.line({"task_id": number}) for number in range(3))
            return "done"
    """)
    )
    code = (
        "import functions_framework as f; f.create_app('batch', 'main.py', "
        "'http').test_client().get('/')"
    )
    env = os.environ | {"LOG_EXECUTION_ID": "true", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    out = subprocess.run(
        command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["event"], line["task_id"]) for line in lines] == [
        ("task_created", number) for number in range(3)
    ]
    assert all(line["logging.googleapis.com/labels"]["execution_id"] for line in lines)


# -- all of them, from the real code on a real database


@pytest.fixture
def written(monkeypatch):
    """(event, values, level) of each line."""
    found = []
    line = Event.line

    def noting(self, values, level=None, about=None):
        found.append((self, dict(values), level))
        return line(self, values, level, about)

    monkeypatch.setattr(Event, "line", noting)
    return found


class Queue:
    refuses = False

    def push(self, *_):
        if self.refuses:
            raise DispatchError("the queue is gone")


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def store(database):
    store = PostgresStore(database)
    yield store
    store.close()


@pytest.fixture
def rows(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield lambda text, *values: connection.execute(text, values)


def test_every_line_of_the_system_says_all_that_its_event_carries(
    store, rows, queue, written, monkeypatch
):
    endings(store, monkeypatch)
    sweeps(store, rows, queue, monkeypatch)
    requests()
    handlers(written)
    notifications(store, rows)
    after_a_sweep(store, rows, monkeypatch)
    pauses(store, rows)
    a_clock_is_set(store)
    elsewhere(monkeypatch)
    assert {event.name for event, _, _ in written} == set(ALL), "each event is provoked here"
    for event, values, _ in written:
        missing = set(event.fields) - set(values)
        assert missing <= UNKNOWN.get(event.name, set()), f"{event.name} leaves out {missing}"
    for _, _, level in written:
        assert level is None or level in SEVERITIES


def running(store):
    """A task that is claimed."""
    return claim(store, WATCH, store.create(WATCH, "image", {"prompt": "x"}).task_id, worker="w")


def endings(store, monkeypatch):
    first = running(store)
    claim(store, WATCH, first.task_id, worker="w")  # held
    claim(store, WATCH, "00000000-0000-4000-8000-000000000000", worker="w")  # missing
    claim(store, WATCH, store.create(WATCH, "image", {}, delay=3600).task_id, worker="w")  # early
    finish(store, first, AttemptEnd(SettleAs.COMPLETE, result={}))
    finish(store, first, AttemptEnd(SettleAs.FAIL, "handler_error"))  # its lease is lost
    finish(
        store, running(store), AttemptEnd(SettleAs.FAIL, "handler_error", "It failed.", "detail")
    )
    finish(store, running(store), AttemptEnd(SettleAs.RETRY, "transient", after=60))
    finish(store, running(store), Lost(reason="lease_lost"))
    claimed = running(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "call", away)
        with pytest.raises(StoreError):
            finish(store, claimed, AttemptEnd(SettleAs.RETRY, "crashed"), timeout=0)
        attempt = _Attempt(store, POLICY, NoDispatch(), WATCH, claimed, started=0)
        attempt.next_beat = 0
        attempt.deadline = 0.2
        assert attempt._beat() is None


def finish(store, claimed, ending, timeout=5.0):
    return settle(store, NoDispatch(), WATCH, claimed, ending, seconds=0.1, timeout=timeout)


def away(*_):
    raise StoreError("the database is away", retryable=True)


def sweeps(store, rows, queue, monkeypatch):
    tasks = [running(store).task_id for _ in range(3)]
    rows("alter table tasks add check (status <> 'failed' or kind <> 'unsweepable')")
    for kind in ("image", "unsweepable"):
        task_id = waiting(store)
        rows(
            "update tasks set scheduled_at = now() - interval '1 day', kind = %s where id = %s",
            kind,
            task_id,
        )
        rows(
            "insert into unstuck.dispatches values ('tasks', %s, 2, now() - interval '20 h')",
            task_id,
        )
    rows("update unstuck.attempts set deadline_at = now() where ended_at is null")
    rows("update unstuck.attempts set tries = 3 where task_id = %s", tasks[1])
    rows("alter table tasks disable trigger user")
    rows("update tasks set status = 'cancelled' where id = %s", tasks[2])
    rows(
        "update tasks set scheduled_at = now() - interval '5 minutes' where id = %s", waiting(store)
    )
    assert sweep(store, POLICY, queue, key="1").unsweepable == 1
    sweep(store, POLICY, queue, key="1")  # duplicate
    for _ in range(10):
        running(store)
    rows("update unstuck.attempts set lease = '0', lease_until = now() where ended_at is null")
    queue.refuses = True
    rows(
        "update tasks set scheduled_at = now() - interval '5 minutes' where id = %s", waiting(store)
    )
    assert sweep(store, POLICY, queue).suspended == 10
    with monkeypatch.context() as patch:
        patch.setattr(store, "call", away)
        with pytest.raises(StoreError):
            sweep(store, POLICY, queue)
    expired = running(store).task_id
    rows("update unstuck.attempts set deadline_at = now() where task_id = %s", expired)
    report(queue, WATCH, store.status(WATCH, expired).rescued, by="status")


def notifications(store, rows):
    policy = replace(POLICY, watches={"tasks": replace(WATCH, notify=True)})
    settings = Settings.read({"NOTIFY_URL": "https://receiver.example/"})
    for status in (200, 500):
        rows(
            "insert into unstuck.outbox (watch, task_id, number, kind, reason) "
            "values ('tasks', '1', 1, 'image', 'stale')"
        )
        with responses.RequestsMock() as wire:
            wire.post("https://receiver.example/", status=status)
            notify.notify(store, policy, settings, time.monotonic() + 60)
    with responses.RequestsMock() as wire:
        wire.get("https://receiver.example/", status=500)
        ping("https://receiver.example/", time.monotonic() + 60)
    silent = SimpleNamespace(metrics=lambda *_: {"last_sweep": {"age": 500.0}})
    heed(silent, policy, Settings.read({}))


def waiting(store):
    return store.create(WATCH, "image", {}).task_id


class Request:
    method = "POST"
    headers = MappingProxyType({})


def after_a_sweep(store, rows, monkeypatch):
    """Google is away; then its log says why a worker died."""
    monkeypatch.setattr(gauges, "write", raising(ConnectionError("Monitoring is away")))
    monkeypatch.setattr(evidence, "explain", raising(ConnectionError("Logging is away")))
    afterwards(store, POLICY, "our-project", 1, {}, [{}], until=time.monotonic() + 60)
    claimed = running(store)
    rows(
        "update unstuck.attempts set lease = '0', lease_until = now() where task_id = %s",
        claimed.task_id,
    )
    swept = sweep(store, POLICY).sweep_id
    cause = Evidence("tasks", claimed.task_id, 1, "crashed", "It said so.")
    assert evidence.write(store, swept, [cause]) == 1


def pauses(store, rows):
    """One that is new, one that is forgotten, and one that is over."""
    store.pause(WATCH, "image", "ada", "it is down", None)
    sweep(store, POLICY)
    rows("update unstuck.pauses set since = since - interval '2 days'")
    sweep(store, POLICY)
    store.resume(WATCH, "image", "ada")
    sweep(store, POLICY)


def a_clock_is_set(store):
    """By an hour, since the last sweep."""
    at, monotonic = clock._last_run[store]
    clock._last_run[store] = at - 3600, monotonic
    sweep(store, POLICY)


def elsewhere(monkeypatch):
    """A URL of Prisma's; then a worker outside of Google Cloud, and Cloud Logging is away."""
    url = "postgresql://nobody@127.0.0.1:1/none?pgbouncer=true"
    store_of(Settings.read({"DATABASE_URL": url}))
    with monkeypatch.context() as patch:
        patch.setattr(log_api, "client", raising(ConnectionError("Logging is away")))
        transport = log_api.CloudLogging(Settings.read({}))
        patch.setattr(events, "_write", transport.write)
        events.emit_lines(["a line"])
        for sender in transport.senders.values():
            sender.close(60)  # it imports Google's client first, which a busy machine does slowly


def requests():
    refused = BadRequestError("Who are you?", status=401)
    for error in (
        StoreError("away", retryable=True),
        StoreError("no", retryable=False),
        ValueError("a bug"),
        refused,
    ):
        http.answer(App({}), Request(), "sweep", ("POST",), raising(error))
    with pytest.raises(BadRequestError):
        Keys("http://127.0.0.1:1").find("k")
    events.emit(events.TASK_CREATED, watch="tasks", task_id="1", kind="image")
    events.emit(events.OPERATOR_ACTED, who="bo", action="fail", watch="tasks", count=1, wanted="1")


def raising(error):
    def respond(*_):
        raise error

    return respond


def logs(ctx, task_input):
    ctx.logger.info("half of %s", "it")
    ctx.logger.warning("%d", "not a number")
    ctx.logger.log(25, "between two levels")
    ctx.logger.critical("and %s", "more", exc_info=ValueError("why"))


def handlers(written):
    work = Work(Job(f"{__name__}:logs", "1", "image", 1, {}, {}, 10, 10**8), "thread")
    assert first_message(work) == Result("null")
    work.end()
    lines = [
        (values["text"], level) for event, values, level in written if event is events.HANDLER_LOG
    ]
    assert [level for _, level in lines] == ["INFO", "WARNING", "INFO", "CRITICAL"]
    assert lines[0][0] == "half of it"
    assert lines[1][0] == "%d (its arguments do not fit)", (
        "a slip in a log call does not fail the task"
    )
    assert lines[3][0].endswith("ValueError: why")
    Forkservers().learn("a_module", 0.1, "1 socket", by_rule=None)


def test_a_handlers_logger_reaches_nobody_elses_handlers(caplog):
    with caplog.at_level(logging.DEBUG):
        work = Work(Job(f"{__name__}:logs", "1", "image", 1, {}, {}, 10, 10**8), "thread")
        assert first_message(work) == Result("null")
        work.end()
    assert caplog.records == []


def test_kinds_that_callers_make_up_are_a_bounded_number_of_labels(monkeypatch):
    """Each value of a label makes a time series. The sentence of a line has the kind itself."""
    monkeypatch.setattr(events, "_kinds", {"known"})
    made_up = [f"kind-{number}" for number in range(1000)] + ["a\u202eb", "a\nb"]
    lines = [
        json.loads(events.TASK_CREATED.line({"watch": "tasks", "task_id": "1", "kind": kind}))
        for kind in [*made_up, "known"]
    ]
    assert len({line["kind"] for line in lines}) == events.MOST_KINDS + 1
    assert lines[-1]["kind"] == "known"
    assert lines[-2]["kind"] == events.OTHER_KIND
    assert made_up[999] in lines[999]["message"]


def test_kinds_of_the_policy_are_labels_however_many_others_came_before(monkeypatch):
    monkeypatch.setattr(events, "_kinds", set())
    for number in range(1000):
        events.counted_kind(f"kind-{number}")
    assert App().policy
    assert events.counted_kind("image") == "image"
