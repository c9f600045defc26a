"""A kind that is paused, over each store: what waits is not claimed, and does not come nearer to
its end."""

import pytest

from functions.core.policy import Watch
from functions.core.record import replace
from functions.errors import StoreError
from functions.store.postgres import PostgresStore
from tests.sql import pass_time
from tests.store.steps import (
    A_MOMENT,
    PENDING_FOR,
    at_once,
    attempts,
    claimed_again,
    created,
    settled,
    swept,
)

DAY = 86400.0


@pytest.fixture
def fragile(tasks: Watch) -> Watch:
    """The watch with a breaker for the kind `image`."""
    rule = replace(tasks.rule("image"), breaker_failures=3, breaker_pause=60.0, breaker_most=150.0)
    return replace(tasks, rules=tasks.rules | {"image": rule})


class TestPause:
    def test_a_paused_kind_is_not_claimed_and_says_when_to_ask_again(self, store, db, tasks):
        task_id = created(store, tasks, "image")
        pause = store.pause(tasks, "image", "ada", "the provider is down", 7200.0)
        assert (pause.kind, pause.who, pause.why) == ("image", "ada", "the provider is down")
        assert 7200 - A_MOMENT < pause.left <= 7200
        for task, kinds in ((task_id, None), (None, None), (None, ["image"])):
            answer = store.claim(tasks, task, "w", kinds)
            assert answer.verdict == "paused"
            assert 0 < answer.retry_after <= 3600
        assert attempts(db, task_id) == [], "no attempt is burnt"

    @pytest.mark.parametrize("kinds", [None, ["image", "patient"]], ids=["any", "named"])
    def test_the_other_kinds_go_on(self, store, tasks, kinds):
        created(store, tasks, "image", priority=9)
        other = created(store, tasks, "patient")
        store.pause(tasks, "image", "ada", None, None)
        assert store.claim(tasks, None, "w", kinds).task_id == other
        assert store.claim(tasks, None, "w", kinds).verdict == "paused"

    @pytest.mark.parametrize("kind", ["im'age", 'a"b;--', "größe/日本", "%s{x}\\", "*x", "/tasks"])
    def test_a_kind_may_have_any_name(self, store, tasks, kind):
        held, other = created(store, tasks, kind), created(store, tasks, "image")
        store.pause(tasks, kind, "ada", "why '", None)
        assert store.claim(tasks, None, "w").task_id == other
        assert [pause.kind for pause in store.resume(tasks, kind, "ada")] == [kind]
        assert store.claim(tasks, None, "w").task_id == held

    def test_a_pause_of_what_is_paused_says_anew_until_when_and_why(self, store, db, tasks):
        store.pause(tasks, "image", "ada", "the provider is down", 100.0)
        pass_time(db, 50)
        pause = store.pause(tasks, "image", "bob", "we move", None)
        assert (pause.who, pause.why, pause.left) == ("bob", "we move", None)
        assert 50 <= pause.age < 50 + A_MOMENT

    @pytest.mark.parametrize("seconds", [0.0, -60.0])
    def test_a_pause_that_would_be_over_at_once_is_refused(self, store, tasks, seconds):
        with pytest.raises(StoreError, match="would be over at once"):
            store.pause(tasks, "image", "ada", None, seconds)
        assert store.pauses([tasks.name]) == []

    def test_pauses_that_overlap_count_once(self, store, db, tasks):
        task_id = created(store, tasks, "image")
        store.pause(tasks, "image", "ada", None, None)
        pass_time(db, 400)
        store.pause(tasks, "*", "bob", None, None)
        pass_time(db, 400)
        store.resume(tasks, "image", "ada")
        pass_time(db, 400)
        store.resume(tasks, "*", "bob")
        assert abs(store.status(tasks, task_id).pending_left - PENDING_FOR) < A_MOMENT

    def test_a_whole_watch_is_paused_and_what_runs_goes_on(self, store, tasks):
        running = claimed_again(store, tasks, created(store, tasks))
        created(store, tasks, "patient")
        store.pause(tasks, "*", "ada", "we move", None)
        assert store.claim(tasks, None, "w").verdict == "paused"
        assert store.beat(tasks, running.task_id, running.token).verdict == "held"
        assert settled(store, tasks, running, "complete").state == "completed"

    def test_it_ends_when_somebody_resumes_it_or_its_time_is_over(self, store, db, tasks):
        task_id = created(store, tasks, "image")
        store.pause(tasks, "image", "ada", None, 3600.0)
        (ended,) = store.resume(tasks, "image", "bob")
        assert (ended.who, ended.ended_by) == ("ada", "bob")
        assert store.resume(tasks, "image", "bob") == []
        store.pause(tasks, "image", "ada", None, 60.0)
        assert [pause.kind for pause in store.pauses([tasks.name])] == ["image"]
        pass_time(db, 61)
        assert store.pauses([tasks.name]) == []
        assert store.claim(tasks, None, "w").task_id == task_id

    def test_the_time_of_a_pause_is_no_waiting(self, store, db, tasks):
        task_id = created(store, tasks, "image")
        pass_time(db, PENDING_FOR - 60)
        store.pause(tasks, "image", "ada", None, None)
        pass_time(db, 30 * DAY)
        assert swept(store, tasks) == []
        status = store.status(tasks, task_id)
        assert (status.state, status.paused.who) == ("pending", "ada")
        assert status.paused.left is None, "until somebody resumes it"
        assert abs(status.pending_left - 60) < A_MOMENT
        assert store.redispatch(tasks, 10) == [], "its push would come back"
        store.resume(tasks, "image", "ada")
        assert swept(store, tasks) == []
        pass_time(db, 61)
        assert [task.reason for task in swept(store, tasks)] == ["never_claimed"]

    @pytest.mark.parametrize("kinds", [None, ["image", "patient"]], ids=["any", "named"])
    @pytest.mark.parametrize("paused", ["image", "*"])
    def test_what_waited_through_a_long_pause_is_taken_after_it_before_what_came_later(
        self, store, db, tasks, paused, kinds
    ):
        old = created(store, tasks, "image")
        store.pause(tasks, paused, "ada", None, 30 * DAY if paused == "*" else None)
        pass_time(db, 30 * DAY + 1)
        store.resume(tasks, paused, "ada")
        new = created(store, tasks, "image")
        for swept_between in (False, True):
            if swept_between:
                store.pauses_told([tasks.name], DAY)
            assert [store.claim(tasks, None, "w", kinds).task_id] == [(old, new)[swept_between]]
        assert store.claim(tasks, None, "w", kinds).verdict == "none"

    def test_a_pause_of_one_kind_makes_no_overdue_task_of_another_young(self, store, db, tasks):
        created(store, tasks, "patient")
        store.pause(tasks, "image", "ada", None, None)
        pass_time(db, 30 * DAY)
        store.resume(tasks, "image", "ada")
        assert store.claim(tasks, None, "w", ["image", "patient"]).verdict == "none"

    def test_the_sweep_pushes_all_that_waited_through_a_long_pause_once_though_some_are_taken(
        self, store, db, tasks
    ):
        waiting = [created(store, tasks, "image") for _ in range(5)]
        store.pause(tasks, "image", "ada", None, None)
        pass_time(db, DAY)
        store.resume(tasks, "image", "ada")
        pass_time(db, 1)
        for _ in range(2):
            settled(store, tasks, claimed_again(store, tasks, None), "complete")
        pushed = [task.task_id for task in store.redispatch(tasks, 2)]
        claimed_again(store, tasks, waiting[2])
        pushed += [task.task_id for task in store.redispatch(tasks, 10)]
        assert sorted(pushed) == sorted(waiting[2:])
        assert store.redispatch(tasks, 10) == []
        store.pause(tasks, "*", "ada", None, None)
        assert store.redispatch(tasks, 10) == []

    def test_the_age_of_what_waits_stands_still_while_it_is_paused(self, store, db, tasks):
        created(store, tasks, "image")
        pass_time(db, 100)
        store.pause(tasks, "image", "ada", None, None)
        for resumed in (False, True):
            pass_time(db, DAY / 2)
            if resumed:
                store.resume(tasks, "image", "ada")
            (waiting,) = store.overview(tasks).open
            assert abs(waiting.oldest - 100) < A_MOMENT

    def test_of_other_watches_nothing_is_paused(self, store, tasks, hooked):
        store.pause(hooked, "*", "ada", None, None)
        assert store.claim(tasks, created(store, tasks), "w").verdict == "claimed"

    def test_what_is_to_be_told_of_it_is_told_once(self, store, db, tasks):
        store.pause(tasks, "image", "ada", None, None)
        store.pause(tasks, "patient", "ada", None, 2 * DAY)
        told = [store.pauses_told([tasks.name], DAY)]
        pass_time(db, DAY + 1)
        told += [store.pauses_told([tasks.name], DAY) for _ in range(2)]
        pass_time(db, DAY)
        told += [store.pauses_told([tasks.name], DAY) for _ in range(2)]
        store.resume(tasks, "image", "ada")
        told += [store.pauses_told([tasks.name], DAY)]
        shown = [[(pause.kind, pause.verdict) for pause in some] for some in told]
        both = [("image", "paused"), ("patient", "paused")]
        assert shown == [
            both,
            [("image", "forgotten")],
            [],
            [("patient", "resumed")],
            [],
            [("image", "resumed")],
        ]


class TestBreaker:
    def test_it_pauses_after_so_many_transient_failures_in_a_row(self, store, db, fragile):
        for reason in ("transient", "transient", "handler_error", "transient", "transient"):
            self.fail(store, fragile, reason)
            assert store.pauses([fragile.name]) == []
        self.fail(store, fragile)
        (pause,) = store.pauses([fragile.name])
        assert (pause.kind, pause.breaker) == ("image", True)
        assert store.claim(fragile, created(store, fragile), "w").verdict == "paused"
        assert [pause.verdict for pause in store.pauses_told([fragile.name], DAY)] == ["paused"]
        assert store.pauses_told([fragile.name], DAY) == []

    def test_then_one_task_is_let_through_and_its_success_ends_the_pause(self, store, db, fragile):
        probe = self.probe(store, db, fragile)
        assert store.claim(fragile, None, "w").verdict == "paused", "only one"
        settled(store, fragile, probe, "complete")
        assert store.claim(fragile, created(store, fragile), "w").verdict == "claimed"
        assert store.pauses([fragile.name]) == []
        told = store.pauses_told([fragile.name], DAY)
        assert [(pause.verdict, pause.ended_by) for pause in told] == [
            ("resumed", "a task that it let through")
        ]

    def test_its_failure_makes_the_next_pause_twice_as_long_up_to_the_most(
        self, store, db, fragile
    ):
        probe = self.probe(store, db, fragile)
        for seconds in (120, 150, 150):
            settled(store, fragile, probe, "retry", reason="transient", after=0)
            assert store.claim(fragile, None, "w").verdict == "paused"
            (pause,) = store.pauses([fragile.name])
            assert seconds - A_MOMENT < pause.left <= seconds
            pass_time(db, seconds + 1)
            probe = claimed_again(store, fragile, created(store, fragile))

    def test_a_task_that_was_let_through_and_lost_lets_the_next_one_try(self, store, db, fragile):
        self.probe(store, db, fragile)
        pass_time(db, 31)
        swept(store, fragile)
        assert store.claim(fragile, created(store, fragile), "w").verdict == "claimed"
        assert store.claim(fragile, None, "w").verdict == "paused", "only one again"
        assert [pause.breaker for pause in store.pauses([fragile.name])] == [True]

    def test_of_sixteen_workers_at_once_one_is_let_through(self, conformance, db, fragile):
        store = PostgresStore(conformance)
        self.probe(store, db, fragile)
        pass_time(db, 31)
        swept(store, fragile)
        answers = []
        at_once(*[lambda: answers.append(store.claim(fragile, None, "w").verdict)] * 16)
        assert sorted(answers) == ["claimed", *["paused"] * 15]
        store.close()

    @staticmethod
    def fail(store, watch, reason="transient"):
        attempt = claimed_again(store, watch, created(store, watch, "image"))
        settled(store, watch, attempt, "retry", reason=reason, after=3600)

    def probe(self, store, db, watch):
        for _ in range(3):
            self.fail(store, watch)
        pass_time(db, 61)
        for _ in range(3):
            created(store, watch, "image")
        return claimed_again(store, watch, None)
