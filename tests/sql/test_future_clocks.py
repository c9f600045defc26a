"""A sign of life that lies in the future (a client's clock, a slip, or malice) keeps no dead task
from the sweep for ever: it counts as now when it is first seen, and is told."""

import pytest

from functions.core.policy import load
from tests.sweep.steps import sweep

POLICY = load()
WATCH = POLICY.watch()
LATER = ("now() + interval '2 hours'", "timestamptz '2999-01-01'", "timestamptz '294276-12-31'")


@pytest.fixture
def running(db):
    """A task that runs outside the guard, with these words for its clocks."""

    def make(time):
        query = (
            "insert into public.tasks (kind, status, created_at, started_at, updated_at) "
            f"values ('image', 'processing', {time}, {time}, {time}) returning id::text"
        )
        return db.execute(query).fetchone()[0]

    return make


def status(db, task_id):
    return db.execute("select status from public.tasks where id = %s", (task_id,)).fetchone()[0]


def hours_pass(db):
    """Since it was first seen."""
    db.execute("update unstuck.unsweepable set since = since - interval '5 hours'")


@pytest.mark.parametrize("time", LATER)
def test_it_is_told_and_ended_when_it_has_been_seen_for_long_enough(db, store, running, time):
    task_id = running(time)
    sweep(store, POLICY)
    second = sweep(store, POLICY)
    assert (second.verdict, second.unsweepable) == ("ok", 1)
    assert status(db, task_id) == "processing"
    hours_pass(db)
    third = sweep(store, POLICY)
    assert (third.failed + third.requeued, third.unsweepable) == (1, 0)
    assert status(db, task_id) in {"pending", "failed"}
    assert db.execute("select count(*) from unstuck.unsweepable").fetchone() == (0,)


def test_a_clock_that_is_right_again_is_judged_as_any_other(db, store, running):
    task_id = running(LATER[1])
    sweep(store, POLICY)
    db.execute("update public.tasks set updated_at = now(), started_at = now(), created_at = now()")
    hours_pass(db)
    again = sweep(store, POLICY)
    assert (again.failed + again.requeued, again.unsweepable) == (0, 0)
    assert status(db, task_id) == "processing"
    assert db.execute("select count(*) from unstuck.unsweepable").fetchone() == (0,)


@pytest.mark.parametrize("time", ["now() + interval '5 minutes'", "timestamptz 'infinity'"])
def test_clocks_that_differ_a_little_and_what_is_on_hold_are_left_alone(db, store, running, time):
    running(time)
    for _ in range(2):
        assert sweep(store, POLICY).unsweepable == 0


def test_a_task_in_the_guard_is_judged_by_its_lease_alone(db, store):
    created = store.create(WATCH, "image", {"prompt": "x"})
    store.claim(WATCH, created.task_id, "worker")
    db.execute("update public.tasks set updated_at = '2999-01-01'")
    for _ in range(2):
        assert sweep(store, POLICY).unsweepable == 0
