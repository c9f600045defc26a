"""Whose turn it is: the most urgent first, fair between owners, the oldest first within one; and
nobody waits for ever."""

import random
from uuid import UUID

import pytest

from functions.core.policy import Watch
from functions.core.record import replace
from functions.store.postgres import PostgresStore
from tests.sql import pass_time
from tests.store.steps import created, one, settled

FILL = """
insert into public.tasks (kind, owner, priority)
select 'image', %s, %s from generate_series(1, %s)
"""
KINDS = ("image", "patient", "hasty")
AGED, NOT_AGED = UUID(int=0), UUID(int=1)
"""Tokens: the claim with the first looks for a task that waits for too long."""


@pytest.fixture
def quick(conformance, db):
    store = PostgresStore(conformance)
    yield store
    store.close()


def taken(store, watch: Watch, kinds=None) -> str:
    answer = store.claim(watch, None, "w", kinds)
    assert answer.verdict == "claimed"
    return answer


@pytest.mark.parametrize("kinds", [None, ["image", "patient"]], ids=["any", "by kind"])
@pytest.mark.parametrize("running", [0, 3])
def test_a_new_task_of_another_owner_starts_after_one_of_each_who_waits(
    quick, db, tasks, kinds, running
):
    for owner in ("ada", "bob"):
        db.execute(FILL, (owner, 0, 1000))
    for _ in range(running):
        taken(quick, tasks, kinds)
    new = created(quick, tasks, owner="eve")
    order = [taken(quick, tasks, kinds).task_id for _ in range(3 + running)]
    assert new in order


@pytest.mark.parametrize("limited", [False, True], ids=["", "limited"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_its_kind_a_new_task_starts_after_one_of_each_owner_and_what_runs(
    quick, db, tasks, seed, limited
):
    """Drawn: who has a backlog of which kinds, since when, and what runs. `limited`: the choice by
    kind."""
    draw = random.Random(seed)
    watch = tasks
    if limited:
        rule = replace(tasks.rule("hasty"), limit_running=100)
        watch = replace(tasks, rules=tasks.rules | {"hasty": rule})
    flows = {("ada", "image")}
    db.execute(FILL, ("ada", 0, 1000))
    pass_time(db, 600)
    for number in range(draw.randrange(4)):
        kind = draw.choice(KINDS)
        flows.add((f"owner-{number}", kind))
        for _ in range(draw.randrange(1, 30)):
            created(quick, watch, kind, owner=f"owner-{number}")
        for _ in range(draw.randrange(5)):
            taken(quick, watch)
    running = one(db, "select count(*) from tasks where status = 'processing'")["count"]
    for number in range(3):
        new = created(quick, watch, draw.choice(KINDS), owner=f"new-{number}")
        most = len(flows) + running + 1
        assert new in [taken(quick, watch).task_id for _ in range(most)], (flows, number)
        running += most


def test_what_a_limit_holds_up_lends_its_old_turn_to_no_other_kind(quick, db, tasks):
    rule = replace(tasks.rule("image"), limit_running=1)
    watch = replace(tasks, rules=tasks.rules | {"image": rule})
    for owner in ("ada", "bob"):
        created(quick, watch, "image", owner=owner)
    pass_time(db, 600)
    taken(quick, watch)
    waiting = [created(quick, watch, "patient", owner="eve") for _ in range(6)]
    started = []
    for _ in range(6):
        created(quick, watch, "hasty", owner="dan")
        attempt = taken(quick, watch)
        started.append(attempt.task_id)
        settled(quick, watch, attempt, "complete")
    assert 2 <= len(set(waiting) & set(started)) <= 4


def test_owners_take_turns_and_each_owners_tasks_start_in_their_order(quick, db, tasks):
    ada = [created(quick, tasks, owner="ada") for _ in range(4)]
    bob = [created(quick, tasks, owner="bob") for _ in range(2)]
    order = [taken(quick, tasks).task_id for _ in range(6)]
    assert [task for task in order if task in ada] == ada
    assert [task for task in order if task in bob] == bob
    assert max(order.index(task) for task in bob) <= 3


def test_the_more_urgent_comes_first_whoever_owns_it(quick, db, tasks):
    db.execute(FILL, ("ada", 0, 10))
    created(quick, tasks, owner="bob")
    urgent = [created(quick, tasks, owner="ada", priority=5) for _ in range(2)]
    assert [taken(quick, tasks).task_id for _ in urgent] == urgent


def test_one_who_asks_again_and_again_gets_half_and_not_all(quick, db, tasks):
    db.execute(FILL, ("ada", 0, 20))
    owners = []
    for _ in range(10):
        created(quick, tasks, owner="bob")
        attempt = taken(quick, tasks)
        owners.append(one(db, "select owner from tasks where id = %s", attempt.task_id)["owner"])
        settled(quick, tasks, attempt, "complete")
    assert 4 <= owners.count("ada") <= 6


def test_failed_tasks_that_are_started_again_do_not_come_before_those_that_wait(quick, db, tasks):
    failed = [created(quick, tasks, owner="ada") for _ in range(3)]
    for _ in failed:
        settled(quick, tasks, taken(quick, tasks), "fail")
    pass_time(db, 60)
    waiting = created(quick, tasks, owner="bob")
    assert sorted(quick.operate(tasks, "retry", failed)) == sorted(failed)
    assert taken(quick, tasks).task_id == waiting


class TestAgeing:
    def test_a_task_that_waits_for_too_long_behind_urgent_ones_is_taken_by_one_claim_of_four(
        self, quick, db, tasks
    ):
        old = created(quick, tasks)
        urgent = [created(quick, tasks, priority=9) for _ in range(2)]
        pass_time(db, tasks.ageing - 10)
        assert quick.claim(tasks, None, "w", token=str(AGED)).task_id == urgent[0]
        pass_time(db, 11)
        assert quick.claim(tasks, None, "w", token=str(NOT_AGED)).task_id == urgent[1]
        created(quick, tasks, priority=9)
        assert quick.claim(tasks, None, "w", token=str(UUID(int=4))).task_id == old

    def test_age_alone_is_no_starvation(self, quick, db, tasks):
        """Else an owner with many old tasks would come before the others."""
        db.execute(FILL, ("ada", 0, 20))
        pass_time(db, tasks.ageing + 1)
        new = created(quick, tasks, owner="bob")
        order = [quick.claim(tasks, None, "w", token=str(UUID(int=4 * n))) for n in range(1, 3)]
        assert new in [attempt.task_id for attempt in order]

    def test_a_starved_task_of_a_paused_or_limited_kind_still_waits(self, quick, db, tasks):
        created(quick, tasks, "patient")
        urgent = created(quick, tasks, "image", priority=9)
        pass_time(db, tasks.ageing + 1)
        rule = replace(tasks.rule("patient"), limit_running=1)
        watch = replace(tasks, rules=tasks.rules | {"patient": rule})
        quick.pause(watch, "patient", "ada", None, None)
        assert quick.claim(watch, None, "w", token=str(AGED)).task_id == urgent
