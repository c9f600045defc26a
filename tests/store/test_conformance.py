"""What every store has to do: each verb with each of its verdicts, and who wins when two want the
same task.

A new store is named in `STORES` (conftest). Nothing here says SQL through the store under test:
`db` sets up and looks."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from functions.core.policy import Json, Policy, Watch
from functions.errors import StoreError
from functions.ops.postgres.embedded import free_port
from functions.store import Answer, Store
from tests.sql import pass_time
from tests.store.conftest import AWAY

Db = psycopg.Connection[dict[str, Any]]
LEASE = 30.0  # of the suite's policy
DEADLINE = LEASE + 570.0
PENDING_FOR = 900.0
SILENT_FOR = 900.0
REDISPATCH_AFTER = 120.0
A_MOMENT = 1.0  # seconds that the test itself may take between two statements
NIL = str(UUID(int=0))


def created(store: Store, watch: Watch, kind: str = "image", **more: Any) -> str:
    answer = store.create(watch, kind, {}, **more)
    assert answer["verdict"] == "created"
    return str(answer["task_id"])


def claimed(store: Store, watch: Watch, kind: str = "image", **more: Any) -> Answer:
    """A new task in the hands of a worker."""
    return claimed_again(store, watch, created(store, watch, kind, **more))


def claimed_again(store: Store, watch: Watch, task_id: str | None) -> Answer:
    answer = store.claim(watch, task_id, "worker-1")
    assert answer["verdict"] == "claimed"
    return answer


def settled(store: Store, watch: Watch, attempt: Answer, outcome: str, **more: Any) -> Answer:
    answer = store.settle(watch, attempt["task_id"], attempt["token"], outcome, **more)
    assert answer["verdict"] == "settled"
    return answer


def swept(store: Store, watch: Watch, **more: Any) -> list[Answer]:
    """What one sweep rescued; all of it."""
    answer = store.sweep(watch, 500, **more)
    assert (answer["unsweepable"], answer["more"]) == ([], False)
    return list(answer["rescued"])


def one(db: Db, query: str, *arguments: Any) -> dict[str, Any]:
    (row,) = db.execute(query, arguments).fetchall()
    return row


def row(db: Db, task_id: str, table: str = "tasks") -> dict[str, Any]:
    return one(db, f"select * from public.{table} where id = %s", task_id)


def attempts(db: Db, task_id: str) -> list[dict[str, Any]]:
    return db.execute(
        "select * from unstuck.attempts where task_id = %s order by number", (task_id,)
    ).fetchall()


def refusals(db: Db, task_id: str) -> list[tuple[str, str, str]]:
    found = db.execute(
        "select * from unstuck.refusals where task_id = %s order by id", (task_id,)
    ).fetchall()
    return [(one["source"], one["wanted"], one["because"]) for one in found]


def by_foreigner(db: Db, task_id: str, status: str, table: str = "tasks") -> int:
    """Writes a status as somebody who knows nothing of Unstuck. Returns the number of rows it
    moved."""
    return db.execute(
        f"update public.{table} set status = %s where id = %s", (status, task_id)
    ).rowcount


def past_the_fence(db: Db, task_id: str, **values: Any) -> None:
    """What a person does with the fence switched off, or what happens to a table that has none."""
    db.execute("alter table public.tasks disable trigger unstuck_fence")
    for name, value in values.items():
        db.execute(f"update public.tasks set {name} = %s where id = %s", (value, task_id))
    db.execute("alter table public.tasks enable trigger unstuck_fence")


def put_back(db: Db, task_id: str) -> None:
    past_the_fence(db, task_id, status="pending", scheduled_at="now", finished_at=None)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call answered; all began at the same moment."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


class TestCreate:
    def test_a_created_task_is_pending_and_holds_what_was_given(self, store, db, tasks):
        answer = store.create(
            tasks,
            "image",
            {"prompt": "a cat"},
            owner="ann",
            key="k1",
            priority=7,
            metadata={"plan": "free"},
        )
        found = row(db, answer["task_id"])
        assert answer == {"verdict": "created", "task_id": str(found["id"]), "state": "pending"}
        assert (found["status"], found["kind"], found["input"]) == (
            "pending",
            "image",
            {"prompt": "a cat"},
        )
        assert (found["owner"], found["priority"], found["metadata"]) == (
            "ann",
            7,
            {"plan": "free"},
        )
        assert found["idempotency_key"] == "k1"
        assert (found["result"], found["error_message"], found["finished_at"]) == (None, None, None)

    def test_the_same_key_finds_the_task_that_is_there(self, store, db, tasks):
        first = store.create(tasks, "image", {"n": 1}, owner="ann", key="k1")
        again = store.create(tasks, "image", {"n": 1}, owner="ann", key="k1")
        assert again == {"verdict": "exists", "task_id": first["task_id"], "state": "pending"}
        assert one(db, "select count(*) from public.tasks")["count"] == 1

    def test_the_same_key_without_an_owner_finds_the_task_too(self, store, tasks):
        first = store.create(tasks, "image", {"n": 1}, key="k1")
        assert store.create(tasks, "image", {"n": 1}, key="k1")["task_id"] == first["task_id"]

    @pytest.mark.parametrize(("kind", "task_input"), [("image", {"n": 2}), ("once", {"n": 1})])
    def test_the_same_key_for_another_task_is_a_conflict(self, store, tasks, kind, task_input):
        first = store.create(tasks, "image", {"n": 1}, key="k1")
        answer = store.create(tasks, kind, task_input, key="k1")
        assert (answer["verdict"], answer["task_id"]) == ("conflict", first["task_id"])

    def test_a_unique_index_of_the_owners_refuses_by_its_name(self, store, db, tasks):
        db.execute("create unique index one_prompt on public.tasks ((input ->> 'prompt'))")
        try:
            store.create(tasks, "image", {"prompt": "a cat"})
            with pytest.raises(
                StoreError, match='violates unique constraint "one_prompt"'
            ) as refused:
                store.create(tasks, "image", {"prompt": "a cat"}, key="k1")
            assert (refused.value.code, refused.value.retryable) == ("23505", False)
        finally:
            db.execute("drop index public.one_prompt")

    def test_the_same_key_of_another_owner_is_another_task(self, store, tasks):
        first = store.create(tasks, "image", {}, owner="ann", key="k1")
        other = store.create(tasks, "image", {}, owner="bob", key="k1")
        assert (other["verdict"], other["task_id"] != first["task_id"]) == ("created", True)

    def test_a_key_outlives_the_end_of_its_task(self, store, tasks):
        attempt = claimed(store, tasks, key="k1")
        settled(store, tasks, attempt, "complete")
        answer = store.create(tasks, "image", {}, key="k1")
        assert answer == {"verdict": "exists", "task_id": attempt["task_id"], "state": "completed"}

    def test_a_create_whose_answer_was_lost_can_be_repeated(self, store, db, tasks):
        wanted = {"p_kind": "image", "p_input": Json('{"n": 1}'), "p_id": str(uuid4())}
        answers = [store.call("tasks_create", dict(wanted), 5.0) for _ in range(3)]
        assert [answer["verdict"] for answer in answers] == ["created", "exists", "exists"]
        assert {answer["task_id"] for answer in answers} == {wanted["p_id"]}
        assert one(db, "select count(*) from public.tasks")["count"] == 1

    def test_a_delayed_task_is_not_due_before_its_time(self, store, db, tasks):
        task_id = created(store, tasks, delay=60)
        assert store.claim(tasks, None, "w")["verdict"] == "none"
        pass_time(db, 61)
        assert store.claim(tasks, None, "w")["task_id"] == task_id

    def test_eight_creates_with_one_key_at_once_make_one_task(self, store, tasks):
        answers = at_once(*[lambda: store.create(tasks, "image", {}, key="k1")] * 8)
        assert Counter(answer["verdict"] for answer in answers) == {"created": 1, "exists": 7}
        assert len({answer["task_id"] for answer in answers}) == 1


class TestClaim:
    def test_a_given_task_is_claimed_with_all_that_the_worker_needs(self, store, db, tasks):
        task_id = store.create(tasks, "image", {"prompt": "a cat"})["task_id"]
        answer = store.claim(tasks, task_id, "worker-1")
        (attempt,) = attempts(db, task_id)
        assert answer == {
            "verdict": "claimed",
            "task_id": task_id,
            "kind": "image",
            "state": "running",
            "token": str(attempt["token"]),
            "number": 1,
            "tries": 1,
            "input": {"prompt": "a cat"},
            "rescued": None,
            "checkpoint": {},
        }
        found = row(db, task_id)
        assert found["status"] == "processing"
        assert found["started_at"] == found["updated_at"] == attempt["started_at"]
        assert attempt["worker"] == "worker-1"
        assert (attempt["lease_until"] - attempt["started_at"]).total_seconds() == LEASE
        assert (attempt["deadline_at"] - attempt["started_at"]).total_seconds() == DEADLINE

    def test_a_task_that_is_held_is_not_claimed_again(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = store.claim(tasks, attempt["task_id"], "worker-2")
        assert (answer["verdict"], answer["state"]) == ("held", "running")
        assert LEASE - A_MOMENT < answer["retry_after"] <= LEASE
        assert len(attempts(db, attempt["task_id"])) == 1

    def test_a_task_that_is_not_due_is_early_and_says_for_how_long(self, store, tasks):
        answer = store.claim(tasks, created(store, tasks, delay=60), "w")
        assert answer["verdict"] == "early"
        assert 60 - A_MOMENT < answer["retry_after"] <= 60

    @pytest.mark.parametrize("outcome", ["complete", "fail"])
    def test_a_task_that_ended_is_not_claimed(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, outcome)
        answer = store.claim(tasks, attempt["task_id"], "w")
        assert answer["verdict"] == "ended"
        assert answer["state"] == {"complete": "completed", "fail": "failed"}[outcome]
        assert len(attempts(db, attempt["task_id"])) == 1

    def test_a_cancelled_task_is_not_claimed(self, store, db, tasks):
        task_id = created(store, tasks)
        assert by_foreigner(db, task_id, "cancelled") == 1
        answer = store.claim(tasks, task_id, "w")
        assert (answer["verdict"], answer["state"]) == ("ended", "cancelled")

    def test_a_task_that_is_not_there_is_missing(self, store, tasks):
        assert store.claim(tasks, NIL, "w") == {"verdict": "missing"}

    def test_without_a_pending_task_there_is_none(self, store, tasks):
        claimed(store, tasks)
        assert store.claim(tasks, None, "w") == {"verdict": "none"}

    def test_the_next_task_is_the_most_urgent_and_then_the_oldest(self, store, tasks):
        wanted = [created(store, tasks, priority=priority) for priority in (0, 5, 0, 5, -1)]
        taken = [claimed_again(store, tasks, None)["task_id"] for _ in wanted]
        assert taken == [wanted[n] for n in (1, 3, 0, 2, 4)]

    def test_the_next_task_can_be_asked_for_by_kind(self, store, tasks):
        created(store, tasks, "image", priority=9)
        wanted = created(store, tasks, "patient")
        assert store.claim(tasks, None, "w", ["once", "patient"])["task_id"] == wanted
        assert store.claim(tasks, None, "w", ["once", "patient"])["verdict"] == "none"
        assert store.claim(tasks, None, "w", [])["verdict"] == "none"

    def test_the_next_task_is_never_one_that_the_sweep_wants(self, store, db, tasks):
        late = {kind: created(store, tasks, kind) for kind in ("hasty", "image", "patient")}
        pass_time(db, 61)
        assert store.claim(tasks, None, "w", ["hasty"])["verdict"] == "none"
        pass_time(db, PENDING_FOR - 61)
        assert store.claim(tasks, None, "w", ["image"])["verdict"] == "none"
        assert {task["task_id"] for task in swept(store, tasks)} == {late["hasty"], late["image"]}
        assert claimed_again(store, tasks, None)["task_id"] == late["patient"]

    def test_a_given_task_is_claimed_however_long_it_waited(self, store, db, tasks):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        assert store.claim(tasks, task_id, "w")["verdict"] == "claimed"

    @pytest.mark.parametrize("given", [True, False])
    def test_a_claim_whose_answer_was_lost_can_be_asked_for_again(self, store, db, tasks, given):
        task_id = created(store, tasks)
        wanted = {
            "p_task": task_id if given else None,
            "p_worker": "w",
            "p_rules": tasks.rules_json,
            "p_token": str(uuid4()),
        }
        first = store.call("tasks_claim", dict(wanted), 5.0)
        again = store.call("tasks_claim", wanted | {"p_again": True}, 5.0)
        assert again == first
        assert len(attempts(db, task_id)) == 1

    def test_a_claim_that_never_arrived_can_be_asked_for_again(self, store, tasks):
        wanted = {
            "p_task": created(store, tasks),
            "p_worker": "w",
            "p_rules": tasks.rules_json,
            "p_again": True,
        }
        assert store.call("tasks_claim", wanted, 5.0)["verdict"] == "claimed"

    def test_an_expired_attempt_is_taken_over_at_once(self, store, db, tasks):
        zombie = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        answer = store.claim(tasks, zombie["task_id"], "worker-2")
        assert (answer["verdict"], answer["number"], answer["tries"]) == ("claimed", 2, 2)
        assert [task["reason"] for task in answer["rescued"]] == ["lease_lost"]
        first, second = attempts(db, zombie["task_id"])
        assert (first["outcome"], first["reason"], second["outcome"]) == (
            "retried",
            "lease_lost",
            None,
        )
        assert row(db, zombie["task_id"])["status"] == "processing"

    def test_an_expired_last_attempt_ends_the_task_instead(self, store, db, tasks):
        zombie = claimed(store, tasks, "once")
        pass_time(db, LEASE + 1)
        answer = store.claim(tasks, zombie["task_id"], "worker-2")
        assert (answer["verdict"], answer["state"]) == ("ended", "failed")
        assert [task["reason"] for task in answer["rescued"]] == ["attempts_exhausted"]
        assert row(db, zombie["task_id"])["status"] == "failed"

    def test_retries_are_counted_and_releases_are_not(self, store, db, tasks):
        task_id = created(store, tasks)
        seen = []
        for outcome in ("release", "retry", "release", "release", "complete"):
            attempt = claimed_again(store, tasks, task_id)
            seen.append((attempt["number"], attempt["tries"]))
            settled(store, tasks, attempt, outcome, reason="shutdown", after=0)
        assert seen == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
        assert row(db, task_id)["status"] == "completed"

    @pytest.mark.parametrize("outcome", ["complete", "fail"])
    def test_a_task_that_ended_and_was_put_back_begins_anew(self, store, db, tasks, outcome):
        task_id = created(store, tasks)
        first = claimed_again(store, tasks, task_id)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        second = claimed_again(store, tasks, task_id)
        store.checkpoint(tasks, task_id, second["token"], "step", {"n": 1})
        settled(store, tasks, second, outcome)
        put_back(db, task_id)
        third = claimed_again(store, tasks, task_id)
        assert (third["number"], third["tries"], third["checkpoint"]) == (3, 1, {})

    def test_a_task_that_was_never_claimed_and_was_put_back_begins_anew(self, store, db, tasks):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        swept(store, tasks)
        put_back(db, task_id)
        attempt = claimed_again(store, tasks, task_id)
        assert (attempt["number"], attempt["tries"]) == (2, 1)

    def test_a_held_task_that_somebody_put_back_waits_for_the_end_of_its_attempt(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        put_back(db, attempt["task_id"])
        answer = store.claim(tasks, attempt["task_id"], "worker-2")
        assert (answer["verdict"], answer["state"]) == ("held", "pending")
        assert (
            store.settle(tasks, attempt["task_id"], attempt["token"], "complete")["verdict"]
            == "lost"
        )
        assert store.claim(tasks, attempt["task_id"], "worker-2")["verdict"] == "claimed"

    def test_a_held_task_that_somebody_put_back_does_not_stand_before_the_others(
        self, store, db, tasks
    ):
        held = claimed(store, tasks, priority=9)
        put_back(db, held["task_id"])
        other = created(store, tasks)
        assert store.claim(tasks, None, "worker-2")["task_id"] == other
        assert store.claim(tasks, None, "worker-2")["verdict"] == "none"

    def test_sixteen_workers_claim_each_of_two_hundred_tasks_once(self, store, db, tasks):
        wanted = {created(store, tasks) for _ in range(200)}

        def work() -> list[str]:
            taken = []
            while (answer := store.claim(tasks, None, "w"))["verdict"] == "claimed":
                taken.append(answer["task_id"])
            return taken

        taken = [task_id for some in at_once(*[work] * 16) for task_id in some]
        # a worker stops when all that is left is locked by others, who have it then
        assert sorted(taken) == sorted(wanted)
        assert (
            one(db, "select count(*) from unstuck.attempts where ended_at is null")["count"] == 200
        )

    def test_of_eight_workers_that_want_one_task_one_gets_it(self, store, db, tasks):
        for _ in range(10):
            task_id = created(store, tasks)
            answers = at_once(*[lambda task_id=task_id: store.claim(tasks, task_id, "w")] * 8)
            assert Counter(answer["verdict"] for answer in answers) == {"claimed": 1, "held": 7}
            assert len(attempts(db, task_id)) == 1

    def test_of_eight_workers_that_want_one_expired_task_one_takes_it_over(self, store, db, tasks):
        for _ in range(10):
            zombie = claimed(store, tasks)
            pass_time(db, LEASE + 1)
            answers = at_once(
                *[lambda task_id=zombie["task_id"]: store.claim(tasks, task_id, "w")] * 8
            )
            assert Counter(answer["verdict"] for answer in answers) == {"claimed": 1, "held": 7}
            assert [attempt["number"] for attempt in attempts(db, zombie["task_id"])] == [1, 2]


class TestBeat:
    def test_a_beat_extends_the_lease(self, store, db, tasks):
        attempt = claimed(store, tasks)
        for _ in range(3):
            pass_time(db, LEASE - 1)
            assert store.beat(tasks, attempt["task_id"], attempt["token"]) == {"verdict": "held"}
        assert swept(store, tasks) == []
        assert attempts(db, attempt["task_id"])[0]["beats"] == 3

    def test_progress_is_merged_and_shown_by_status(self, store, tasks):
        attempt = claimed(store, tasks)
        beat = lambda progress: store.beat(tasks, attempt["task_id"], attempt["token"], progress)  # noqa: E731
        beat({"fraction": 0.1, "message": "reading"})
        beat(None)
        beat({"fraction": 0.5})
        progress = store.status(tasks, attempt["task_id"])["attempt"]["progress"]
        assert progress == {"fraction": 0.5, "message": "reading"}

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_a_beat_after_the_end_is_lost(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, outcome, reason="shutdown")
        answer = store.beat(tasks, attempt["task_id"], attempt["token"])
        assert answer["verdict"] == "lost"
        assert answer["outcome"] == attempts(db, attempt["task_id"])[0]["outcome"]
        assert refusals(db, attempt["task_id"]) == [("verb", "beat", answer["outcome"])]

    def test_a_beat_does_not_revive_a_lease_that_was_taken(self, store, db, tasks):
        zombie = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        second = claimed_again(store, tasks, zombie["task_id"])
        answer = store.beat(tasks, zombie["task_id"], zombie["token"])
        assert (answer["verdict"], answer["outcome"], answer["reason"]) == (
            "lost",
            "retried",
            "lease_lost",
        )
        assert (answer["kind"], answer["number"]) == (zombie["kind"], 1)
        assert store.beat(tasks, zombie["task_id"], second["token"])["verdict"] == "held"

    def test_a_late_beat_revives_a_lease_that_nobody_took(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        assert store.beat(tasks, attempt["task_id"], attempt["token"])["verdict"] == "held"
        assert swept(store, tasks) == []

    def test_no_beat_carries_an_attempt_over_its_deadline(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, DEADLINE + 1)
        store.beat(tasks, attempt["task_id"], attempt["token"])
        assert [task["cause"] for task in swept(store, tasks)] == ["deadline"]

    def test_a_beat_with_an_unknown_token_is_lost(self, store, tasks):
        attempt = claimed(store, tasks)
        assert store.beat(tasks, attempt["task_id"], NIL)["verdict"] == "lost"

    def test_a_token_is_good_for_its_own_task_only(self, store, tasks):
        mine, other = claimed(store, tasks), claimed(store, tasks)
        assert store.beat(tasks, other["task_id"], mine["token"])["verdict"] == "lost"
        assert store.settle(tasks, other["task_id"], mine["token"], "complete")["verdict"] == "lost"


class TestCheckpoint:
    def test_checkpoints_add_up_and_the_last_word_on_a_name_counts(self, store, db, tasks):
        attempt = claimed(store, tasks)

        def save(name, data):
            return store.checkpoint(tasks, attempt["task_id"], attempt["token"], name, data)

        assert save("upload", {"url": "a"}) == {"verdict": "held"}
        save("render", [1, 2])
        save("upload", {"url": "b"})
        assert attempts(db, attempt["task_id"])[0]["checkpoint"] == {
            "upload": {"url": "b"},
            "render": [1, 2],
        }

    def test_a_checkpoint_is_a_beat(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE - 1)
        store.checkpoint(tasks, attempt["task_id"], attempt["token"], "step", 1)
        pass_time(db, LEASE - 1)
        assert swept(store, tasks) == []

    @pytest.mark.parametrize("how", ["retry", "release", "sweep", "take over"])
    def test_the_next_attempt_begins_with_the_checkpoints_of_the_last(self, store, db, tasks, how):
        attempt = claimed(store, tasks)
        store.checkpoint(tasks, attempt["task_id"], attempt["token"], "step", {"n": 1})
        if how in {"retry", "release"}:
            settled(store, tasks, attempt, how, reason="transient", after=0)
        else:
            pass_time(db, LEASE + 1)
        if how == "sweep":
            swept(store, tasks)
            pass_time(db, 60)
        assert claimed_again(store, tasks, attempt["task_id"])["checkpoint"] == {"step": {"n": 1}}

    def test_checkpoints_outlive_a_stretch_in_the_hands_of_a_worker_without_a_guard(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        store.checkpoint(tasks, attempt["task_id"], attempt["token"], "step", {"n": 1})
        settled(store, tasks, attempt, "retry", reason="transient", after=0)
        by_foreigner(db, attempt["task_id"], "processing")
        pass_time(db, SILENT_FOR + 1)
        assert [task["cause"] for task in swept(store, tasks)] == ["stale"]
        pass_time(db, 60)
        assert claimed_again(store, tasks, attempt["task_id"])["checkpoint"] == {"step": {"n": 1}}

    def test_a_checkpoint_of_an_attempt_that_ended_is_lost(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "retry", reason="transient")
        answer = store.checkpoint(tasks, attempt["task_id"], attempt["token"], "step", 1)
        assert (answer["verdict"], answer["reason"]) == ("lost", "transient")
        assert attempts(db, attempt["task_id"])[0]["checkpoint"] == {}
        assert refusals(db, attempt["task_id"]) == [("verb", "checkpoint", "retried")]


class TestSettle:
    def test_complete_keeps_the_result(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = settled(
            store, tasks, attempt, "complete", result={"url": "https://example.org/cat.png"}
        )
        assert (answer["state"], answer["reason"], answer["retry_after"]) == (
            "completed",
            None,
            None,
        )
        found, (ended,) = row(db, attempt["task_id"]), attempts(db, attempt["task_id"])
        assert (found["status"], found["result"]) == (
            "completed",
            {"url": "https://example.org/cat.png"},
        )
        assert (found["error_message"], found["reason"]) == (None, None)
        assert (ended["outcome"], ended["sweep_id"]) == ("completed", None)
        assert found["finished_at"] >= ended["ended_at"] >= ended["started_at"]

    def test_fail_keeps_the_sentence_for_the_user_and_the_detail_for_the_operator(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        answer = settled(
            store,
            tasks,
            attempt,
            "fail",
            reason="handler_error",
            error="No such picture.",
            detail="KeyError: 'cat'",
        )
        assert (answer["state"], answer["reason"], answer["error"]) == (
            "failed",
            "handler_error",
            "No such picture.",
        )
        found, (ended,) = row(db, attempt["task_id"]), attempts(db, attempt["task_id"])
        assert (found["status"], found["error_message"]) == ("failed", "No such picture.")
        assert (found["reason"], ended["detail"]) == ("handler_error", "KeyError: 'cat'")
        assert "KeyError" not in str(found)

    def test_fail_without_a_sentence_gets_one(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="out_of_memory")
        assert (
            row(db, attempt["task_id"])["error_message"]
            == "The work needed more memory than it may use."
        )

    def test_retry_puts_the_task_back_after_the_backoff_of_its_rule(self, store, db, tasks):
        task_id = created(store, tasks, "image")
        for shortest, longest in ((1, 2), (4, 8)):  # first 2 s, factor 4, jittered down to a half
            attempt = claimed_again(store, tasks, task_id)
            answer = settled(
                store, tasks, attempt, "retry", reason="transient", error="The provider is busy."
            )
            assert (answer["state"], answer["reason"]) == ("pending", "transient")
            assert shortest <= answer["retry_after"] <= longest
            found = row(db, task_id)
            ended = attempts(db, task_id)[-1]
            assert (found["status"], found["error_message"], found["finished_at"]) == (
                "pending",
                None,
                None,
            )
            assert (ended["outcome"], ended["error"]) == ("retried", "The provider is busy.")
            assert found["scheduled_at"] == ended["retry_at"]
            assert store.claim(tasks, task_id, "w")["verdict"] == "early"
            pass_time(db, longest)

    def test_the_backoff_grows_to_its_longest_and_is_jittered(self, db, tasks):
        query = "select extract(epoch from unstuck.backoff(unstuck.rule(%s, 'image'), %s))::float8 as seconds"
        for tries, longest in ((1, 2.0), (2, 8.0), (3, 20.0), (4, 20.0), (1000, 20.0)):
            waits = [one(db, query, tasks.rules_json, tries)["seconds"] for _ in range(20)]
            assert longest / 2 <= min(waits) < max(waits) <= longest

    def test_a_delay_overrides_the_backoff(self, store, tasks):
        attempt = claimed(store, tasks)
        answer = settled(store, tasks, attempt, "retry", reason="transient", after=3600)
        assert answer["retry_after"] == pytest.approx(3600)

    def test_release_puts_the_task_back_at_once(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = settled(store, tasks, attempt, "release", reason="shutdown")
        assert (answer["state"], answer["retry_after"]) == ("pending", 0)
        assert attempts(db, attempt["task_id"])[0]["outcome"] == "released"
        assert store.claim(tasks, None, "w")["task_id"] == attempt["task_id"]

    def test_after_ten_free_releases_a_release_counts(self, store, db, tasks):
        task_id = created(store, tasks)
        states = []
        while "failed" not in states:
            attempt = claimed_again(store, tasks, task_id)
            states.append(
                settled(store, tasks, attempt, "release", reason="shutdown", after=0)["state"]
            )
            assert len(states) < 20
        assert states == ["pending"] * 12 + ["failed"]
        outcomes = Counter(attempt["outcome"] for attempt in attempts(db, task_id))
        assert outcomes == {"released": 10, "retried": 2, "failed": 1}
        assert attempts(db, task_id)[-1]["reason"] == "attempts_exhausted"

    def test_a_task_that_begins_anew_has_its_ten_free_releases_again(self, store, db, tasks):
        task_id = created(store, tasks)
        for _ in range(12):
            attempt = claimed_again(store, tasks, task_id)
            settled(store, tasks, attempt, "fail")
            put_back(db, task_id)
        for _ in range(10):
            attempt = claimed_again(store, tasks, task_id)
            settled(store, tasks, attempt, "release", reason="shutdown")
        assert {one["outcome"] for one in attempts(db, task_id)[12:]} == {"released"}

    @pytest.mark.parametrize(
        ("cause", "reason", "sentence"),
        [
            (
                "transient",
                "transient_exhausted",
                "Gave up after 3 attempts that each failed for a passing reason.",
            ),
            (
                "handler_error",
                "attempts_exhausted",
                "Gave up after 3 attempts. The last one: The work failed.",
            ),
            (
                "crashed",
                "attempts_exhausted",
                "Gave up after 3 attempts. The last one: The process that did the work crashed.",
            ),
        ],
    )
    def test_a_task_without_attempts_left_fails_and_says_why(
        self, store, db, tasks, cause, reason, sentence
    ):
        task_id = created(store, tasks)
        states = []
        for _ in range(3):
            attempt = claimed_again(store, tasks, task_id)
            answer = settled(store, tasks, attempt, "retry", reason=cause, after=0)
            states.append(answer["state"])
        assert states == ["pending", "pending", "failed"]
        assert (answer["reason"], answer["error"], answer["retry_after"]) == (
            reason,
            sentence,
            None,
        )
        found = row(db, task_id)
        assert (found["status"], found["reason"], found["error_message"]) == (
            "failed",
            reason,
            sentence,
        )
        last = attempts(db, task_id)[-1]
        assert (last["outcome"], last["reason"], last["cause"]) == ("failed", reason, cause)

    def test_a_task_with_one_attempt_says_so(self, store, tasks):
        answer = settled(store, tasks, claimed(store, tasks, "once"), "retry", reason="deadline")
        assert (
            answer["error"]
            == "Gave up after 1 attempt. The last one: The work took longer than it may."
        )

    @pytest.mark.parametrize("cause", ["crashed", "deadline", "out_of_memory"])
    @pytest.mark.parametrize("kind", ["fails", "uncertain"])
    def test_a_loss_is_final_where_the_rule_says_so(self, store, db, tasks, kind, cause):
        attempt = claimed(store, tasks, kind)
        answer = settled(store, tasks, attempt, "retry", reason=cause)
        assert (answer["state"], answer["reason"]) == (
            "failed",
            cause if kind == "fails" else "uncertain",
        )
        assert attempts(db, attempt["task_id"])[0]["cause"] == cause

    @pytest.mark.parametrize("cause", ["transient", "handler_error"])
    @pytest.mark.parametrize("kind", ["fails", "uncertain"])
    def test_what_is_no_loss_is_retried_even_there(self, store, tasks, kind, cause):
        answer = settled(store, tasks, claimed(store, tasks, kind), "retry", reason=cause)
        assert (answer["state"], answer["reason"]) == ("pending", cause)

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_a_settle_whose_answer_was_lost_can_be_repeated(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        first = settled(store, tasks, attempt, outcome, reason="shutdown", error="Because.")
        again = settled(store, tasks, attempt, outcome, reason="shutdown", error="Because.")
        same = ("state", "reason", "error", "number", "tries")
        assert [again[name] for name in same] == [first[name] for name in same]
        assert again["repeat"] is True
        assert refusals(db, attempt["task_id"]) == []
        assert len(attempts(db, attempt["task_id"])) == 1

    @pytest.mark.parametrize("outcome", ["retry", "release"])
    def test_a_last_settle_whose_answer_was_lost_can_be_repeated(self, store, db, tasks, outcome):
        task_id = created(store, tasks, "once")
        for _ in range(10 if outcome == "release" else 0):
            settled(
                store, tasks, claimed_again(store, tasks, task_id), "release", reason="shutdown"
            )
        last = claimed_again(store, tasks, task_id)
        for _ in range(2):
            answer = settled(store, tasks, last, outcome, reason="shutdown")
            assert (answer["state"], answer["reason"]) == ("failed", "attempts_exhausted")
        assert refusals(db, task_id) == []

    def test_a_repeated_settle_does_not_touch_the_next_attempt(self, store, db, tasks):
        first = claimed(store, tasks)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        second = claimed_again(store, tasks, first["task_id"])
        settled(store, tasks, first, "retry", reason="transient", after=0)
        assert row(db, first["task_id"])["status"] == "processing"
        assert attempts(db, first["task_id"])[1]["ended_at"] is None
        settled(store, tasks, second, "complete")

    def test_another_word_after_the_first_is_lost_and_filed(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", error="No.")
        answer = store.settle(
            tasks, attempt["task_id"], attempt["token"], "complete", result={"late": True}
        )
        assert (answer["verdict"], answer["outcome"]) == ("lost", "failed")
        assert refusals(db, attempt["task_id"]) == [("verb", "complete", "failed")]
        assert (row(db, attempt["task_id"])["status"], row(db, attempt["task_id"])["result"]) == (
            "failed",
            None,
        )

    def test_the_late_result_of_a_zombie_is_refused_and_that_of_its_successor_kept(
        self, store, db, tasks
    ):
        zombie = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        second = claimed_again(store, tasks, zombie["task_id"])
        late = store.settle(tasks, zombie["task_id"], zombie["token"], "complete", result={"by": 1})
        settled(store, tasks, second, "complete", result={"by": 2})
        later = store.settle(
            tasks, zombie["task_id"], zombie["token"], "complete", result={"by": 1}
        )
        assert [late["verdict"], later["verdict"]] == ["lost", "lost"]
        assert row(db, zombie["task_id"])["result"] == {"by": 2}
        assert refusals(db, zombie["task_id"]) == [("verb", "complete", "retried")] * 2

    def test_what_the_sweep_failed_is_not_taken_for_a_repeat(self, store, db, tasks):
        zombie = claimed(store, tasks, "once")
        pass_time(db, LEASE + 1)
        swept(store, tasks)
        for outcome in ("fail", "retry"):
            assert (
                store.settle(tasks, zombie["task_id"], zombie["token"], outcome)["verdict"]
                == "lost"
            )
        assert len(refusals(db, zombie["task_id"])) == 2

    def test_an_unknown_token_is_lost_and_filed(self, store, db, tasks):
        attempt = claimed(store, tasks)
        answer = store.settle(tasks, attempt["task_id"], NIL, "complete")
        assert answer == {
            "verdict": "lost",
            "outcome": None,
            "reason": None,
            "kind": None,
            "number": None,
        }
        assert refusals(db, attempt["task_id"]) == [("verb", "complete", "unknown token")]
        assert row(db, attempt["task_id"])["status"] == "processing"

    def test_an_unknown_outcome_is_refused(self, store, db, tasks):
        attempt = claimed(store, tasks)
        with pytest.raises(StoreError, match="unknown outcome") as refused:
            store.settle(tasks, attempt["task_id"], attempt["token"], "completed")
        assert not refused.value.retryable
        assert attempts(db, attempt["task_id"])[0]["ended_at"] is None

    def test_a_task_that_somebody_moved_is_left_to_them(self, store, db, tasks):
        attempt = claimed(store, tasks)
        past_the_fence(db, attempt["task_id"], status="cancelled")
        for _ in range(2):
            answer = store.settle(
                tasks, attempt["task_id"], attempt["token"], "complete", result={}
            )
            assert (answer["verdict"], answer["outcome"]) == ("lost", "overtaken")
        assert row(db, attempt["task_id"])["status"] == "cancelled"
        assert attempts(db, attempt["task_id"])[0]["outcome"] == "overtaken"
        assert refusals(db, attempt["task_id"]) == [("verb", "complete", "overtaken")] * 2

    def test_a_deleted_task_ends_its_attempt(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("delete from public.tasks")
        assert (
            store.settle(tasks, attempt["task_id"], attempt["token"], "complete")["verdict"]
            == "lost"
        )
        assert attempts(db, attempt["task_id"])[0]["outcome"] == "overtaken"

    def test_a_result_that_the_table_refuses_leaves_all_as_it_was(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute(
            "alter table public.tasks add constraint small check (result is null or result ->> 'n' <> '13')"
        )
        try:
            with pytest.raises(StoreError, match="small") as refused:
                store.settle(
                    tasks, attempt["task_id"], attempt["token"], "complete", result={"n": 13}
                )
        finally:
            db.execute("alter table public.tasks drop constraint small")
        assert (refused.value.retryable, refused.value.code) == (False, "23514")
        assert row(db, attempt["task_id"])["status"] == "processing"
        assert attempts(db, attempt["task_id"])[0]["ended_at"] is None

    def test_when_settle_and_sweep_race_exactly_one_wins_and_the_ledger_agrees(
        self, store, db, tasks
    ):
        wins = Counter()
        races = [claimed(store, tasks) for _ in range(200)]
        pass_time(db, LEASE + 1)
        with ThreadPoolExecutor(2) as threads:
            start = threading.Barrier(2)

            def settle(attempt: Answer) -> Answer:
                start.wait()
                return store.settle(
                    tasks, attempt["task_id"], attempt["token"], "complete", result={"by": "worker"}
                )

            def sweep(attempt: Answer) -> Answer:
                start.wait()
                return store.sweep(tasks, 1, task_id=attempt["task_id"])

            rounds = [
                (threads.submit(settle, attempt), threads.submit(sweep, attempt))
                for attempt in races
            ]
        for attempt, (settling, sweeping) in zip(races, rounds, strict=True):
            said, rescued = settling.result()["verdict"], len(sweeping.result()["rescued"])
            wins[said] += 1
            assert (said, rescued) in {("settled", 0), ("lost", 1)}
            (ended,) = attempts(db, attempt["task_id"])
            found = row(db, attempt["task_id"])
            truth = (found["status"], found["result"], ended["outcome"])
            if said == "settled":
                assert truth == ("completed", {"by": "worker"}, "completed")
            else:
                assert truth == ("pending", None, "retried")
        assert wins.total() == 200


class TestSweep:
    def test_with_nothing_overdue_it_does_nothing(self, store, db, tasks):
        claimed(store, tasks)
        created(store, tasks)
        assert store.sweep(tasks, 500) == {"rescued": [], "unsweepable": [], "more": False}

    def test_a_lost_lease_puts_the_task_back(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE - A_MOMENT)
        assert swept(store, tasks) == []
        pass_time(db, 2)
        (rescued,) = swept(store, tasks, sweep_id=42)
        assert {
            name: rescued[name]
            for name in ("task_id", "kind", "was", "live", "number", "tries", "worker")
        } == {
            "task_id": attempt["task_id"],
            "kind": "image",
            "was": "running",
            "live": True,
            "number": 1,
            "tries": 1,
            "worker": "worker-1",
        }
        assert (rescued["state"], rescued["reason"], rescued["cause"]) == (
            "pending",
            "lease_lost",
            "lease_lost",
        )
        assert 1 <= rescued["retry_after"] <= 2
        assert 1 <= rescued["late"] <= 2 + A_MOMENT
        (ended,), found = attempts(db, attempt["task_id"]), row(db, attempt["task_id"])
        assert (ended["outcome"], ended["error"]) == (
            "retried",
            "The worker stopped without a word.",
        )
        assert ended["sweep_id"] == 42
        assert (found["status"], found["error_message"], found["finished_at"]) == (
            "pending",
            None,
            None,
        )
        assert found["scheduled_at"] == ended["retry_at"]

    def test_a_poison_task_fails_after_its_last_attempt(self, store, db, tasks):
        task_id = created(store, tasks)
        for _ in range(3):
            claimed_again(store, tasks, task_id)
            pass_time(db, LEASE + 1)
            (rescued,) = swept(store, tasks)
            pass_time(db, 20)
        assert (rescued["state"], rescued["reason"], rescued["retry_after"]) == (
            "failed",
            "attempts_exhausted",
            None,
        )
        found = row(db, task_id)
        assert (found["status"], found["reason"]) == ("failed", "attempts_exhausted")
        assert (
            found["error_message"]
            == "Gave up after 3 attempts. The last one: The worker stopped without a word."
        )
        assert found["finished_at"] is not None
        assert [one["outcome"] for one in attempts(db, task_id)] == ["retried", "retried", "failed"]

    @pytest.mark.parametrize(
        ("kind", "reason"), [("fails", "lease_lost"), ("uncertain", "uncertain")]
    )
    def test_a_lost_lease_is_final_where_the_rule_says_so(self, store, db, tasks, kind, reason):
        attempt = claimed(store, tasks, kind)
        pass_time(db, LEASE + 1)
        (rescued,) = swept(store, tasks)
        assert (rescued["state"], rescued["reason"], rescued["cause"]) == (
            "failed",
            reason,
            "lease_lost",
        )
        assert row(db, attempt["task_id"])["reason"] == reason

    def test_an_attempt_over_its_deadline_is_ended_though_it_beats(self, store, db, tasks):
        attempt = claimed(store, tasks, "hasty")
        pass_time(db, 79)
        store.beat(tasks, attempt["task_id"], attempt["token"])
        assert swept(store, tasks) == []
        pass_time(db, 2)
        (rescued,) = swept(store, tasks)
        assert (rescued["state"], rescued["cause"]) == ("pending", "deadline")

    def test_after_a_restart_of_the_server_leases_count_from_the_restart(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        lease = "update unstuck.attempts set lease = make_interval(secs => %s)"
        db.execute(lease, (86_400 + 3600,))  # the suite's server started a day before it did
        assert swept(store, tasks) == []
        assert store.status(tasks, attempt["task_id"])["overdue"] is False
        db.execute(lease, (LEASE,))
        assert len(swept(store, tasks)) == 1

    @pytest.mark.parametrize(
        ("kind", "seconds"), [("hasty", 60), ("image", PENDING_FOR), ("patient", 7200)]
    )
    def test_a_task_that_nobody_claimed_fails_after_its_own_time(
        self, store, db, tasks, kind, seconds
    ):
        task_id = created(store, tasks, kind)
        pass_time(db, seconds - A_MOMENT)
        assert swept(store, tasks) == []
        pass_time(db, 2 * A_MOMENT)
        (rescued,) = swept(store, tasks, sweep_id=7)
        assert (rescued["was"], rescued["live"], rescued["state"]) == ("pending", False, "failed")
        assert rescued["reason"] == "never_claimed"
        found, (added,) = row(db, task_id), attempts(db, task_id)
        sentence = "No worker picked the task up in time."
        assert (found["status"], found["reason"], found["error_message"]) == (
            "failed",
            "never_claimed",
            sentence,
        )
        assert (added["number"], added["tries"], added["outcome"]) == (1, 0, "failed")
        assert (added["reason"], added["error"], added["sweep_id"]) == (
            "never_claimed",
            sentence,
            7,
        )

    def test_a_delayed_task_waits_from_the_time_for_which_it_was_asked(self, store, db, tasks):
        created(store, tasks, delay=3600)
        pass_time(db, 3600 + PENDING_FOR - 1)
        assert swept(store, tasks) == []
        pass_time(db, 2)
        assert len(swept(store, tasks)) == 1

    def test_a_task_that_was_put_back_may_wait_as_long_again(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, PENDING_FOR)
        assert [task["state"] for task in swept(store, tasks)] == ["pending"]
        assert swept(store, tasks) == []
        pass_time(db, PENDING_FOR + 3)
        assert [task["reason"] for task in swept(store, tasks)] == ["never_claimed"]
        assert [one["number"] for one in attempts(db, attempt["task_id"])] == [1, 2]

    def test_a_running_task_without_an_attempt_is_judged_by_the_clock_of_the_table(
        self, store, db, tasks
    ):
        task_id = created(store, tasks)
        assert by_foreigner(db, task_id, "processing") == 1
        pass_time(db, SILENT_FOR - A_MOMENT)
        assert swept(store, tasks) == []
        pass_time(db, 2 * A_MOMENT)
        (rescued,) = swept(store, tasks)
        assert (rescued["was"], rescued["live"], rescued["state"]) == ("running", False, "pending")
        assert (rescued["reason"], rescued["number"], rescued["tries"]) == ("stale", 1, 1)
        (added,) = attempts(db, task_id)
        assert (added["outcome"], added["reason"]) == ("retried", "stale")
        assert added["error"] == "Nothing was heard of the task for too long."
        assert row(db, task_id)["status"] == "pending"

    def test_a_task_that_goes_stale_again_and_again_fails(self, store, db, tasks):
        task_id = created(store, tasks)
        seen = []
        for _ in range(3):
            by_foreigner(db, task_id, "processing")
            pass_time(db, SILENT_FOR + 1)
            (rescued,) = swept(store, tasks)
            seen.append((rescued["state"], rescued["tries"]))
        assert seen == [("pending", 1), ("pending", 2), ("failed", 3)]
        assert row(db, task_id)["reason"] == "attempts_exhausted"

    def test_a_running_task_whose_attempt_lives_is_never_stale(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("update public.tasks set updated_at = updated_at - interval '1 day'")
        assert swept(store, tasks) == []
        assert store.status(tasks, attempt["task_id"])["state"] == "running"

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    def test_a_task_that_ended_is_never_touched(self, store, db, tasks, status):
        task_id = created(store, tasks)
        by_foreigner(db, task_id, status)
        pass_time(db, 10 * 86_400)
        before = row(db, task_id)
        assert swept(store, tasks) == []
        assert row(db, task_id) == before

    def test_it_takes_a_batch_and_says_that_there_is_more(self, store, db, tasks):
        for _ in range(5):
            created(store, tasks)
        for _ in range(5):
            claimed(store, tasks, "hasty")
        for task_id in [created(store, tasks, "patient") for _ in range(5)]:
            by_foreigner(db, task_id, "processing")
        pass_time(db, 3601)
        batches = []
        while len(batches) < 9:
            batch = store.sweep(tasks, 4)
            batches.append((len(batch["rescued"]), batch["more"]))
            if not batch["more"]:
                break
        assert batches == [(4, True), (4, True), (4, True), (3, False)]
        assert one(db, "select count(*) from unstuck.attempts where ended_at is null")["count"] == 0

    def test_it_can_be_asked_about_one_task(self, store, db, tasks):
        mine, other = claimed(store, tasks), claimed(store, tasks)
        pass_time(db, LEASE + 1)
        assert [task["task_id"] for task in swept(store, tasks, task_id=mine["task_id"])] == [
            mine["task_id"]
        ]
        assert attempts(db, other["task_id"])[0]["ended_at"] is None

    def test_it_passes_over_what_it_is_told_to_skip(self, store, db, tasks):
        skip, other = claimed(store, tasks), claimed(store, tasks)
        waiting, silent = created(store, tasks), created(store, tasks)
        by_foreigner(db, silent, "processing")
        pass_time(db, 3600)
        rescued = swept(store, tasks, skip=[skip["task_id"], waiting, silent])
        assert [task["task_id"] for task in rescued] == [other["task_id"]]

    @pytest.mark.parametrize("how", ["lost", "never claimed", "stale"])
    def test_a_row_that_cannot_be_settled_is_reported_and_the_others_are_settled(
        self, store, db, tasks, how
    ):
        ids = [created(store, tasks, priority=priority) for priority in (1, 13, 2)]
        for task_id in ids:
            if how == "lost":
                claimed_again(store, tasks, task_id)
            elif how == "stale":
                by_foreigner(db, task_id, "processing")
        pass_time(db, 3600)
        db.execute(
            "alter table public.tasks add constraint unlucky check (status <> 'failed' or priority <> 13)"
        )
        db.execute(
            "alter table public.tasks add constraint unlucky2 check (status <> 'pending' or priority <> 13) not valid"
        )
        try:
            answer = store.sweep(tasks, 500)
            assert {task["task_id"] for task in answer["rescued"]} == {ids[0], ids[2]}
            (bad,) = answer["unsweepable"]
            assert (bad["task_id"], bad["kind"], bad["code"]) == (ids[1], "image", "23514")
            assert "unlucky" in bad["error"]
            assert row(db, ids[1])["status"] == {"never claimed": "pending"}.get(how, "processing")
            assert len(attempts(db, ids[1])) == (how == "lost")
            assert store.sweep(tasks, 500, skip=[ids[1]])["unsweepable"] == []
        finally:
            db.execute("alter table public.tasks drop constraint unlucky, drop constraint unlucky2")
        assert [task["task_id"] for task in swept(store, tasks)] == [ids[1]]

    def test_even_in_batches_of_one_a_bad_row_does_not_stop_the_others(self, store, db, tasks):
        for priority in (13, 13, 1):
            created(store, tasks, priority=priority)
        pass_time(db, PENDING_FOR + 1)
        db.execute(
            "alter table public.tasks add constraint unlucky check (status <> 'failed' or priority <> 13)"
        )
        skip: list[str] = []
        try:
            while (batch := store.sweep(tasks, 1, skip=skip))["more"]:
                skip += [task["task_id"] for task in batch["unsweepable"]]
                assert len(skip) <= 2
        finally:
            db.execute("alter table public.tasks drop constraint unlucky")
        assert one(db, "select status from public.tasks where priority = 1")["status"] == "failed"

    @pytest.mark.parametrize("status", ["pending", "completed", "failed", "cancelled"])
    @pytest.mark.parametrize("kind", ["image", "once"])
    def test_a_task_that_somebody_moved_is_left_to_them_when_its_attempt_ends(
        self, store, db, tasks, kind, status
    ):
        attempt = claimed(store, tasks, kind)
        past_the_fence(db, attempt["task_id"], status=status)
        pass_time(db, LEASE + 1)
        before = row(db, attempt["task_id"])
        (rescued,) = swept(store, tasks)
        assert (rescued["state"], rescued["retry_after"]) == ("overtaken", None)
        assert row(db, attempt["task_id"]) == before
        assert [one["outcome"] for one in attempts(db, attempt["task_id"])] == ["overtaken"]

    def test_a_held_task_that_somebody_put_back_does_not_fail_as_never_claimed_before_its_attempt_ended(
        self, store, db, tasks
    ):
        attempt = claimed(store, tasks)
        put_back(db, attempt["task_id"])
        pass_time(db, PENDING_FOR + 1)
        db.execute(
            "update unstuck.attempts set lease_until = clock_timestamp() + lease, deadline_at = '9999-01-01'"
        )
        assert swept(store, tasks) == []
        pass_time(db, LEASE + 1)
        store.sweep(tasks, 500)
        store.sweep(tasks, 500)
        assert [one["outcome"] for one in attempts(db, attempt["task_id"])] == [
            "overtaken",
            "failed",
        ]
        put_back(db, attempt["task_id"])
        assert store.claim(tasks, None, "w")["verdict"] == "claimed"

    def test_two_sweeps_at_once_settle_each_task_once(self, store, db, tasks):
        wanted = {created(store, tasks) for _ in range(100)} | {
            claimed(store, tasks)["task_id"] for _ in range(100)
        }
        pass_time(db, PENDING_FOR + 1)

        def sweep() -> list[str]:
            found = []
            for _ in range(20):
                found += [task["task_id"] for task in store.sweep(tasks, 25)["rescued"]]
            return found

        rescued = [task_id for some in at_once(*[sweep] * 4) for task_id in some]
        assert sorted(rescued) == sorted(wanted)
        assert one(db, "select count(*) from unstuck.attempts")["count"] == 200

    def test_rows_that_somebody_has_locked_are_left_for_the_next_sweep(self, store, db, tasks):
        locked, other = claimed(store, tasks), claimed(store, tasks)
        pass_time(db, LEASE + 1)
        with db.transaction():
            db.execute("select from public.tasks where id = %s for update", (locked["task_id"],))
            assert [task["task_id"] for task in swept(store, tasks)] == [other["task_id"]]
        assert [task["task_id"] for task in swept(store, tasks)] == [locked["task_id"]]


class TestOrphans:
    def test_an_attempt_whose_task_was_deleted_ends_after_its_lease(self, store, db, tasks):
        gone, there = claimed(store, tasks), claimed(store, tasks)
        db.execute("delete from public.tasks where id = %s", (gone["task_id"],))
        assert (swept(store, tasks), store.orphans(tasks, 5)) == ([], 0)
        pass_time(db, LEASE + 1)
        assert store.orphans(tasks, 5) == 1
        (ended,) = attempts(db, gone["task_id"])
        assert (ended["outcome"], ended["error"], ended["sweep_id"]) == (
            "overtaken",
            "The task was deleted.",
            5,
        )
        assert attempts(db, there["task_id"])[0]["ended_at"] is None
        assert store.orphans(tasks, 6) == 0


class TestSuspend:
    def test_when_most_leases_run_out_at_once_each_gets_one_more_once(
        self, store, db, tasks, policy
    ):
        for _ in range(12):
            claimed(store, tasks)
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 12
        assert swept(store, tasks) == []
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 0
        rescued = swept(store, tasks)
        assert len(rescued) == 12
        assert {task["tries"] for task in rescued} == {1}

    def test_a_worker_that_beats_again_is_granted_the_next_one_too(self, store, db, tasks, policy):
        held = [claimed(store, tasks) for _ in range(10)]
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 10
        for attempt in held:
            store.beat(tasks, attempt["task_id"], attempt["token"])
        pass_time(db, LEASE + 1)
        assert store.suspend(tasks, policy) == 10

    @pytest.mark.parametrize(
        ("expired", "alive", "granted"), [(9, 0, 0), (10, 10, 0), (11, 10, 11), (10, 0, 10)]
    )
    def test_few_losses_are_the_workers_own(
        self, store, db, tasks, policy, expired, alive, granted
    ):
        for _ in range(expired):
            claimed(store, tasks)
        pass_time(db, LEASE + 1)
        for _ in range(alive):
            claimed(store, tasks)
        assert store.suspend(tasks, policy) == granted

    def test_a_deadline_is_not_put_off(self, store, db, tasks, policy):
        for _ in range(12):
            claimed(store, tasks, "hasty")
        pass_time(db, 81)
        assert store.suspend(tasks, policy) == 0
        assert len(swept(store, tasks)) == 12

    def test_watches_are_counted_apart(self, store, db, tasks, hooked, policy):
        for watch in [tasks] * 6 + [hooked] * 6:
            claimed(store, watch)
        pass_time(db, LEASE + 1)
        assert (store.suspend(tasks, policy), store.suspend(hooked, policy)) == (0, 0)


class TestRedispatch:
    def test_a_task_whose_push_seems_lost_is_sent_again_once_in_each_period(self, store, db, tasks):
        task_id = created(store, tasks)
        claimed(store, tasks)
        assert store.redispatch(tasks, 500) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        (sent,) = store.redispatch(tasks, 500)
        assert (sent["task_id"], sent["kind"], sent["times"]) == (task_id, "image", 1)
        assert REDISPATCH_AFTER + 1 <= sent["age"] <= REDISPATCH_AFTER + 1 + A_MOMENT
        assert store.redispatch(tasks, 500) == []
        pass_time(db, REDISPATCH_AFTER - 1)
        assert store.redispatch(tasks, 500) == []
        pass_time(db, 2)
        assert [again["times"] for again in store.redispatch(tasks, 500)] == [2]

    def test_after_a_long_silence_of_the_scheduler_a_task_is_sent_again_before_it_fails(
        self, store, db, tasks
    ):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        assert [sent["times"] for sent in store.redispatch(tasks, 500)] == [1]
        assert swept(store, tasks) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        assert store.redispatch(tasks, 500) == []
        assert [task["task_id"] for task in swept(store, tasks)] == [task_id]

    def test_the_same_goes_for_a_task_that_was_sent_again_before_an_earlier_try(
        self, store, db, tasks
    ):
        task_id = created(store, tasks)
        pass_time(db, REDISPATCH_AFTER + 1)
        store.redispatch(tasks, 500)
        pass_time(db, 1)
        settled(
            store, tasks, claimed_again(store, tasks, task_id), "retry", reason="transient", after=0
        )
        pass_time(db, PENDING_FOR + 1)
        assert [sent["times"] for sent in store.redispatch(tasks, 500)] == [2]
        assert swept(store, tasks) == []
        pass_time(db, REDISPATCH_AFTER + 1)
        assert store.redispatch(tasks, 500) == []
        assert [task["task_id"] for task in swept(store, tasks)] == [task_id]

    def test_each_kind_has_its_own_period(self, store, db, tasks):
        hasty, _ = created(store, tasks, "hasty"), created(store, tasks)
        pass_time(db, 21)
        assert [sent["task_id"] for sent in store.redispatch(tasks, 500)] == [hasty]

    def test_a_task_that_is_not_due_yet_is_not_sent(self, store, db, tasks):
        created(store, tasks, delay=3600)
        pass_time(db, 1800)
        assert store.redispatch(tasks, 500) == []

    def test_the_oldest_are_sent_first_and_the_others_next_time(self, store, db, tasks):
        wanted = []
        for _ in range(5):
            wanted.append(created(store, tasks))
            pass_time(db, 1)
        pass_time(db, REDISPATCH_AFTER)
        sent = [{task["task_id"] for task in store.redispatch(tasks, 2)} for _ in range(4)]
        assert sent == [set(wanted[:2]), set(wanted[2:4]), set(wanted[4:]), set()]


class TestStatus:
    def test_a_task_that_is_not_there_is_missing(self, store, tasks):
        assert store.status(tasks, NIL) == {"verdict": "missing"}

    def test_it_tells_the_state_at_each_step(self, store, tasks):
        task_id = created(store, tasks, owner="ann", delay=0)
        pending = store.status(tasks, task_id)
        assert (pending["verdict"], pending["state"], pending["word"]) == (
            "found",
            "pending",
            "pending",
        )
        assert (pending["kind"], pending["owner"], pending["due_in"]) == ("image", "ann", 0)
        assert (pending["attempt"], pending["overdue"], pending["rescued"]) == (None, False, [])
        attempt = claimed_again(store, tasks, task_id)
        running = store.status(tasks, task_id)
        assert (running["state"], running["word"], running["due_in"]) == (
            "running",
            "processing",
            None,
        )
        assert {
            name: running["attempt"][name]
            for name in ("number", "tries", "of", "worker", "outcome")
        } == {"number": 1, "tries": 1, "of": 3, "worker": "worker-1", "outcome": None}
        assert LEASE - A_MOMENT < running["attempt"]["lease_left"] <= LEASE
        settled(store, tasks, attempt, "complete", result={"n": 1})
        done = store.status(tasks, task_id)
        assert (done["state"], done["result"], done["error"]) == ("completed", {"n": 1}, None)
        assert (done["attempt"]["outcome"], done["attempt"]["lease_left"]) == ("completed", None)

    def test_it_tells_why_a_task_failed(self, store, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="handler_error", error="No.", detail="secret")
        failed = store.status(tasks, attempt["task_id"])
        assert (failed["state"], failed["reason"], failed["error"]) == (
            "failed",
            "handler_error",
            "No.",
        )
        assert "secret" not in str(failed)

    def test_it_tells_when_the_next_try_is_due(self, store, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "retry", reason="transient", after=60)
        waiting = store.status(tasks, attempt["task_id"])
        assert (waiting["state"], waiting["error"], waiting["reason"]) == ("pending", None, None)
        assert 60 - A_MOMENT < waiting["due_in"] <= 60
        assert (waiting["attempt"]["outcome"], waiting["attempt"]["reason"]) == (
            "retried",
            "transient",
        )

    def test_it_heals_an_attempt_that_is_overdue(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        found = store.status(tasks, attempt["task_id"])
        assert (found["state"], found["overdue"]) == ("pending", False)
        assert [task["reason"] for task in found["rescued"]] == ["lease_lost"]
        assert store.status(tasks, attempt["task_id"])["rescued"] == []

    def test_it_heals_a_task_that_nobody_claimed(self, store, db, tasks):
        task_id = created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        found = store.status(tasks, task_id)
        assert (found["state"], found["reason"]) == ("failed", "never_claimed")
        assert found["error"] == "No worker picked the task up in time."

    def test_it_heals_a_task_of_which_nothing_was_heard(self, store, db, tasks):
        task_id = created(store, tasks)
        by_foreigner(db, task_id, "processing")
        pass_time(db, SILENT_FOR + 1)
        assert store.status(tasks, task_id)["state"] == "pending"

    def test_it_heals_only_the_task_that_is_asked_for(self, store, db, tasks):
        mine, other = claimed(store, tasks), claimed(store, tasks)
        pass_time(db, LEASE + 1)
        store.status(tasks, mine["task_id"])
        assert attempts(db, other["task_id"])[0]["ended_at"] is None

    def test_without_healing_it_only_says_that_the_task_is_overdue(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        found = store.status(tasks, attempt["task_id"], heal=False)
        assert (found["state"], found["overdue"], found["rescued"]) == ("running", True, [])
        assert attempts(db, attempt["task_id"])[0]["ended_at"] is None

    def test_a_task_that_cannot_be_healed_is_still_told(self, store, db, tasks):
        task_id = created(store, tasks, priority=13)
        pass_time(db, PENDING_FOR + 1)
        db.execute(
            "alter table public.tasks add constraint unlucky check (status <> 'failed' or priority <> 13)"
        )
        try:
            found = store.status(tasks, task_id)
        finally:
            db.execute("alter table public.tasks drop constraint unlucky")
        assert (found["state"], found["overdue"], found["rescued"]) == ("pending", True, [])

    def test_eight_polls_at_once_heal_a_task_once(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        found = at_once(*[lambda: store.status(tasks, attempt["task_id"])] * 8)
        assert sum(len(one["rescued"]) for one in found) == 1
        assert [one["outcome"] for one in attempts(db, attempt["task_id"])] == ["retried"]


class TestOverview:
    def test_it_counts_what_is_open_overdue_and_ended(self, store, db, tasks, hooked):
        created(store, tasks)
        created(store, tasks, "hasty")
        pass_time(db, 100)
        settled(store, tasks, claimed(store, tasks), "complete")
        settled(store, tasks, claimed(store, tasks), "fail", reason="handler_error")
        store.settle(tasks, claimed(store, tasks)["task_id"], NIL, "complete")
        claimed(store, hooked)
        found = store.overview(tasks)
        counted = {(group["state"], group["kind"]): group["count"] for group in found["open"]}
        assert counted == {
            ("pending", "hasty"): 1,
            ("pending", "image"): 1,
            ("running", "image"): 1,
        }
        assert (
            100
            <= next(group["oldest"] for group in found["open"] if group["state"] == "pending")
            < 101
        )
        assert (found["live"], found["live_by_kind"], found["refused"]) == (1, {"image": 1}, 1)
        assert found["overdue"]["count"] == 1
        assert 40 <= found["overdue"]["oldest"] < 41
        ended = {(group["outcome"], group["reason"]): group["count"] for group in found["ended"]}
        assert ended == {("completed", None): 1, ("failed", "handler_error"): 1}

    def test_of_an_empty_table_it_tells_nothing(self, store, tasks):
        assert store.overview(tasks) == {
            "open": [],
            "live": 0,
            "live_by_kind": {},
            "overdue": {"count": 0, "oldest": None},
            "ended": [],
            "refused": 0,
            "last_sweep": None,
        }

    def test_it_shows_the_last_sweep(self, store, db, tasks):
        run = store.sweep_begin(None, "test", 45)["sweep_id"]
        store.sweep_end(run, ok=True, counts={"failed": 3})
        pass_time(db, 90)
        last = store.overview(tasks)["last_sweep"]
        assert (last["ok"], last["counts"]) == (True, {"failed": 3})
        assert 90 <= last["ago"] < 91


class TestLook:
    """What operators ask for: find, history and preview. They write nothing."""

    def found(self, store: Store, watch: Watch, **wanted: Any) -> list[str]:
        return [task["task_id"] for task in store.find(watch, wanted, 500)]

    def test_without_a_filter_the_open_tasks_are_found_in_the_order_of_their_keys(
        self, store, tasks
    ):
        waiting, held = created(store, tasks), claimed(store, tasks)["task_id"]
        settled(store, tasks, claimed(store, tasks), "complete")
        assert self.found(store, tasks) == sorted([waiting, held])

    def test_tasks_are_found_by_what_they_are_and_how_they_ended(self, store, db, tasks):
        old = created(store, tasks, "patient", owner="ann")
        pass_time(db, 1000)
        young = created(store, tasks, "image", owner="bob")
        failed = claimed(store, tasks)
        settled(store, tasks, failed, "fail", reason="handler_error", error="No.")
        lost = claimed(store, tasks, "once")
        pass_time(db, LEASE + 1)
        swept(store, tasks, sweep_id=42)
        assert self.found(store, tasks, ids=[old, failed["task_id"]]) == [old]
        assert self.found(store, tasks, ids=[failed["task_id"]], states=["failed"]) == [
            failed["task_id"]
        ]
        assert (
            self.found(store, tasks, kind="patient")
            == self.found(store, tasks, owner="ann")
            == [old]
        )
        assert self.found(store, tasks, owner="bob", kind="patient") == []
        assert self.found(store, tasks, states=["failed"], reason="handler_error") == [
            failed["task_id"]
        ]
        assert self.found(store, tasks, states=["failed"], sweep_id=42) == [lost["task_id"]]
        assert self.found(store, tasks, older_than=900) == [old]
        assert self.found(store, tasks, older_than=10) == sorted([old, young])
        assert self.found(store, tasks, ids=[]) == []

    def test_what_is_found_says_enough_to_act_on(self, store, db, tasks):
        attempt = claimed(store, tasks, owner="ann")
        pass_time(db, 10)
        (found,) = store.find(tasks, {}, 500)
        names = ("task_id", "state", "word", "kind", "owner", "number", "tries", "worker", "error")
        assert [found[name] for name in names] == [
            attempt["task_id"],
            "running",
            "processing",
            "image",
            "ann",
            1,
            1,
            "worker-1",
            None,
        ]
        assert 10 <= found["age"] <= 10 + A_MOMENT

    def test_many_are_read_page_by_page(self, store, tasks):
        wanted = sorted(created(store, tasks) for _ in range(5))
        pages, after = [], None
        while page := store.find(tasks, {}, 2, after):
            pages.append([task["task_id"] for task in page])
            after = pages[-1][-1]
        assert pages == [wanted[:2], wanted[2:4], wanted[4:]]

    def test_the_history_of_a_task_is_its_attempts(self, store, tasks):
        task_id = created(store, tasks)
        assert store.history(tasks, task_id) == []
        first = claimed_again(store, tasks, task_id)
        store.checkpoint(tasks, task_id, first["token"], "step", {"secret": 1})
        settled(
            store, tasks, first, "retry", reason="transient", error="Busy.", detail="503", after=0
        )
        claimed_again(store, tasks, task_id)
        history = store.history(tasks, task_id)
        names = ("number", "tries", "worker", "outcome", "reason", "error", "detail", "checkpoints")
        assert [[one[name] for name in names] for one in history] == [
            [1, 1, "worker-1", "retried", "transient", "Busy.", "503", ["step"]],
            [2, 2, "worker-1", None, None, None, None, ["step"]],
        ]
        assert "secret" not in str(history)

    def test_a_preview_is_what_the_next_sweep_does_and_does_it_not(self, store, db, tasks):
        assert store.preview(tasks, 500) == []
        claimed(store, tasks)
        claimed(store, tasks, "once")
        created(store, tasks)
        by_foreigner(db, created(store, tasks), "processing")
        pass_time(db, SILENT_FOR + 1)
        before = db.execute("select * from public.tasks order by id").fetchall()
        seen = store.preview(tasks, 500)
        assert db.execute("select * from public.tasks order by id").fetchall() == before
        same = ("task_id", "was", "state", "reason", "number", "tries")
        done = {tuple(task[name] for name in same) for task in swept(store, tasks)}
        assert {tuple(task[name] for name in same) for task in seen} == done
        assert len(done) == 4
        assert store.preview(tasks, 500) == []


class TestPrune:
    def test_what_is_old_and_ended_goes_and_the_rest_stays(self, store, db, tasks):
        old, held = claimed(store, tasks), claimed(store, tasks)
        settled(store, tasks, old, "complete")
        store.settle(tasks, old["task_id"], NIL, "complete")
        created(store, tasks)
        pass_time(db, REDISPATCH_AFTER + 1)
        store.redispatch(tasks, 500)
        store.sweep_end(store.sweep_begin("k1", "test", 45)["sweep_id"], ok=True, counts={})
        pass_time(db, 86_400)
        young = claimed(store, tasks)
        settled(store, tasks, young, "complete")
        assert store.prune(2 * 86_400) == 0
        assert store.prune(3600) == 1
        assert attempts(db, old["task_id"]) == []
        assert len(attempts(db, held["task_id"])) == len(attempts(db, young["task_id"])) == 1
        for table in ("sweeps", "refusals", "dispatches"):
            assert one(db, f"select count(*) from unstuck.{table}")["count"] == 0
        assert row(db, old["task_id"])["status"] == "completed"

    def test_a_prune_is_bounded(self, store, db, tasks):
        for _ in range(5):
            settled(store, tasks, claimed(store, tasks), "complete")
        pass_time(db, 3600)
        counts = [store.call("prune", {"p_keep": 60.0, "p_limit": 2}, 5.0) for _ in range(4)]
        assert counts == [2, 2, 1, 0]

    def test_numbers_go_on_where_they_were_while_a_later_attempt_is_kept(self, store, db, tasks):
        first = claimed(store, tasks)
        settled(store, tasks, first, "retry", reason="transient", after=0)
        pass_time(db, 3600)
        second = claimed_again(store, tasks, first["task_id"])
        settled(store, tasks, second, "retry", reason="transient", after=0)
        assert store.prune(1800) == 1
        third = claimed_again(store, tasks, first["task_id"])
        assert (third["number"], third["tries"]) == (3, 3)


class TestRun:
    def test_a_run_is_begun_and_ended(self, store, db):
        begun = store.sweep_begin("2026-01-01T00:00:00Z", "scheduler", 45)
        assert begun["verdict"] == "begun"
        store.sweep_end(begun["sweep_id"], ok=True, counts={"failed": 2})
        run = one(db, "select * from unstuck.sweeps")
        assert (run["id"], run["key"], run["by"]) == (
            begun["sweep_id"],
            "2026-01-01T00:00:00Z",
            "scheduler",
        )
        assert (run["ok"], run["counts"], run["error"]) == (True, {"failed": 2}, None)
        assert run["ended_at"] >= run["started_at"]

    def test_a_key_that_was_swept_is_a_duplicate(self, store):
        store.sweep_end(store.sweep_begin("k1", "test", 45)["sweep_id"], ok=True, counts={})
        assert store.sweep_begin("k1", "test", 45) == {"verdict": "duplicate"}
        assert store.sweep_begin("k2", "test", 45)["verdict"] == "begun"

    @pytest.mark.parametrize("key", ["k1", "k2", None])
    def test_while_a_run_is_at_it_no_other_begins(self, store, key):
        store.sweep_begin("k1", "test", 45)
        assert store.sweep_begin(key, "test", 45) == {"verdict": "running"}

    @pytest.mark.parametrize("key", ["k1", "k2", None])
    def test_a_run_that_died_is_replaced_after_its_budget(self, store, db, key):
        store.sweep_begin("k1", "test", 45)
        pass_time(db, 46)
        assert store.sweep_begin(key, "test", 45)["verdict"] == "begun"

    def test_a_run_that_failed_can_be_repeated_with_its_key(self, store, db):
        store.sweep_end(
            store.sweep_begin("k1", "test", 45)["sweep_id"],
            ok=False,
            counts={},
            error="no database",
        )
        assert store.sweep_begin("k1", "test", 45)["verdict"] == "begun"
        run = one(db, "select * from unstuck.sweeps")
        assert (run["ok"], run["ended_at"], run["error"]) == (None, None, None)

    def test_runs_without_a_key_are_never_duplicates(self, store):
        for _ in range(2):
            begun = store.sweep_begin(None, "test", 45)
            assert begun["verdict"] == "begun"
            store.sweep_end(begun["sweep_id"], ok=True, counts={})

    def test_of_eight_calls_with_one_key_at_once_one_begins(self, store):
        answers = at_once(*[lambda: store.sweep_begin("k1", "test", 45)] * 8)
        assert Counter(answer["verdict"] for answer in answers) == {"begun": 1, "running": 7}


class TestEvidence:
    def test_it_tells_once_why_a_worker_died_and_moves_nothing(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        run = store.sweep_begin("k1", "test", 45)["sweep_id"]
        told = {name: attempt[name] for name in ("task_id", "number")} | {
            "watch": "tasks",
            "cause": "out_of_memory",
            "evidence": "Cloud Run's log: 'ä'",
        }
        assert store.evidence(run, [told]) == 0, "it is still alive"
        swept(store, tasks, sweep_id=run)
        before = row(db, attempt["task_id"])
        assert store.evidence(run + 1, [told]) == 0, "another sweep ended it"
        assert store.evidence(run, [told]) == 1
        [known] = store.history(tasks, attempt["task_id"])
        assert (known["cause"], known["reason"], known["outcome"]) == (
            "out_of_memory",
            "lease_lost",
            "retried",
        )
        assert (
            known["evidence"]
            == store.status(tasks, attempt["task_id"])["attempt"]["evidence"]
            == "Cloud Run's log: 'ä'"
        )
        assert store.evidence(run, [told | {"cause": "crashed"}]) == 0, "a repetition"
        assert row(db, attempt["task_id"]) == before
        assert store.evidence(run, []) == 0


class TestFence:
    @pytest.mark.parametrize("ended", ["completed", "failed", "cancelled"])
    @pytest.mark.parametrize("wanted", ["pending", "processing", "completed", "failed"])
    def test_no_foreign_write_moves_a_task_that_ended(self, store, db, tasks, ended, wanted):
        task_id = created(store, tasks)
        by_foreigner(db, task_id, ended)
        moved = by_foreigner(db, task_id, wanted)
        assert (moved, row(db, task_id)["status"]) == (int(ended == wanted), ended)
        assert refusals(db, task_id) == ([] if ended == wanted else [("fence", wanted, "ended")])

    @pytest.mark.parametrize(
        "write",
        ["result = '{}'", "error_message = 'no'", "reason = null", "reason = 'x', metadata = '{}'"],
    )
    def test_no_foreign_write_changes_how_a_task_ended(self, store, db, tasks, write):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="handler_error")
        before = row(db, attempt["task_id"])
        assert db.execute(f"update public.tasks set {write} where status = 'failed'").rowcount == 0
        assert row(db, attempt["task_id"]) == before
        assert refusals(db, attempt["task_id"]) == [("fence", "failed", "ended")]

    def test_a_note_on_a_task_that_ended_passes_and_its_end_stays_dated(self, store, db, tasks):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "complete")
        before = row(db, attempt["task_id"])
        note = """update public.tasks set metadata = '{"seen": true}', finished_at = clock_timestamp() + interval '1 h'"""
        assert db.execute(note).rowcount == 1
        assert row(db, attempt["task_id"]) == before | {"metadata": {"seen": True}}
        assert refusals(db, attempt["task_id"]) == []

    @pytest.mark.parametrize("wanted", ["pending", "completed", "failed", "cancelled"])
    def test_no_foreign_write_ends_a_task_that_is_held(self, store, db, tasks, wanted):
        attempt = claimed(store, tasks)
        assert by_foreigner(db, attempt["task_id"], wanted) == 0
        assert refusals(db, attempt["task_id"]) == [("fence", wanted, "held")]
        settled(store, tasks, attempt, "complete")

    def test_what_was_refused_names_the_writer(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("set application_name = 'edge-function'")
        by_foreigner(db, attempt["task_id"], "failed")
        assert one(db, "select writer from unstuck.refusals")["writer"] == "edge-function"

    def test_a_worker_without_a_guard_may_run_a_task_of_its_own(self, store, db, tasks):
        task_id = created(store, tasks)
        for status in ("processing", "completed"):
            assert by_foreigner(db, task_id, status) == 1
        assert refusals(db, task_id) == []

    def test_other_columns_of_a_held_task_may_be_written(self, store, db, tasks):
        attempt = claimed(store, tasks)
        db.execute("update public.tasks set metadata = '{\"seen\": true}'")
        settled(store, tasks, attempt, "complete")
        assert row(db, attempt["task_id"])["metadata"] == {"seen": True}

    def test_one_refused_row_does_not_stop_the_others_of_a_statement(self, store, db, tasks):
        held, free = claimed(store, tasks)["task_id"], created(store, tasks)
        assert db.execute("update public.tasks set status = 'cancelled'").rowcount == 1
        assert [row(db, task_id)["status"] for task_id in (held, free)] == [
            "processing",
            "cancelled",
        ]

    @pytest.mark.parametrize("outcome", [None, "complete"])
    def test_deleting_is_allowed(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        if outcome:
            settled(store, tasks, attempt, outcome)
        assert db.execute("delete from public.tasks").rowcount == 1

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_a_settle_passes(self, store, db, tasks, outcome):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, outcome)
        assert row(db, attempt["task_id"])["status"] != "processing"
        assert refusals(db, attempt["task_id"]) == []

    def test_a_sweep_passes(self, store, db, tasks):
        held, waiting, silent = (
            claimed(store, tasks)["task_id"],
            created(store, tasks),
            created(store, tasks),
        )
        by_foreigner(db, silent, "processing")
        pass_time(db, 3600)
        assert len(swept(store, tasks)) == 3
        assert [row(db, one)["status"] for one in (held, waiting, silent)] == [
            "pending",
            "failed",
            "pending",
        ]


class TestHooks:
    @pytest.fixture
    def said(self, db: Db) -> Callable[[], list[tuple[Any, ...]]]:
        def said() -> list[tuple[Any, ...]]:
            found = db.execute("select * from public.said").fetchall()
            return [(one["hook"], one["task_id"], one["number"], one["what"]) for one in found]

        return said

    def test_each_is_called_once_with_the_task_and_its_attempt(self, store, hooked, said):
        attempt = claimed(store, hooked)
        task_id = attempt["task_id"]
        for _ in range(2):
            settled(store, hooked, attempt, "complete", result={"n": 1})
        assert said() == [
            ("created", task_id, None, None),
            ("completed", task_id, 1, '{"n": 1}'),
            ("ended", task_id, 1, None),
        ]

    def test_a_create_that_finds_a_task_calls_none(self, store, hooked, said):
        for _ in range(2):
            store.create(hooked, "image", {}, key="k1")
        assert len(said()) == 1

    def test_a_retry_calls_none_and_the_last_failure_one(self, store, hooked, said):
        task_id = created(store, hooked)
        for _ in range(3):
            settled(
                store,
                hooked,
                claimed_again(store, hooked, task_id),
                "retry",
                reason="transient",
                after=0,
            )
        assert said()[1:] == [("failed", task_id, 3, "transient_exhausted")]

    def test_a_sweep_calls_one_for_each_task_that_it_failed(self, store, db, hooked, said):
        lost, retried = claimed(store, hooked, "once")["task_id"], claimed(store, hooked)["task_id"]
        waiting = created(store, hooked)
        pass_time(db, PENDING_FOR + 1)
        assert len(swept(store, hooked)) == 3
        failed = {
            task_id: (number, what) for hook, task_id, number, what in said() if hook == "failed"
        }
        assert failed == {lost: (1, "attempts_exhausted"), waiting: (1, "never_claimed")}
        assert retried not in failed

    def test_a_task_that_somebody_moved_calls_none(self, store, db, hooked, said):
        swept_later, settled_later = claimed(store, hooked, "once"), claimed(store, hooked, "once")
        db.execute("alter table public.hooked disable trigger unstuck_fence")
        db.execute("update public.hooked set status = 'completed'")
        db.execute("alter table public.hooked enable trigger unstuck_fence")
        store.settle(hooked, settled_later["task_id"], settled_later["token"], "fail")
        pass_time(db, LEASE + 1)
        store.sweep(hooked, 500)
        assert {hook for hook, *_ in said()} == {"created"}
        assert attempts(db, swept_later["task_id"])[0]["outcome"] == "overtaken"

    def test_one_that_fails_takes_the_settle_back(self, store, db, hooked, said):
        attempt = claimed(store, hooked)
        with pytest.raises(StoreError, match="the hook refuses") as refused:
            store.settle(
                hooked, attempt["task_id"], attempt["token"], "complete", result={"refuse": True}
            )
        assert (refused.value.retryable, refused.value.code) == (False, "P0001")
        assert row(db, attempt["task_id"], "hooked")["status"] == "processing"
        assert attempts(db, attempt["task_id"])[0]["ended_at"] is None
        settled(store, hooked, attempt, "complete", result={})
        assert [hook for hook, *_ in said()] == ["created", "completed", "ended"]

    def test_one_that_fails_in_a_sweep_does_not_stop_the_others(self, store, db, hooked, said):
        bad = created(store, hooked, metadata={"refuse": True})
        good = [created(store, hooked) for _ in range(3)]
        pass_time(db, PENDING_FOR + 1)
        answer = store.sweep(hooked, 500)
        assert {task["task_id"] for task in answer["rescued"]} == set(good)
        assert [(task["task_id"], task["code"]) for task in answer["unsweepable"]] == [
            (bad, "P0001")
        ]
        assert Counter(hook for hook, *_ in said()) == {"created": 4, "failed": 3}
        assert row(db, bad, "hooked")["status"] == "pending"

    def test_what_a_person_does_calls_one_for_each_task_that_moved(self, store, hooked, said):
        held, waiting = claimed(store, hooked)["task_id"], created(store, hooked)
        for _ in range(2):
            store.operate(hooked, "cancel", [held])
            store.operate(hooked, "fail", [waiting])
        for _ in range(2):
            store.operate(hooked, "retry", [held, waiting])
        assert Counter(said()) == {
            ("created", held, None, None): 1,
            ("created", waiting, None, None): 1,
            ("cancelled", held, 1, "cancelled"): 1,
            ("failed", waiting, 1, "by_hand"): 1,
            ("reopened", held, None, None): 1,
            ("reopened", waiting, None, None): 1,
        }

    def test_one_that_refuses_a_task_says_why_and_with_which_status(self, store, db, hooked, said):
        with pytest.raises(StoreError) as refused:
            store.create(hooked, "image", {}, metadata={"dear": True})
        assert (refused.value.code, refused.value.retryable) == ("PT402", False)
        assert str(refused.value) == "hooked_create: It costs too much."
        assert said() == db.execute("select from public.hooked").fetchall() == []

    def test_a_task_is_not_opened_again_when_a_hook_refuses(self, store, db, hooked, said):
        task_id = created(store, hooked, metadata={"closed": True})
        store.operate(hooked, "cancel", [task_id])
        with pytest.raises(StoreError, match="the hook refuses"):
            store.operate(hooked, "retry", [task_id])
        assert row(db, task_id, "hooked")["status"] == "cancelled"
        assert [hook for hook, *_ in said()] == ["created", "cancelled"]

    def test_a_batch_calls_them_in_the_order_of_the_owners(self, store, db, hooked, said):
        owners = {created(store, hooked, owner=owner): owner for owner in ("d", "a", "c", "b")}
        pass_time(db, PENDING_FOR + 1)
        store.sweep(hooked, 500)
        store.operate(hooked, "retry", list(owners))
        store.operate(hooked, "cancel", list(owners))
        for hook in ("failed", "reopened", "cancelled"):
            assert [owners[task_id] for name, task_id, *_ in said() if name == hook] == [
                "a",
                "b",
                "c",
                "d",
            ]

    def test_each_run_of_the_sweep_calls_one(self, store, hooked, tasks, said):
        for watch in (hooked, tasks):
            store.orphans(watch, store.sweep_begin(None, "test", 0.0)["sweep_id"])
        assert said() == [("swept", "-", None, None)]


class TestOutbox:
    """What people are to be told of: the tasks that a sweep failed, where the watch says `notify`."""

    def failed(self, store: Store, db: Db, watch: Watch, count: int) -> list[str]:
        task_ids = sorted(created(store, watch) for _ in range(count))
        pass_time(db, PENDING_FOR + 1)
        swept(store, watch)
        return task_ids

    def test_a_message_tells_of_all_that_waits_and_is_taken_once(self, store, db, hooked):
        task_ids = self.failed(store, db, hooked, 2)
        message = store.outbox_take(60)
        assert sorted(task["task_id"] for task in message["tasks"]) == task_ids
        assert {(task["watch"], task["kind"], task["reason"]) for task in message["tasks"]} == {
            ("hooked", "image", "never_claimed")
        }
        assert store.outbox_take(60) is None

    def test_one_that_was_not_sent_comes_again_with_its_name_and_one_that_was_does_not(
        self, store, db, hooked
    ):
        self.failed(store, db, hooked, 1)
        first = store.outbox_take(60)
        store.outbox_end(first["message"], "the receiver answered 503", 30)
        pass_time(db, 31)
        again = store.outbox_take(60)
        assert (again["message"], again["times"]) == (first["message"], 2)
        for _ in range(2):
            store.outbox_end(first["message"])
        pass_time(db, 3600)
        assert store.outbox_take(60) is None

    def test_one_that_is_given_up_does_not_come_again(self, store, db, hooked):
        self.failed(store, db, hooked, 1)
        store.outbox_end(store.outbox_take(60)["message"], "the receiver answered 404")
        pass_time(db, 3600)
        assert store.outbox_take(60) is None
        assert db.execute("select outcome, error from unstuck.outbox").fetchone() == {
            "outcome": "given up",
            "error": "the receiver answered 404",
        }

    def test_a_watch_without_notify_and_a_worker_s_own_failure_tell_nobody(
        self, store, db, tasks, hooked
    ):
        settled(store, hooked, claimed(store, hooked), "fail")
        self.failed(store, db, tasks, 1)
        assert store.outbox_take(60) is None


class TestAdoptedTable:
    """A table that was there before: its own words, many to one, a number as its key, and clocks
    that may be empty."""

    def add(self, db: Db, state: str = "queued") -> str:
        return str(
            one(db, 'insert into public."Media Jobs" ("State") values (%s) returning "Job"', state)[
                "Job"
            ]
        )

    def state(self, db: Db, task_id: str) -> str:
        return str(
            one(db, 'select "State" from public."Media Jobs" where "Job" = %s', task_id)["State"]
        )

    @pytest.mark.parametrize("given", [True, False])
    @pytest.mark.parametrize("word", ["queued", "waiting"])
    def test_it_is_claimed_and_settled_in_its_own_words(self, store, db, jobs, word, given):
        task_id = self.add(db, word)
        attempt = claimed_again(store, jobs, task_id if given else None)
        assert (attempt["task_id"], attempt["kind"]) == (task_id, "render")
        assert attempt["input"]["Job"] == int(task_id)
        assert self.state(db, task_id) == "rendering"
        settled(store, jobs, attempt, "complete", result={})
        assert self.state(db, task_id) == "done"

    def test_a_worker_may_go_on_to_another_word_for_running(self, store, db, jobs):
        attempt = claimed_again(store, jobs, self.add(db))
        db.execute("""update public."Media Jobs" set "State" = 'uploading'""")
        assert store.claim(jobs, attempt["task_id"], "w")["verdict"] == "held"
        settled(store, jobs, attempt, "complete")

    def test_a_task_that_rests_is_neither_claimed_nor_swept(self, store, db, jobs):
        task_id = self.add(db, "paused")
        pass_time(db, 10 * 86_400)
        assert store.claim(jobs, task_id, "w")["verdict"] == "resting"
        assert (store.claim(jobs, None, "w")["verdict"], swept(store, jobs)) == ("none", [])
        found = store.status(jobs, task_id)
        assert (found["state"], found["word"], found["overdue"]) == ("resting", "paused", False)

    def test_it_is_swept_by_the_first_clock_that_is_set(self, store, db, jobs):
        waiting, silent = self.add(db), self.add(db, "uploading")
        pass_time(db, 901)
        db.execute("""update public."Media Jobs" set queued_at = now(), touched_at = now()""")
        assert swept(store, jobs) == []
        db.execute("""update public."Media Jobs" set queued_at = null, touched_at = null""")
        assert {task["task_id"] for task in swept(store, jobs)} == {waiting, silent}
        assert (self.state(db, waiting), self.state(db, silent)) == ("broken", "queued")

    def test_the_reason_is_kept_in_the_ledger_where_the_table_has_no_column(self, store, db, jobs):
        task_id = self.add(db)
        pass_time(db, 901)
        found = store.status(jobs, task_id)
        assert (found["state"], found["word"], found["reason"]) == (
            "failed",
            "broken",
            "never_claimed",
        )
        assert found["error"] == "No worker picked the task up in time."


class TestLostAnswers:
    """A verb that was done but whose answer never came is repeated by the store, and does no harm."""

    @pytest.fixture
    def forgetful(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
        really, lost = store.call, set()

        def call(function: str, arguments: dict[str, Any], limit: float) -> Any:
            answer = really(function, arguments, limit)
            if function not in lost:
                lost.add(function)
                raise StoreError("the connection broke", retryable=True)
            return answer

        monkeypatch.setattr(store, "call", call)
        return store

    def test_a_task_is_created_once(self, forgetful, db, tasks):
        task_id = forgetful.create(tasks, "image", {}, key="k1")["task_id"]
        assert str(one(db, "select id from public.tasks")["id"]) == task_id

    @pytest.mark.parametrize("given", [True, False])
    def test_a_task_is_claimed_once(self, forgetful, db, tasks, given):
        task_ids = [forgetful.create(tasks, "image", {})["task_id"] for _ in range(2)]
        attempt = forgetful.claim(tasks, task_ids[0] if given else None, "w")
        assert (attempt["verdict"], attempt["task_id"]) == ("claimed", task_ids[0])
        assert str(one(db, "select token from unstuck.attempts")["token"]) == attempt["token"]

    @pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
    def test_an_attempt_beats_checks_in_and_is_settled_once(self, forgetful, db, tasks, outcome):
        attempt = forgetful.claim(tasks, forgetful.create(tasks, "image", {})["task_id"], "w")
        assert forgetful.beat(tasks, attempt["task_id"], attempt["token"])["verdict"] == "held"
        assert (
            forgetful.checkpoint(tasks, attempt["task_id"], attempt["token"], "step", 1)["verdict"]
            == "held"
        )
        settled(forgetful, tasks, attempt, outcome, reason="shutdown")
        assert len(attempts(db, attempt["task_id"])) == 1
        assert refusals(db, attempt["task_id"]) == []

    def test_a_run_begins_and_ends_once(self, forgetful, db):
        begun = forgetful.sweep_begin("k1", "test", 45)
        assert begun == {
            "verdict": "begun",
            "sweep_id": one(db, "select id from unstuck.sweeps")["id"],
        }
        assert forgetful.sweep_begin("k2", "test", 45) == {"verdict": "running"}
        forgetful.sweep_end(begun["sweep_id"], ok=True, counts={})
        assert forgetful.sweep_begin("k1", "test", 45) == {"verdict": "duplicate"}

    def test_each_task_of_a_batch_is_reported_once(self, forgetful, db, tasks):
        requeued, *failed = (forgetful.create(tasks, "image", {})["task_id"] for _ in range(5))
        forgetful.claim(tasks, requeued, "w")
        pass_time(db, PENDING_FOR + 1)
        run, said = forgetful.sweep_begin(None, "test", 45)["sweep_id"], []
        while True:
            batch = forgetful.sweep(tasks, 2, sweep_id=run)
            said += [
                (task["task_id"], task["state"], task["number"], task["reason"])
                for task in batch["rescued"]
            ]
            if not batch["more"]:
                break
        assert sorted(said) == sorted(
            [
                (requeued, "pending", 1, "deadline"),
                *((one, "failed", 1, "never_claimed") for one in failed),
            ]
        )

    @pytest.mark.parametrize("action", ["requeue", "cancel", "fail"])
    def test_what_a_person_did_is_done_once(self, forgetful, db, tasks, action):
        task_id = forgetful.create(tasks, "image", {})["task_id"]
        forgetful.claim(tasks, task_id, "w")
        assert forgetful.operate(tasks, action, [task_id]) == [task_id]
        assert len(attempts(db, task_id)) == 1


class TestBadInput:
    def test_a_task_id_that_is_none_is_refused(self, store, tasks):
        created(store, tasks)
        for verb in (
            lambda: store.claim(tasks, "not a uuid", "w"),
            lambda: store.status(tasks, "1"),
        ):
            with pytest.raises(StoreError, match="invalid input syntax for type uuid") as refused:
                verb()
            assert not refused.value.retryable

    def test_a_task_id_that_is_none_is_not_swept(self, store, db, tasks):
        created(store, tasks)
        pass_time(db, PENDING_FOR + 1)
        with suppress(StoreError):  # whether it is looked at depends on the plan
            assert swept(store, tasks, task_id="' or true --") == []
        assert len(swept(store, tasks)) == 1

    def test_a_token_that_is_none_is_refused(self, store, tasks):
        attempt = claimed(store, tasks)
        with pytest.raises(StoreError, match="invalid input syntax for type uuid") as refused:
            store.beat(tasks, attempt["task_id"], "no token")
        assert not refused.value.retryable

    @pytest.mark.parametrize(
        "text",
        [
            "'); drop table public.tasks; --",
            "%s %(x)s {x} @table@",
            "\\'\"$1 $$",
            "😀 äß 漢字",
            " ",
        ],
    )
    def test_texts_are_kept_to_the_letter(self, store, db, tasks, text):
        answer = store.create(
            tasks, text, {text: [text]}, owner=text, key=text, metadata={text: text}
        )
        attempt = store.claim(tasks, None, text, [text])
        store.checkpoint(tasks, answer["task_id"], attempt["token"], text, text)
        store.beat(tasks, answer["task_id"], attempt["token"], {text: text})
        settled(store, tasks, attempt, "fail", reason=text, error=text, detail=text, result=text)
        found, (ended,) = row(db, answer["task_id"]), attempts(db, answer["task_id"])
        assert (found["kind"], found["input"], found["owner"]) == (text, {text: [text]}, text)
        assert (found["idempotency_key"], found["metadata"]) == (text, {text: text})
        assert (found["error_message"], ended["detail"], ended["worker"]) == (text, text, text)
        assert (ended["checkpoint"], ended["progress"]) == ({text: text}, {text: text})

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
    def test_what_postgresql_cannot_store_is_refused_for_good(self, store, tasks, text):
        attempt = claimed(store, tasks)
        for verb in (
            lambda: store.create(tasks, text, {}),
            lambda: store.create(tasks, "image", {"x": text}),
            lambda: store.settle(
                tasks, attempt["task_id"], attempt["token"], "complete", result=[text]
            ),
        ):
            with pytest.raises(StoreError) as refused:
                verb()
            assert not refused.value.retryable

    def test_a_number_that_is_not_json_is_refused_for_good(self, store, tasks):
        attempt = claimed(store, tasks)
        with pytest.raises(StoreError) as refused:
            store.settle(
                tasks, attempt["task_id"], attempt["token"], "complete", result={"x": float("nan")}
            )
        assert not refused.value.retryable

    @pytest.mark.parametrize("text", ["a\0b", "a\udce4b"])
    def test_whatever_an_exception_says_the_task_ends(self, store, db, tasks, text):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="handler_error", error=text, detail=text)
        assert row(db, attempt["task_id"])["error_message"] == "a\ufffdb"

    def test_large_things_are_carried(self, store, db, tasks):
        large = {"x": "y" * 1_000_000}
        task_id = store.create(tasks, "image", large)["task_id"]
        attempt = claimed_again(store, tasks, task_id)
        assert attempt["input"] == large
        settled(store, tasks, attempt, "complete", result=large)
        assert store.status(tasks, task_id)["result"] == large


class TestDatabase:
    @pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
    def test_when_it_is_away_a_call_says_so_within_its_limit(self, away, tasks):
        store = away(free_port())
        with pytest.raises(StoreError):
            store.beat(tasks, NIL, NIL, limit=0.1)  # the first one loads the client
        begun = time.monotonic()
        with pytest.raises(StoreError) as refused:
            store.beat(tasks, NIL, NIL, limit=0.5)
        assert refused.value.retryable
        assert time.monotonic() - begun < 0.5 + A_MOMENT

    def test_a_function_that_is_not_there_asks_for_a_migration(self, store, tasks: Watch):
        unknown = replace(tasks, name="nowhere")
        with pytest.raises(StoreError, match=r"functions migrate .*--apply") as refused:
            store.status(unknown, NIL)
        assert not refused.value.retryable

    def test_a_refused_call_does_not_spoil_the_next(self, store, tasks, policy: Policy):
        for _ in range(3):
            with pytest.raises(StoreError):
                pytest.fail(f"answered {store.status(tasks, 'no id')}")
            assert store.suspend(tasks, policy) == 0
