"""rescue: what the platform's log says of an instance ends what that instance held, at once and
with the cause, and nothing else."""

import base64
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from functions.core.policy import DEFAULT, load
from functions.core.states import SettleAs
from functions.store.postgres import PostgresStore
from functions.sweep.platform_line import death_of
from tests.chain import platform
from tests.chain.platform import EXIT, OOM, ROLLOUT, SIGNAL, STARTED, STOPPED, TIMEOUT
from tests.entry.steps import EntryPoints

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
REVISION, INSTANCE = "unstuck-worker-00007-abc", "00f1a2b3"
WORKER = f"{REVISION}@{INSTANCE}"
TOO_MUCH = (
    "While handling this request, the container instance was found to be using too much memory "
    "and was terminated. This is likely to cause a new container instance to be used for the next "
    "request to this revision."
)
LONG_RUN = 700.0
"""Seconds: as long as a request that is given up may have run."""


class Instances:
    """Workers that hold tasks and say nothing any more, and what the platform writes of them."""

    def __init__(self, http: EntryPoints, db: psycopg.Connection[Any], dsn: str) -> None:
        self.http, self.db, self.store = http, db, PostgresStore(dsn)

    def holds(self, worker: str = WORKER, *, kind: str = "image", ago: float = LONG_RUN) -> str:
        """A task that the worker began so many seconds ago; its last heartbeat was 5 s ago."""
        task = self.store.create(WATCH, kind, {})
        self.store.claim(WATCH, task.task_id, worker)
        self.db.execute(
            "update unstuck.attempts set started_at = now() - make_interval(secs => %s), "
            "beat_at = now() - make_interval(secs => %s), "
            "lease_until = now() + interval '30 s', deadline_at = now() + interval '10 min' "
            "where task_id = %s",
            (ago, min(ago, 5.0), task.task_id),
        )
        return str(task.task_id)

    def wrote(self, entry: dict[str, Any]) -> int:
        """How many attempts the line ended."""
        data = base64.b64encode(json.dumps(entry).encode()).decode()
        answer = self.http.ask("rescue", json={"message": {"data": data}, "subscription": "s"})
        assert answer.status_code == 200, answer.text
        return int(answer.json["ended"])

    def attempt(self, task: str) -> dict[str, Any]:
        query = "select * from unstuck.attempts where task_id = %s order by number desc limit 1"
        return self.db.execute(query, (task,)).fetchone()

    def status(self, task: str) -> str:
        row = self.db.execute("select status from tasks where id = %s", (task,)).fetchone()
        return str(row["status"])


@pytest.fixture
def instances(http: EntryPoints, db: psycopg.Connection[Any]) -> Iterator[Instances]:
    made = Instances(http, db, db.info.dsn)
    yield made
    made.store.close()


def line(text: str | None, ago: float = 0.5, **more: Any) -> dict[str, Any]:
    return platform.line(text, datetime.now(UTC) - timedelta(seconds=ago), **more)


MALFORMED = (
    "The request failed because either the HTTP response was malformed or connection to the "
    "instance had an error."
)
LINES: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "memory limit": (OOM, {}, "out_of_memory"),
    "out of memory": ("Out-of-memory event detected in container", {}, "out_of_memory"),
    "too much memory": (TOO_MUCH, {"status": 500}, "out_of_memory"),
    "timeout": (TIMEOUT, {"status": 504}, "deadline"),
    "timeout without a text": (None, {"status": 504}, "deadline"),
    "signal 9": (SIGNAL, {}, "crashed"),
    "signal 11": ("Container terminated on signal 11.", {}, "crashed"),
    "exit": (EXIT, {}, "crashed"),
    "stopped": (STOPPED, {}, "shutdown"),
    "signal 15": ("Container terminated on signal 15.", {}, "shutdown"),
    "exit 0": ("Container called exit(0).", {}, "shutdown"),
}
MORE_LINES = {
    "Memory limit of 1430 MiB exceeded with 1501 MiB used.": "out_of_memory",
    "Memory limit of 512M exceeded with 526M used. Consider increasing it.": "out_of_memory",
    "The configured memory limit was reached.": "out_of_memory",
    "Container terminated on signal 6": "crashed",
    "Container terminated by the container manager on signal 9.": "crashed",
    "Container called exit(137).": "crashed",
    "Container terminated by the container manager on signal 15.": "shutdown",
    "Container terminated by the container manager on signal 0.": None,
    "Uncaught signal: 11, pid=5, tid=29, fault_addr=0.": None,
    "Default STARTUP TCP probe succeeded after 1 attempt for container.": None,
}
"""As people have quoted them since 2021. An uncaught signal may be that of one process alone: when
the container ends too, a line of its own says so."""


@pytest.mark.parametrize("text", MORE_LINES)
def test_the_cause_is_known_in_the_words_of_other_years_and_generations(text: str) -> None:
    death = death_of(line(text), POLICY.timeout)
    assert (death and death.cause) == MORE_LINES[text]


def test_the_log_of_the_platform_has_two_names() -> None:
    death = death_of(line(OOM, log=platform.OTHER_LOG), POLICY.timeout)
    assert death
    assert death.cause == "out_of_memory"
    assert death_of(line(OOM, log="run.googleapis.com%2Fsystem"), POLICY.timeout) is None


def test_a_request_that_failed_leaves_it_open_whether_its_instance_lives() -> None:
    assert death_of(line(MALFORMED, status=503), POLICY.timeout) is None


@pytest.mark.parametrize("name", LINES)
def test_a_line_about_the_instance_ends_what_it_held_at_once_with_the_cause(
    name: str, instances: Instances, capsys: pytest.CaptureFixture[str]
) -> None:
    text, more, cause = LINES[name]
    task = instances.holds()
    capsys.readouterr()
    began = time.monotonic()
    assert instances.wrote(line(text, **more)) == 1
    assert time.monotonic() - began < 1
    attempt = instances.attempt(task)
    assert (instances.status(task), attempt["cause"]) == ("pending", cause)
    assert attempt["detail"].startswith("Cloud Run's log at ")
    [event] = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert (event["event"], event["by"], event["reason"]) == ("task_requeued", "platform", cause)


@pytest.mark.parametrize("text", [OOM, SIGNAL, EXIT])
def test_an_instance_of_a_pool_is_known_too(text: str, instances: Instances) -> None:
    told = platform.pool_line(text, datetime.now(UTC))
    labels = told["resource"]["labels"]
    task = instances.holds(f"{labels['revision_name']}@{INSTANCE}")
    other = instances.holds()
    assert instances.wrote(told) == 1
    assert instances.status(task) == "pending"
    assert instances.status(other) == "processing"


def test_a_line_that_comes_twice_or_after_the_end_changes_nothing(instances: Instances) -> None:
    task = instances.holds()
    told = line(OOM)
    assert [instances.wrote(told), instances.wrote(told)] == [1, 0]
    before = instances.attempt(task)
    instances.store.claim(WATCH, task, WORKER)
    assert instances.wrote(told) == 0, "the line is older than this attempt"
    assert before["number"] == 1


def test_work_that_must_not_be_repeated_fails_and_the_last_try_too(instances: Instances) -> None:
    task = instances.holds()
    instances.db.execute("update unstuck.attempts set tries = 99 where task_id = %s", (task,))
    instances.wrote(line(SIGNAL))
    assert instances.status(task) == "failed"


def test_whoever_ended_it_in_the_meantime_is_right(instances: Instances) -> None:
    task = instances.holds()
    token = str(instances.attempt(task)["token"])
    instances.store.settle(WATCH, task, token, SettleAs.COMPLETE, result={})
    assert instances.wrote(line(SIGNAL)) == 0
    assert instances.status(task) == "completed"


def test_a_worker_that_sent_a_heartbeat_after_the_line_is_not_gone(instances: Instances) -> None:
    task = instances.holds()
    assert instances.wrote(line(OOM, ago=60)) == 0
    assert instances.status(task) == "processing"


def test_a_request_that_was_given_up_leaves_the_others_of_its_instance_alone(
    instances: Instances,
) -> None:
    young, old = instances.holds(ago=30), instances.holds()
    assert instances.wrote(line(TIMEOUT, status=504)) == 1
    assert (instances.status(young), instances.status(old)) == ("processing", "pending")


ALIKE: dict[str, tuple[str | None, dict[str, Any]]] = {
    "another service": (OOM, {"revision": "unstuck-worker-event-00007-abc"}),
    "another installation": (OOM, {"revision": "unstuck-dev-worker-00007-abc"}),
    "another revision": (OOM, {"revision": "unstuck-worker-00008-abd"}),
    "another instance": (SIGNAL, {"instance": "00f1a2b3c4"}),
    "the beginning of its name": (SIGNAL, {"instance": "00f1a2"}),
    "no instance": (OOM, {"instance": None}),
    "a log of the handler": (OOM, {"log": "run.googleapis.com%2Fstdout"}),
    "a job": (OOM, {"resource": "cloud_run_job"}),
    "a new revision": (ROLLOUT, {}),
    "a new instance": (STARTED, {}),
    "an end that is none": ("Container terminated on signal 0.", {}),
    "a process of the handler": ("Uncaught signal: 6, pid=12, tid=12, fault_addr=0.", {}),
    "a connection that broke": (MALFORMED, {"status": 503}),
    "a request that went well": (None, {"status": 200}),
    "a request that had no instance": (
        "The request was aborted because there was no available instance.",
        {"status": 429},
    ),
    "an old line": (OOM, {"ago": 3600.0}),
    "a line of before its last heartbeat": (SIGNAL, {"ago": 9.0}),
}


def alike(count: int, seed: int, before: datetime) -> Iterator[dict[str, Any]]:
    chance = random.Random(seed)
    names = list(ALIKE)
    for _ in range(count):
        text, more = ALIKE[chance.choice(names)]
        ago = {"ago": chance.uniform(0, 1), **more}.pop("ago")
        rest = {name: value for name, value in more.items() if name != "ago"}
        yield platform.line(text, before - timedelta(seconds=float(ago)), **rest)


def test_lines_that_look_alike_end_no_living_lease(instances: Instances) -> None:
    tasks = [instances.holds() for _ in range(3)]
    now = datetime.now(UTC)
    assert sum(instances.wrote(one) for one in alike(150, 14, now)) == 0
    assert {instances.status(task) for task in tasks} == {"processing"}


def test_of_ten_thousand_of_them_none_finds_a_living_attempt(instances: Instances) -> None:
    instances.holds()
    deaths = [
        death
        for one in alike(10_000, 15, datetime.now(UTC))
        if (death := death_of(one, POLICY.timeout))
    ]
    assert len(deaths) > 3000, "most are left out before the ledger is asked"
    query = (
        "select count(*) as found from unnest(%s::text[], %s::timestamptz[], %s::float8[]) "
        "as d (worker, at, age) where unstuck.held_by(d.worker, d.at, d.age)::text <> '[]'"
    )
    columns = [[getattr(one, name) for one in deaths] for name in ("worker", "at", "age")]
    assert instances.db.execute(query, columns).fetchone()["found"] == 0
    columns[0] = [WORKER] * len(deaths)
    assert instances.db.execute(query, columns).fetchone()["found"] > 0, "it asks nothing"


@pytest.mark.parametrize(
    "data", ["", "{}", "[]", "null", "not json", '{"resource": {}}', '{"resource": 1}']
)
def test_what_is_no_line_of_a_log_is_refused_and_ends_nothing(data: str, http: EntryPoints) -> None:
    message = {"data": base64.b64encode(data.encode()).decode()}
    assert http.ask("rescue", json={"message": message}).status_code == 400
    assert http.ask("rescue", json={"message": "x"}).status_code == 400
