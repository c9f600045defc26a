"""The judge of the chaos: it finds each violation, and excuses only what nobody can know better."""

import datetime

import pytest

from functions.core.policy import parse
from tests.chaos.observer import VIOLATIONS, Evidence, Observer
from tests.chaos.plan import EVERYBODY, WEIGHTS, plan
from tests.chaos.proxy import FAULTS
from tests.chaos.world import LEASE_SECONDS, Struck, World, policy_text

POLICY = parse(policy_text())
TASK = "task-1"
BEGIN = 1_000_000.0


def time(seconds):
    return datetime.datetime.fromtimestamp(BEGIN + seconds, datetime.UTC)


def task(status="completed", kind="works", **changes):
    result = {"task_id": TASK, "run": "run-1"} if status == "completed" else None
    failed = status == "failed"
    row = {
        "id": TASK,
        "kind": kind,
        "status": status,
        "result": result,
        "reason": "attempts_exhausted" if failed else None,
        "error_message": "Gave up." if failed else None,
    }
    return row | changes


def attempt(number=1, **changes):
    row = {
        "task_id": TASK,
        "number": number,
        "worker": "w1@host",
        "outcome": "completed",
        "cause": None,
        "detail": None,
        "sweep_id": None,
        "beat_at": time(0),
        "ended_at": time(1),
        "lease_until": time(LEASE_SECONDS),
        "deadline_at": time(100),
    }
    return row | changes


def run(number=1, begins=0.0, ends=1.0, *, kind="works", worker="w1", last="finished"):
    """The journal of one execution."""
    about = {"task_id": TASK, "number": number, "kind": kind, "worker": worker}
    about["run"] = f"run-{number}"
    return [
        about | {"at": BEGIN + begins, "word": "began"},
        about | {"at": BEGIN + ends, "word": last},
    ]


def rescued(ended, **changes):
    lost = {"outcome": "retried", "cause": "lease_lost", "sweep_id": 7, "ended_at": time(ended)}
    return attempt(**lost | changes)


def struck(fault, begin, end, whom=("w1",), tasks=()):
    return Struck(fault, whom, BEGIN + begin, BEGIN + end, tasks)


def violated(tasks=(), attempts=(), journal=(), changes=(), faults=(), stalls=()) -> set[str]:
    evidence = Evidence(
        POLICY, list(journal), list(tasks), list(attempts), list(changes), list(faults), stalls
    )
    return {name for name, sentences in Observer(evidence).judge().items() if sentences}


def change(old, new, *, result=False):
    return {"task_id": TASK, "old": old, "new": new, "result_changed": result}


ALIVE = [*run(1, 0, 6), *run(2, 8, 9)]
"""The first execution goes on after its rescue."""
TWICE = [*run(1, 0, 1, kind="mail"), *run(2, 2, 3, kind="mail")]
CASES = {
    "left_open": {"tasks": [task("pending")]},
    "open_past_its_time": {"tasks": [task()], "attempts": [rescued(30)], "journal": run()},
    "ended_twice": {"changes": [change("processing", "failed"), change("processing", "completed")]},
    "overwritten": {"changes": [change("completed", "completed", result=True)]},
    "executed_too_often": {
        "tasks": [task("failed", "mail")],
        "journal": [*TWICE[:3], TWICE[3] | {"word": "lives"}],
    },
    "two_at_once": {
        "tasks": [task(result={"task_id": TASK, "run": "run-2"})],
        "attempts": [attempt(1), attempt(2)],
        "journal": [*run(1, 0, 6), *run(2, 3, 7)],
    },
    "rescued_while_alive": {
        "tasks": [task(result={"task_id": TASK, "run": "run-2"})],
        "attempts": [rescued(4)],
        "journal": ALIVE,
    },
    "ended_without_reason": {"tasks": [task("failed", error_message=None)]},
    "finished_but_failed": {
        "tasks": [task("failed")],
        "attempts": [rescued(4, outcome="failed")],
        "journal": run(),
    },
    "result_of_another": {"tasks": [task(result={"task_id": "task-2", "run": "run-9"})]},
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_found(name: str):
    assert violated(**CASES[name]) == {name}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("open_past_its_time", struck("freeze_sweeper", 2, 29, ("sweep",))),
        ("open_past_its_time", struck("lock_rows", 2, 29, EVERYBODY, (TASK,))),
        ("two_at_once", struck("freeze_instance", 0.5, 3)),
        ("rescued_while_alive", struck("freeze_worker", 0.5, 3)),
        ("rescued_while_alive", struck("blackhole", 0.5, 3)),
        ("finished_but_failed", struck("kill_worker", 1.1, 1.2)),
    ],
)
def test_a_fault_of_this_worker_excuses_what_nobody_could_know(name: str, fault: Struck):
    assert violated(**CASES[name], faults=[fault]) == set()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("open_past_its_time", struck("freeze_instance", 2, 29)),
        ("two_at_once", struck("freeze_instance", 0.5, 3, ("w2",))),
        ("rescued_while_alive", struck("blackhole", 0.5, 3, EVERYBODY)),
        ("rescued_while_alive", struck("kill_database", 0.5, 3, EVERYBODY)),
        ("rescued_while_alive", struck("read_only", 0.5, 3, EVERYBODY)),
        ("finished_but_failed", struck("kill_worker", 1.1, 1.2, ("w2",))),
    ],
)
def test_the_fault_of_another_excuses_nothing_nor_does_a_time_without_the_database(
    name: str, fault: Struck
):
    assert violated(**CASES[name], faults=[fault]) == {name}


def test_a_result_that_was_refused_is_never_excused():
    refused = attempt(outcome="failed", cause="handler_error")
    violations = violated(
        [task("failed")], [refused], run(), faults=[struck("kill_worker", 0.9, 1.1)]
    )
    assert violations == {"finished_but_failed"}


def test_a_crash_of_the_database_may_forget_a_claim():
    again = [{**line, "run": "run-0", "number": 1} for line in run(1, 1.2, 3)]
    journal = [*again[:1], *run(1, 2, 3)]
    claimed_once = {"tasks": [task()], "attempts": [attempt()]}
    crash = struck("kill_database", 1.5, 2, EVERYBODY)
    assert violated(**claimed_once, journal=journal, faults=[crash]) == set()


def test_the_same_seed_is_the_same_weather_and_each_fault_comes():
    assert plan(7, 60) == plan(7, 60) != plan(8, 60)
    assert {strike.fault for strike in plan(7, 600)} == set(WEIGHTS)
    others = set(WEIGHTS) - set(FAULTS)
    assert all(hasattr(World, f"_{fault}") for fault in others)
