"""From the code to the pager, offline: lines that the real functions wrote, the filters of the
log-based metrics, the alert rules, and promtool as the judge. Whatever breaks a link of the chain
is caught."""

import ast
import copy
import dataclasses
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.core import events
from functions.ops.postgres.embedded import Postgres
from tests.chain import platform
from tests.chain.definitions import ALERTS, FUNCTIONS, Chain, Metric, extracted, from_files
from tests.chain.entries import entry_of
from tests.chain.query import compiled
from tests.chain.recorded import Recorded, record
from tests.chain.timeline import Timeline, judge
from tests.conftest import copied
from tests.faults.world import World

KEPT_RECORD = "UNSTUCK_TESTS_RECORD"
"""A variable with the file in which `make mutants` keeps the lines: no fault of infra/ changes
what the code writes."""
DAY = 24 * 60
BURN = "TaskFailureBurnFast"


@pytest.fixture(scope="module")
def recorded(
    postgres: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    kept = Path(os.environ[KEPT_RECORD]) if KEPT_RECORD in os.environ else None
    if kept and kept.exists():
        yield pickle.loads(kept.read_bytes())
        return
    with copied(postgres, template) as dsn:
        world = World(dsn, tmp_path_factory.mktemp("chain"))
        try:
            lines = record(world)
            if kept:
                kept.write_bytes(pickle.dumps(lines))
            yield lines
        finally:
            world.close()


@pytest.fixture(scope="module")
def chain() -> Chain:
    return from_files()


def names(chain: Chain) -> list[str]:
    return [rule["alert"] for rule in chain.rules]


# -- the days


def healthy(played: Recorded, chain: Chain, length: int = DAY) -> Timeline:
    """Five tasks a minute, of which one in 1,200 fails; nothing is told."""
    day = (
        Timeline("a healthy day", length)
        .add(played.sweep, 0, length)
        .add(played.completed * 5, 0, length)
    )
    day.add(played.failed, 100, length, every=240)
    for alert in names(chain):
        day.silent(alert, *range(60, length, 60), length - 1)
    return day


def failing(played: Recorded) -> Timeline:
    """One task in five fails from minute 60 until 120."""
    day = Timeline("20 % fail for an hour", 180).add(played.sweep, 0, 180)
    day.add(played.completed * 10, 0, 60).add(played.completed * 8 + played.failed * 2, 60, 120)
    day.add(played.completed * 10, 120, 180)
    return (
        day.silent(BURN, 59, 75)
        .fires(BURN, 110, 119)
        .silent(BURN, 130, 179)
        .silent("SweepSilent", 59, 179)
    )


def lonely(played: Recorded) -> Timeline:
    """One task in two hours, and it fails."""
    day = Timeline("one lonely failure", 120).add(played.sweep, 0, 120).add(played.failed, 30)
    for alert in (BURN, "TaskFailureBurnMedium", "TaskFailureBurnSlow"):
        day.silent(alert, 31, 33, 40, 90, 119)
    return day


def silence(played: Recorded) -> Timeline:
    """The sweep runs, stops at minute 30 and comes back at 90."""
    day = Timeline("the sweep goes silent", 120).add(played.completed, 0, 120)
    day.add(played.sweep, 0, 30).add(played.sweep, 90, 120)
    return (
        day.silent("SweepSilent", 29, 44)
        .fires("SweepSilent", 55, 85)
        .silent("SweepSilent", 95, 119)
    )


def never(played: Recorded) -> Timeline:
    """Deployed, and the sweep has never run."""
    return (
        Timeline("the sweep never ran", 30)
        .add(played.completed, 0, 30)
        .fires("SweepSilent", 10, 29)
        .fires("SweepIncomplete", 29)
    )


def broken(played: Recorded) -> Timeline:
    """The sweep runs each minute and fails: told as what it is, and not as silence."""
    day = Timeline("the sweep fails", 60).add(played.sweep, 0, 20).add(played.broken_sweep, 20, 60)
    return day.silent("SweepFailing", 19).fires("SweepFailing", 30, 59).silent("SweepSilent", 59)


def late(played: Recorded) -> Timeline:
    """Each sweep ends a task that has been overdue for an hour."""
    day = (
        Timeline("tasks end an hour late", 60)
        .add(played.sweep, 0, 20)
        .add(played.late_sweep, 20, 60)
    )
    return day.silent("TaskOverdue", 19).fires("TaskOverdue", 45, 59)


def losing(played: Recorded) -> Timeline:
    """Workers lose their tasks while they work."""
    day = Timeline("leases are lost", 60).add(played.sweep, 0, 60).add(played.lost, 20, 40, every=4)
    return day.silent("LeaseLost", 19).fires("LeaseLost", 45).silent("ZombieWriteRefused", 59)


def a_tenth_fails(played: Recorded) -> Timeline:
    """Too few for the fast alert, too many for the budget."""
    day = Timeline("one in ten fails for six hours", 480).add(played.sweep, 0, 480)
    day.add(played.completed * 10, 0, 60).add(played.completed * 9 + played.failed, 60, 480)
    return (
        day.silent("TaskFailureBurnMedium", 59)
        .fires("TaskFailureBurnMedium", 420, 479)
        .silent(BURN, 120, 240, 479)
    )


def a_twentieth_fails(played: Recorded) -> Timeline:
    day = Timeline("one in twenty fails for a day", 600).add(played.sweep, 0, 600)
    day.add(played.completed * 20, 0, 60).add(played.completed * 19 + played.failed, 60, 600)
    day.silent("TaskFailureBurnMedium", 599).silent(BURN, 599)
    return day.silent("TaskFailureBurnSlow", 59).fires("TaskFailureBurnSlow", 599)


def told_of(
    alert: str, name: str, *, every: int = 1, until: int = 40, fires: tuple[int, ...] = (39,)
) -> Callable[[Recorded], Timeline]:
    """An hour of healthy sweeps and tasks, in which what was recorded as `name` comes from minute
    20 on."""

    def day(played: Recorded) -> Timeline:
        hour = Timeline(f"{alert}: {name}", 90).add(played.sweep, 0, 90)
        hour.add(played.completed * 3, 0, 90).add(getattr(played, name), 20, until, every)
        return hour.silent(alert, 19).fires(alert, *fires)

    return day


def a_zombie_is_no_lost_beat(played: Recorded) -> Timeline:
    hour = Timeline("late results", 60).add(played.sweep, 0, 60).add(played.zombie, 20, 40, 4)
    return hour.silent("LeaseLost", 45, 59)


def waiting_is_not_late(played: Recorded) -> Timeline:
    hour = Timeline("tasks wait", 60).add(played.sweep, 0, 20).add(played.waiting_sweep, 20, 60)
    return hour.silent("TaskOverdue", 45, 59)


REQUESTS = "run.googleapis.com/request_count"
MEMORY = "run.googleapis.com/container/memory/utilizations_bucket"
"""https://cloud.google.com/monitoring/api/metrics_gcp_p_z: labels response_code_class (1xx to 5xx),
and a distribution from 0 to 1."""


def answers(service: str, *, broken: bool) -> Timeline:
    """From minute 20 on one answer in five is a fault of the function."""
    hour = Timeline(f"{service} answers with 5xx", 60)
    for code, values in (("2xx", "0+8x60"), ("5xx", "0x19 0+2x40"), ("4xx", "0+9x60")):
        labels = {"service_name": service, "response_code_class": code}
        hour.platform(REQUESTS, labels, values)
    hour.silent("FunctionErrors", 19)
    return hour.fires("FunctionErrors", 40) if broken else hour.silent("FunctionErrors", 40, 59)


def memory(service: str, *, full: bool) -> Timeline:
    hour = Timeline(f"{service} is near its memory limit", 60)
    for le, values in (("0.5", "0+10x20 200x40"), ("0.92", "0+10x20 200x40"), ("+Inf", "0+10x60")):
        hour.platform(MEMORY, {"service_name": service, "le": le}, values)
    hour.silent("MemoryHigh", 19)
    return hour.fires("MemoryHigh", 45) if full else hour.silent("MemoryHigh", 45, 59)


Day = Callable[[Recorded], Timeline]
DAYS: list[Day] = [
    failing,
    a_tenth_fails,
    a_twentieth_fails,
    lonely,
    silence,
    never,
    broken,
    late,
    losing,
    a_zombie_is_no_lost_beat,
    waiting_is_not_late,
    told_of("SweepSuspended", "suspended_sweep", until=21, fires=(25,)),
    told_of("TaskUnsweepable", "unsweepable_sweep"),
    told_of("PendingTooOld", "waiting_sweep"),
    told_of("SweepIncomplete", "incomplete_sweep"),
    told_of("SweepIncomplete", "broken_sweep"),
    told_of("RescueRateHigh", "requeuing_sweep"),
    told_of("RescueRateHigh", "late_sweep"),
    told_of("RescueRateHigh", "platform_rescue"),
    told_of("ZombieWriteRefused", "zombie", every=4),
    told_of("SettleFailed", "unsettled", every=2),
    told_of("DispatchFailed", "unpushed", every=2),
    lambda _: answers("unstuck-worker", broken=True),
    lambda _: answers("unstuck-dev-worker", broken=False),
    lambda _: memory("unstuck-worker", full=True),
    lambda _: memory("unstuck-dev-worker", full=False),
]


# -- the chain holds


def test_a_healthy_day_is_silent(recorded: Recorded, chain: Chain, tmp_path: Path) -> None:
    assert judge(chain, [healthy(recorded, chain)], tmp_path, every="5m") == ""


def test_faults_are_told_and_their_end_too(
    recorded: Recorded, chain: Chain, tmp_path: Path
) -> None:
    assert judge(chain, [day(recorded) for day in DAYS], tmp_path) == ""


def test_every_rule_is_seen_to_fire(recorded: Recorded, chain: Chain) -> None:
    fired = {alert for day in DAYS for _, alert, firing in day(recorded).expected if firing}
    assert fired == set(names(chain))


def test_what_was_recorded_is_what_it_is_called(recorded: Recorded) -> None:
    """So that a day is not silent because nothing was written."""

    def written(entries: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
        return [
            one["jsonPayload"]
            for one in entries
            if one.get("jsonPayload", {}).get("event") == event
        ]

    assert [one["state"] for one in written(recorded.completed, "task_finished")] == ["completed"]
    assert [(one["state"], one["reason"]) for one in written(recorded.failed, "task_finished")] == [
        ("failed", "crashed")
    ]
    assert [one["outcome"] for one in written(recorded.sweep, "sweep_finished")] == ["ok"]
    assert [one["outcome"] for one in written(recorded.broken_sweep, "sweep_finished")] == ["error"]
    assert written(recorded.late_sweep, "sweep_finished")[0]["oldest_overdue_seconds"] > 3500
    assert [one["wanted"] for one in written(recorded.lost, "lease_lost")] == ["beat"]
    assert [one["wanted"] for one in written(recorded.zombie, "lease_lost")] == ["complete"]
    assert [one["by"] for one in written(recorded.requeuing_sweep, "task_requeued")] == ["sweep"]
    [rescued] = written(recorded.platform_rescue, "task_requeued")
    assert (rescued["by"], rescued["reason"]) == ("platform", "out_of_memory")
    assert written(recorded.waiting_sweep, "sweep_finished")[0]["oldest_pending_seconds"] > 500
    assert written(recorded.incomplete_sweep, "sweep_finished")[0]["complete"] is False
    for entries, event in (
        (recorded.unsweepable_sweep, "task_unsweepable"),
        (recorded.suspended_sweep, "sweep_suspended"),
        (recorded.unpushed, "dispatch_failed"),
        (recorded.unsettled, "settle_failed"),
    ):
        assert len(written(entries, event)) == 1


# -- and whatever breaks it is caught


def rule(chain: Chain, alert: str, old: str, new: str, key: str = "expr") -> Chain:
    """The chain with another text in one rule."""
    [one] = [one for one in chain.rules if one["alert"] == alert]
    assert old in one[key]
    changed = one | {key: one[key].replace(old, new)}
    return dataclasses.replace(
        chain, rules=tuple(changed if other is one else other for other in chain.rules)
    )


def metric(chain: Chain, name: str, change: Callable[[Metric], Metric]) -> Chain:
    """The chain with another definition of one metric."""
    [one] = [one for one in chain.metrics if one.name == name]
    changed = change(one)
    assert changed != one
    return dataclasses.replace(
        chain, metrics=tuple(changed if other is one else other for other in chain.metrics)
    )


def filtered(old: str, new: str) -> Callable[[Metric], Metric]:
    return lambda one: dataclasses.replace(one, filter=one.filter.replace(old, new))


def labelled(label: str, path: str) -> Callable[[Metric], Metric]:
    return lambda one: dataclasses.replace(one, labels=one.labels | {label: f"EXTRACT({path})"})


FINISHED, SWEPT = "unstuck_task_finished", "unstuck_sweep_finished"
Mutation = Callable[[Chain], Chain]
MUTANTS: dict[str, tuple[Callable[[Recorded], Timeline], Mutation]] = {
    "a threshold ten times as high": (failing, lambda chain: rule(chain, BURN, "14.4", "144")),
    "a threshold ten times as low": (failing, lambda chain: rule(chain, BURN, "14.4", "1.44")),
    "no floor of events": (lonely, lambda chain: rule(chain, BURN, ">= 10", ">= 0")),
    "the long window as short as the short one": (
        failing,
        lambda chain: rule(chain, BURN, "[1h]", "[5m]"),
    ),
    "the short window as long as the long one": (
        failing,
        lambda chain: rule(chain, BURN, "[5m]", "[1h]"),
    ),
    "and becomes or": (failing, lambda chain: rule(chain, BURN, ") and (", ") or (")),
    "a label's value": (
        failing,
        lambda chain: rule(chain, BURN, 'state="failed"', 'state="broken"'),
    ),
    "a label's name": (
        failing,
        lambda chain: rule(chain, BURN, 'state="failed"', 'outcome="failed"'),
    ),
    "the good in place of the bad": (
        failing,
        lambda chain: rule(chain, BURN, 'state="failed"', 'state="completed"'),
    ),
    "a metric's name": (
        failing,
        lambda chain: rule(chain, BURN, "user_unstuck_task_finished", "user_unstuck_task_ended"),
    ),
    "the resource": (
        failing,
        lambda chain: rule(chain, BURN, "cloud_run_revision", "cloud_function"),
    ),
    "a silence that may last longer": (
        silence,
        lambda chain: rule(chain, "SweepSilent", "[900s]", "[5400s]"),
    ),
    "a longer wait": (silence, lambda chain: rule(chain, "SweepSilent", "300s", "7200s", "for")),
    "a silence that must not last": (
        silence,
        lambda chain: rule(chain, "SweepSilent", "[900s]", "[60s]"),
    ),
    "silence and failure mixed up": (
        broken,
        lambda chain: rule(chain, "SweepSilent", "{", '{outcome="ok",'),
    ),
    "the good sweeps": (
        broken,
        lambda chain: rule(chain, "SweepFailing", 'outcome="error"', 'outcome="ok"'),
    ),
    "an event in a filter": (
        failing,
        lambda chain: metric(chain, FINISHED, filtered("task_finished", "task_ended")),
    ),
    "a filter that takes less": (
        failing,
        lambda chain: metric(chain, FINISHED, filtered("json", "severity>=ERROR AND json")),
    ),
    "a filter that takes more": (
        silence,
        lambda chain: metric(chain, SWEPT, filtered('.event="sweep_finished"', ".by=guard")),
    ),
    "another service": (
        failing,
        lambda chain: metric(chain, FINISHED, filtered("^unstuck-", "^other-")),
    ),
    "a label from elsewhere": (
        failing,
        lambda chain: metric(chain, FINISHED, labelled("state", "jsonPayload.status")),
    ),
    "a value from elsewhere": (
        late,
        lambda chain: metric(
            chain,
            "unstuck_oldest_overdue_seconds",
            lambda one: dataclasses.replace(one, value="EXTRACT(jsonPayload.seconds)"),
        ),
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_link_is_caught(
    mutant: str, recorded: Recorded, chain: Chain, tmp_path: Path
) -> None:
    day, change = MUTANTS[mutant]
    assert "FAILED" in judge(change(chain), [day(recorded)], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "day"),
    [
        ('"task_finished"', '"task_ended"', failing),
        ('"failed"', '"broken"', failing),
        ('"sweep_finished"', '"swept"', silence),
        ('"oldest_overdue_seconds"', '"late"', late),
        ('"lease_lost"', '"lost"', losing),
    ],
)
def test_a_name_that_changes_in_the_code_is_caught(
    old: str,
    new: str,
    day: Callable[[Recorded], Timeline],
    recorded: Recorded,
    chain: Chain,
    tmp_path: Path,
) -> None:
    """As if events.py wrote it so."""
    said = {
        one.name: json.dumps(getattr(recorded, one.name)) for one in dataclasses.fields(recorded)
    }
    changed = Recorded(**{name: json.loads(text.replace(old, new)) for name, text in said.items()})
    assert changed != recorded
    assert "FAILED" in judge(chain, [day(changed)], tmp_path)


def test_every_filter_and_extractor_is_one_that_the_evaluator_knows(
    chain: Chain, recorded: Recorded
) -> None:
    for one in chain.metrics:
        compiled(one.filter)
        one.labels_of(recorded.completed[0])


# -- two installations in one project

ENTRY_POINTS = [
    node.name.replace("_", "-")
    for node in ast.parse((ALERTS.parents[1] / "main.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.decorator_list
]
OTHERS = (
    "unstuck-pool",
    "unstuck-pool-dev",
    "unstuck-dev",
    "unstuck-worker",
    "unstuck-claim",
    "my-unstuck",
    "unstuck-task",
    "unstuc",
)
"""Names of other installations."""


def test_each_function_is_watched() -> None:
    for entry in ENTRY_POINTS:
        assert re.fullmatch(FUNCTIONS, entry), f"{entry} is not in the filters of infra/alerts"


def test_another_installation_in_the_project_is_neither_counted_nor_told(
    recorded: Recorded, chain: Chain
) -> None:
    alerts = log_matches()
    now = datetime.now(UTC)
    for other in OTHERS:
        for service in (f"{other}-{entry}" for entry in ENTRY_POINTS):
            for line in [*recorded.completed, *recorded.sweep]:
                theirs = copy.deepcopy(line)
                theirs["resource"]["labels"]["service_name"] = service
                assert not [one.name for one in chain.metrics if one.takes(theirs)], service
            killed = platform.line(platform.OOM, now, revision=f"{service}-00001-abc")
            assert not [name for name, query in alerts.items() if compiled(query)(killed)]
            for rule in chain.rules:
                for pattern in re.findall('service_name=~"([^"]+)"', rule["expr"]):
                    assert not re.fullmatch(pattern, service), rule["alert"]
        died = platform.pool_line(platform.OOM, now, pool=f"{other}-pool-film")
        assert not [name for name, query in alerts.items() if compiled(query)(died)], other
        for job in (
            platform.job_failed(f"{other}-sweep", now),
            platform.job_changed(f"{other}-sweep", now),
        ):
            assert not [name for name, query in alerts.items() if compiled(query)(job)]


# -- what no log line of ours can tell: the platform's own

LINES = {
    "OutOfMemory": [
        (platform.OOM, {}),
        (platform.OOM, {"log": platform.OTHER_LOG}),
        ("Out-of-memory event detected in container", {}),
    ],
    "ContainerKilled": [
        (platform.SIGNAL, {"severity": "WARNING"}),
        ("Container terminated on signal 11.", {}),
        ("Container terminated on signal 6", {}),
        (platform.MANAGER, {}),
    ],
    "NoInstance": [
        (platform.NO_INSTANCE, {"status": 429, "severity": "WARNING"}),
        (platform.NO_INSTANCE, {"status": 500}),
    ],
    "RequestTimeout": [(platform.TIMEOUT, {"status": 504}), (None, {"status": 504})],
}
QUIET = [
    (platform.STARTED, {"severity": "INFO"}),
    (platform.STOPPED, {"severity": "INFO"}),
    (platform.ROLLOUT, {"severity": "INFO"}),
    (None, {"status": 200}),
    ("Container terminated on signal 0.", {}),
    ("Container terminated on signal 1.", {}),
    ("Container terminated on signal 15.", {}),
    ("Container terminated by the container manager on signal 15.", {}),
    ("Uncaught signal: 11, pid=5, tid=29, fault_addr=0.", {}),
    (platform.OOM, {"revision": "shop-00001-abc"}),
    (platform.SIGNAL, {"revision": "shop-00001-abc"}),
    (None, {"status": 504, "revision": "shop-00001-abc"}),
    (None, {"status": 503}),
    (None, {"status": 504, "log": "run.googleapis.com%2Fstdout"}),
    *[
        (text, more)
        for text in (platform.OOM, platform.SIGNAL)
        for more in ({"log": "run.googleapis.com%2Fstdout"}, {"resource": "cloud_run_job"})
    ],
    (None, {"status": 504, "resource": "cloud_run_job"}),
]


def log_matches() -> dict[str, str]:
    """The alerts on single log lines by name, with their filters."""
    alerts = yaml.safe_load((ALERTS / "log_match.yaml").read_text(encoding="utf-8"))["alerts"]
    return {one["alert"]: one["filter"] for one in alerts}


def platform_lines(now: datetime) -> list[tuple[str | None, dict[str, Any]]]:
    """The alert of each line, None for one that nobody should be told of."""
    found: list[tuple[str | None, dict[str, Any]]] = [
        (alert, platform.line(text, now, **more))
        for alert, lines in LINES.items()
        for text, more in lines
    ]
    found += [(None, platform.line(text, now, **more)) for text, more in QUIET]
    jumped = events.CLOCK_JUMPED.line({"seconds": 3600.0, "count": 2})
    found.append(("ClockJumped", entry_of(jumped, "unstuck-sweep", now)))
    found += [(None, entry_of(jumped, other, now)) for other in ("unstuck-worker", "shop-sweep")]
    pause = {"watch": "tasks", "kind": "image", "who": "ada", "why": None, "age": 90_000}
    forgotten = events.PAUSE_FORGOTTEN.line(pause)
    found.append(("PauseForgotten", entry_of(forgotten, "unstuck-sweep", now)))
    found.append((None, entry_of(forgotten, "unstuck-worker", now)))
    unsent = {"address": "default", "count": 2, "times": 31, "error": "no"}
    given_up = events.NOTIFICATION_FAILED.line(unsent | {"outcome": "given up"}, events.ERROR)
    again = events.NOTIFICATION_FAILED.line(unsent | {"outcome": "retried"})
    found.append(("NotificationGivenUp", entry_of(given_up, "unstuck-sweep", now)))
    found.append((None, entry_of(again, "unstuck-sweep", now)))
    for text in (
        platform.OOM,
        platform.SIGNAL,
        platform.MANAGER,
        platform.EXIT,
        "Container called exit(137).",
    ):
        found.append(("PoolWorkerDied", platform.pool_line(text, now)))
        found.append((None, platform.pool_line(text, now, pool="unstuck-dev-pool-film")))
        found.append((None, platform.pool_line(text, now, log="run.googleapis.com%2Fstdout")))
    for text in ("Container called exit(0).", "Container terminated on signal 15."):
        found.append((None, platform.pool_line(text, now)))
    found.append(("RolloutFailed", platform.rollout_failed(now)))
    found.append((None, platform.rollout_failed(now, revision="shop-00001-abc")))
    found.append((None, platform.rollout_failed(now) | {"severity": "INFO"}))
    ready = platform.rollout_failed(now)
    ready["protoPayload"]["status"] = {"message": "Ready condition status changed to True"}
    found.append((None, ready))
    found.append(
        (None, platform.line(platform.NO_INSTANCE, now, log="run.googleapis.com%2Fstdout"))
    )
    job = "unstuck-sweep"
    for status in ("PERMISSION_DENIED", "URL_UNREACHABLE", "UNAVAILABLE"):
        found.append(("SchedulerAttemptFailed", platform.job_failed(job, now, status=status)))
    found.append((None, platform.job_failed(job, now, severity="INFO", status="OK")))
    for method in ("PauseJob", "DeleteJob"):
        found.append(("SchedulerPaused", platform.job_changed(job, now, method)))
    elsewhere = {"type": "cloud_tasks_queue", "labels": {"job_id": job}}
    found.append((None, platform.job_failed(job, now) | {"resource": elsewhere}))
    paused = platform.job_changed(job, now)
    other_service = paused["protoPayload"] | {"serviceName": "storagetransfer.googleapis.com"}
    found.append((None, paused | {"protoPayload": other_service}))
    data_access = paused["logName"].replace("activity", "data_access")
    found.append((None, paused | {"logName": data_access}))
    for method in ("ResumeJob", "RunJob", "UpdateJob", "CreateJob", "PauseJobs"):
        found.append((None, platform.job_changed(job, now, method)))
    return found


def test_a_line_of_the_platform_pages_as_what_it_is_and_as_nothing_else() -> None:
    alerts = yaml.safe_load((ALERTS / "log_match.yaml").read_text(encoding="utf-8"))["alerts"]
    lines = platform_lines(datetime.now(UTC))
    assert {alert for alert, _ in lines} - {None} == {one["alert"] for one in alerts}
    for expected, line in lines:
        told = [one for one in alerts if compiled(one["filter"])(line)]
        assert [one["alert"] for one in told] == ([expected] if expected else [])
        for one in told:
            for extractor in one["labels_from"].values():
                assert extracted(extractor, line), f"the mail says nothing for {extractor}"
