"""Limits of a kind, of an owner and of a watch: never one too many, at once or in a minute."""

import threading
from collections import Counter

import pytest

from functions.core.policy import Watch
from functions.core.record import replace
from functions.core.states import SettleAs
from functions.store.postgres import PostgresStore
from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    LEASE,
    at_once,
    attempts,
    claimed_again,
    created,
    one,
    settled,
    swept,
)


def limited(watch: Watch, kind: str = "image", **limits: int) -> Watch:
    return replace(watch, rules=watch.rules | {kind: replace(watch.rule(kind), **limits)})


KINDS = pytest.mark.parametrize("kinds", [None, ["image", "patient"]], ids=["any", "named"])


class TestLimit:
    @KINDS
    def test_so_many_of_a_kind_run_at_once_and_the_others_go_on(self, store, db, tasks, kinds):
        watch = limited(tasks, limit_running=2)
        waiting = [created(store, watch, "image", priority=9) for _ in range(3)]
        other = created(store, watch, "patient")
        first, _ = (claimed_again(store, watch, task) for task in waiting[:2])
        named = store.claim(watch, waiting[2], "w")
        assert (named.verdict, named.kind) == ("limited", "image")
        assert named.retry_after > 0
        assert store.claim(watch, None, "w", kinds).task_id == other
        assert store.claim(watch, None, "w", kinds).verdict == "limited"
        assert attempts(db, waiting[2]) == [], "no attempt is burnt"
        settled(store, watch, first, "complete")
        assert store.claim(watch, None, "w", kinds).task_id == waiting[2]

    @KINDS
    def test_so_many_of_one_owner_run_at_once_and_those_of_others_go_on(self, store, tasks, kinds):
        watch = limited(tasks, limit_per_owner=1)
        for owner in ("ada", "ada", "bob", None, None):
            created(store, watch, "image", owner=owner)
        taken = [claimed_again(store, watch, None) for _ in range(4)]
        owners = [store.status(watch, attempt.task_id).owner for attempt in taken]
        assert Counter(owners) == {"ada": 1, "bob": 1, None: 2}, "who has no owner is not limited"
        assert store.claim(watch, None, "w", kinds).verdict == "limited"

    @pytest.mark.parametrize(
        ("usual", "since", "expected"),
        [(None, 0, 2.5), (0, 0, 0.5), (20, 0, 10), (20, 40, 20), (20, 900, 60)],
    )
    def test_it_says_to_ask_again_when_a_slot_may_be_free(
        self, store, db, tasks, usual, since, expected
    ):
        """`usual`: seconds that the last attempts took; `since`: for how long those that run do."""
        watch = limited(tasks, limit_running=2)
        for kind in ("image", "patient") if usual is not None else ():
            done = [claimed_again(store, watch, created(store, watch, kind)) for _ in range(2)]
            pass_time(db, 500 if kind == "patient" else usual)
            for attempt in done:
                store.settle(watch, attempt.task_id, attempt.token, SettleAs.COMPLETE)
        for _ in range(2):
            claimed_again(store, watch, created(store, watch, "image"))
        pass_time(db, since)
        waiting = created(store, watch, "image")
        answer = store.claim(watch, waiting, "w")
        assert answer.verdict == "limited"
        assert expected <= answer.retry_after <= expected + A_MOMENT
        assert attempts(db, waiting) == []

    def test_so_many_of_a_kind_start_in_a_minute(self, store, db, tasks):
        watch = limited(tasks, limit_per_minute=2)
        for _ in range(2):
            settled(store, watch, claimed_again(store, watch, created(store, watch)), "complete")
        pass_time(db, 20)
        answer = store.claim(watch, created(store, watch), "w")
        assert answer.verdict == "limited"
        assert 35 < answer.retry_after <= 40
        pass_time(db, 41)
        assert store.claim(watch, None, "w").verdict == "claimed"

    def test_a_clock_that_is_set_back_does_not_keep_a_minute_s_limit_for_an_hour(
        self, store, db, tasks
    ):
        watch = limited(tasks, limit_per_minute=1)
        settled(store, watch, claimed_again(store, watch, created(store, watch)), "complete")
        pass_time(db, -3600)
        assert store.claim(watch, created(store, watch), "w").verdict == "claimed"

    def test_a_limit_of_the_watch_holds_for_all_kinds_together(self, store, tasks):
        watch = replace(tasks, all_running=2)
        for kind in ("image", "patient", "hasty"):
            created(store, watch, kind)
        verdicts = [store.claim(watch, None, "w").verdict for _ in range(3)]
        assert verdicts == ["claimed", "claimed", "limited"]

    def test_a_limit_that_is_lowered_counts_what_runs_beyond_it(self, store, tasks):
        watch, lowered = limited(tasks, limit_running=5), limited(tasks, limit_running=2)
        running = [claimed_again(store, watch, created(store, watch)) for _ in range(5)]
        created(store, watch)
        for attempt in running[:4]:
            assert store.claim(lowered, None, "w").verdict == "limited"
            settled(store, watch, attempt, "complete")
        assert store.claim(lowered, None, "w").verdict == "claimed"
        created(store, watch)
        assert store.claim(lowered, None, "w").verdict == "limited"

    def test_the_slot_of_a_dead_worker_comes_back_when_its_attempt_is_ended(self, store, db, tasks):
        watch = limited(tasks, limit_running=1)
        dead = claimed_again(store, watch, created(store, watch))
        other = created(store, watch)
        pass_time(db, LEASE + 1)
        swept(store, watch)
        assert store.claim(watch, other, "w").verdict == "claimed"
        assert store.claim(watch, dead.task_id, "w").verdict in {"limited", "early"}

    def test_without_a_limit_nothing_is_written_for_it(self, store, db, tasks):
        watch = limited(tasks, "patient", limit_running=1)
        claimed_again(store, watch, created(store, watch, "image"))
        assert one(db, "select count(*) from unstuck.slots")["count"] == 0


def test_sixteen_workers_never_run_one_too_many_and_all_is_done(conformance, db, tasks):
    """Of a kind, of an owner and of the watch, with two kinds and three owners."""
    store = PostgresStore(conformance)
    rules = {
        "image": replace(tasks.rule("image"), limit_running=5, limit_per_owner=2),
        "patient": replace(tasks.rule("patient"), limit_running=2),
    }
    watch = replace(tasks, rules=tasks.rules | rules, all_running=6)
    for number in range(120):
        kind = "patient" if number % 3 == 0 else "image"
        created(store, watch, kind, owner=f"owner-{number % 4}" if number % 4 else None)
    lock, running, most, done = threading.Lock(), Counter(), Counter(), []

    def work() -> None:
        while len(done) < 120:
            answer = store.claim(watch, None, "w")
            if answer.verdict != "claimed":
                continue
            owner = answer.kind == "image" and store.status(watch, answer.task_id).owner
            names = ["all", answer.kind, *([owner] if owner else [])]
            with lock:
                running.update(names)
                for name in names:
                    most[name] = max(most[name], running[name])
            store.beat(watch, answer.task_id, answer.token)
            with lock:  # before the write that frees the slots
                running.subtract(names)
                done.append(answer.task_id)
            settled(store, watch, answer, "complete")

    at_once(*[work] * 16)
    assert len(set(done)) == len(done) == 120
    limits = {"all": 6, "image": 5, "patient": 2, "owner-1": 2, "owner-2": 2, "owner-3": 2}
    assert all(most[name] <= limit for name, limit in limits.items()), most
