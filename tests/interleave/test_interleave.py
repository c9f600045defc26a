"""A slice of `make interleave`, always the same: small casts in every order; and faults of the SQL
that these schedules must tell, or the instrument would be blind."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from functions.ops.postgres.embedded import Postgres
from tests.interleave.casts import (
    CANCEL,
    ENDER,
    PASSER,
    POLL,
    REOPEN,
    REQUEUE,
    RESTARTER,
    SECOND,
    SWEEP,
    WORKER,
    ZOMBIE,
    Actor,
    Cast,
)
from tests.interleave.explore import play
from tests.interleave.mutants import changed, install_fault, mutants
from tests.interleave.stage import Stage
from tests.interleave.world import databases

pytestmark = pytest.mark.timeout(300)


def cut(actor: Actor) -> Actor:
    return replace(actor, cuts=1)


SLICE = (
    Cast("tasks", "waiting", (WORKER, SECOND)),
    Cast("tasks", "lapsed", (replace(ZOMBIE, crash=(0, "before")), SWEEP)),
    Cast("jobs", "lapsed", (ZOMBIE, POLL)),
    Cast("tasks", "lapsed last", (ZOMBIE, SWEEP)),
    Cast("tasks", "lapsed", (SWEEP, PASSER, POLL)),
    Cast("jobs", "held", (ZOMBIE, RESTARTER, replace(WORKER, crash=(0, "after")))),
    Cast("tasks", "failed", (REOPEN, WORKER)),
    Cast("jobs", "held", (ZOMBIE, ENDER)),
    Cast("jobs", "old", (WORKER, SWEEP)),
)
WAITING_FOR_EACH_OTHER = (
    Cast("tasks", "held", (cut(ZOMBIE), cut(CANCEL))),
    Cast("jobs", "held", (cut(ZOMBIE), cut(REQUEUE))),
)


@pytest.fixture(scope="module")
def stage(postgres: Postgres) -> Iterator[Stage]:
    with databases(postgres, 1) as (dsn,), Stage(dsn) as stage:
        yield stage


@pytest.mark.parametrize("cast", SLICE, ids=str)
def test_in_every_order_the_invariants_hold(stage, cast):
    tally = play(stage, cast)
    assert tally.schedules > 3
    assert tally.examples == []


@pytest.mark.parametrize("cast", WAITING_FOR_EACH_OTHER, ids=str)
def test_a_person_and_a_worker_that_settles_never_wait_for_each_other(stage, cast):
    assert play(stage, cast).examples == []


def test_a_settle_without_its_guard_is_told(stage):
    cast = Cast("tasks", "lapsed", (ZOMBIE, SWEEP))
    with install_fault(stage, mutants()[0]):
        assert play(stage, cast, until_violated=True).violations
    assert play(stage, cast).examples == []


def test_a_person_who_does_not_hold_the_attempt_first_is_told(stage):
    (fault,) = [m for m in mutants() if m.file == "operate" and m.old == "for update nowait"]
    with install_fault(stage, fault):
        tally = play(stage, WAITING_FOR_EACH_OTHER[0], until_violated=True)
    assert "40P01" in tally.examples[0]


def test_each_fault_has_its_place_in_the_sql():
    assert all(changed(mutant) for mutant in mutants())
