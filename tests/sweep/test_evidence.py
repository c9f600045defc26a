"""Why a worker died: the platform's log is asked at the wire, the ledger says what it found, and
the sweep never minds."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import responses
from google.auth.credentials import AnonymousCredentials
from google.cloud import logging_v2

from functions.core import explain
from functions.core.answers import Attempt, Evidence
from functions.core.policy import DEFAULT, load
from functions.store.postgres import PostgresStore
from functions.sweep import evidence
from functions.sweep.sweep import SweepReport
from tests.chain.logging_api import LoggingApi
from tests.chain.platform import (
    EXIT,
    OOM,
    PROJECT,
    ROLLOUT,
    SIGNAL,
    STARTED,
    STOPPED,
    TIMEOUT,
    line,
)
from tests.sweep.steps import sweep

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
REVISION, INSTANCE = "unstuck-worker-00007-abc", "00f1a2b3"


class World:
    """A database, a sweep that looks for evidence, and what the platform wrote."""

    def __init__(self, dsn: str, api: LoggingApi) -> None:
        self.store, self.api = PostgresStore(dsn), api
        self.db = psycopg.connect(dsn, autocommit=True)

    def dies(
        self,
        worker: str = f"{REVISION}@{INSTANCE}",
        *,
        kind: str = "image",
        late: float = 1.0,
        tries: int = 1,
    ) -> str:
        """A task whose worker stopped without a word, so that its lease ran out."""
        task = self.store.create(WATCH, kind, {}).task_id
        self.store.claim(WATCH, task, worker)
        self.db.execute(
            "update unstuck.attempts set lease = '0', "
            "lease_until = now() - make_interval(secs => %s), tries = %s "
            "where task_id = %s",
            (late, tries, task),
        )
        return str(task)

    def wrote(self, text: str | None, ago: float = 20.0, **more: Any) -> None:
        self.api.entries.append(line(text, datetime.now(UTC) - timedelta(seconds=ago), **more))

    def sweep(self) -> SweepReport:
        return sweep(self.store, POLICY)

    def attempt(self, task: str) -> Attempt:
        return self.store.history(WATCH, task)[-1]

    def said(self, task: str) -> str:
        return explain.explain(POLICY, WATCH, self.store.status(WATCH, task, heal=False))


@pytest.fixture
def api() -> Iterator[LoggingApi]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield LoggingApi(mock)


@pytest.fixture
def world(database: str, api: LoggingApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("METRICS", "on")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setattr("functions.sweep.gauges.write", lambda *_: 0)
    client = logging_v2.Client(project=PROJECT, credentials=AnonymousCredentials(), _use_grpc=False)
    monkeypatch.setattr(evidence, "client", lambda _: client)
    made = World(database, api)
    yield made
    made.db.close()
    made.store.close()


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Any:
    return lambda event: [
        one for one in map(json.loads, capfd.readouterr().out.splitlines()) if one["event"] == event
    ]


KNOWN = {
    "out of memory": (OOM, {}, "out_of_memory", "the work needed more memory than it may use"),
    "out of memory, told otherwise": (
        "Out-of-memory event detected in container",
        {},
        "out_of_memory",
        "more memory",
    ),
    "a request timeout": (TIMEOUT, {"status": 504}, "deadline", "the work took longer than it may"),
    "a request timeout without a text": (
        None,
        {"status": 504},
        "deadline",
        "the work took longer than it may",
    ),
    "a signal": (
        SIGNAL,
        {"severity": "WARNING"},
        "crashed",
        "the process that did the work crashed",
    ),
    "an exit": (EXIT, {"severity": "WARNING"}, "crashed", "crashed"),
    "stopped": (STOPPED, {"severity": "INFO"}, "shutdown", "the worker was shut down"),
    "a new revision": (
        ROLLOUT,
        {"severity": "INFO", "revision": "unstuck-worker-00008-xyz", "instance": "00aa"},
        "shutdown",
        "shut",
    ),
    "a line that names no instance": (OOM, {"instance": None}, "out_of_memory", "more memory"),
}


@pytest.mark.parametrize("case", KNOWN)
def test_the_ledger_and_explain_say_why_the_worker_died(case: str, world: World, log: Any) -> None:
    text, more, cause, said = KNOWN[case]
    task = world.dies()
    world.wrote(text, **more)
    assert world.sweep().requeued == 1
    attempt = world.attempt(task)
    assert (attempt.cause, attempt.reason, attempt.outcome) == (cause, "lease_lost", "retried")
    assert (text or "maximum request timeout")[:200] in attempt.evidence
    assert said in world.said(task)
    assert attempt.evidence in world.said(task)
    [found] = log("evidence_found")
    assert (found["task_id"], found["number"], found["cause"], found["evidence"]) == (
        task,
        1,
        cause,
        attempt.evidence,
    )


OTHERS = {
    "another revision": (OOM, {"revision": "unstuck-worker-00006-old"}),
    "another instance": (OOM, {"instance": "00ffffff"}),
    "another service": (OOM, {"revision": "unstuck-api-00007-abc"}),
    "long before": (OOM, {"ago": 600.0}),
    "a new instance for more load": (
        STARTED,
        {"severity": "INFO", "revision": "unstuck-worker-00007-abc"},
    ),
    "a new revision of another service": (
        ROLLOUT,
        {"severity": "INFO", "revision": "unstuck-api-00008-xyz"},
    ),
    "a rollout of its own revision": (ROLLOUT, {"severity": "INFO"}),
    "an ordinary answer": (None, {"status": 200}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_happened_to_others_is_no_evidence(case: str, world: World) -> None:
    text, more = OTHERS[case]
    task = world.dies()
    world.wrote(text, **more)
    world.sweep()
    attempt = world.attempt(task)
    assert (attempt.cause, attempt.evidence) == ("lease_lost", None)


def test_of_several_lines_the_surest_counts(world: World) -> None:
    task = world.dies()
    for text in (SIGNAL, STOPPED, OOM):
        world.wrote(text)
    world.sweep()
    assert world.attempt(task).cause == "out_of_memory"


def test_a_failed_task_keeps_its_state_its_reason_and_its_error(world: World) -> None:
    task = world.dies(tries=3)
    world.wrote(OOM)
    assert world.sweep().failed == 1
    status = world.store.status(WATCH, task)
    assert (status.state, status.reason) == ("failed", "attempts_exhausted")
    assert "stopped without a word" in status.error
    assert "Memory limit of 512 MiB exceeded" in world.said(task)


def test_one_query_serves_all_of_a_sweep_and_there_is_a_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MAX_TASKS", 3)
    tasks = [world.dies() for _ in range(5)]
    world.wrote(OOM)
    world.sweep()
    assert len(world.api.filters) == 1
    assert [world.attempt(task).evidence is None for task in tasks].count(False) == 3


@pytest.mark.parametrize("worker", ["local@desk", "worker@localhost", "vm-7", ""])
def test_nobody_is_asked_about_a_worker_elsewhere(worker: str, world: World) -> None:
    world.dies(worker)
    world.sweep()
    assert world.api.filters == []


def test_without_an_instance_the_revision_counts(world: World) -> None:
    task = world.dies(f"{REVISION}@localhost")
    world.wrote(OOM, instance="00ffffff")
    world.sweep()
    assert world.attempt(task).cause == "out_of_memory"


def test_other_ends_ask_nobody(world: World) -> None:
    task = world.dies()
    world.db.execute(
        "update unstuck.attempts set deadline_at = now() - interval '1s' where task_id = %s",
        (task,),
    )
    world.sweep()
    assert world.attempt(task).cause == "deadline"
    assert world.api.filters == []


@pytest.mark.parametrize(
    ("name", "value"), [("METRICS", "off"), ("METRICS", None), ("GOOGLE_CLOUD_PROJECT", None)]
)
def test_nobody_is_asked_unless_it_is_switched_on(
    name: str, value: str | None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    world.dies()
    world.sweep()
    assert world.api.filters == []


@pytest.mark.parametrize("status", [403, 500])
def test_a_log_that_cannot_be_read_is_told_and_the_sweep_is_fine(
    status: int, world: World, log: Any
) -> None:
    world.api.status = status
    task = world.dies()
    answer = world.sweep()
    assert (answer.verdict, answer.requeued) == ("ok", 1)
    assert world.attempt(task).cause == "lease_lost"
    [failed] = log("evidence_failed")
    assert failed["count"] == 1


def test_a_log_that_does_not_answer_holds_nobody_up(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    monkeypatch.setattr("functions.sweep.after_sweep.TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(evidence, "_entries", lambda *_: time.sleep(30))
    world.dies()
    started = time.monotonic()
    assert world.sweep().verdict == "ok"
    assert time.monotonic() - started < 20
    assert "no answer within" in log("evidence_failed")[0]["error"]


# -- the verb


def told(world: World, task: str, sweep_id: int, cause: str = "crashed") -> int:
    line = Evidence("tasks", task, 1, cause, "it said so")
    return world.store.evidence(sweep_id, [line])


def test_the_verb_tells_once_and_only_of_what_that_sweep_ended(world: World) -> None:
    task = world.dies()
    assert told(world, task, 1) == 0, "a live attempt"
    done = world.sweep().sweep_id
    assert told(world, task, done + 1) == 0, "another sweep"
    before = vars(world.store.status(WATCH, task, heal=False))
    assert told(world, task, done) == 1
    after = vars(world.store.status(WATCH, task, heal=False))
    assert {name for name in after if before[name] != after[name]} <= {
        "attempt",
        "waited",
        "silent",
        "due_in",
        "pending_left",
    }
    assert told(world, task, done, "out_of_memory") == 0, "a repetition"
    assert world.attempt(task).cause == "crashed"
