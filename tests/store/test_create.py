"""Create over each store."""

from collections import Counter
from uuid import uuid4

import pytest

from functions.core.answers import Created, Exists
from functions.core.policy import Json
from functions.core.states import State
from functions.errors import StoreError
from tests.sql import pass_time
from tests.store.steps import at_once, claimed, created, one, row, settled


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
        found = row(db, answer.task_id)
        assert answer == Created(str(found["id"]), State.PENDING)
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
        assert again == Exists(first.task_id, State.PENDING)
        assert one(db, "select count(*) from public.tasks")["count"] == 1

    def test_the_same_key_without_an_owner_finds_the_task_too(self, store, tasks):
        first = store.create(tasks, "image", {"n": 1}, key="k1")
        assert store.create(tasks, "image", {"n": 1}, key="k1").task_id == first.task_id

    @pytest.mark.parametrize(("kind", "task_input"), [("image", {"n": 2}), ("once", {"n": 1})])
    def test_the_same_key_for_another_task_is_a_conflict(self, store, tasks, kind, task_input):
        first = store.create(tasks, "image", {"n": 1}, key="k1")
        answer = store.create(tasks, kind, task_input, key="k1")
        assert (answer.verdict, answer.task_id) == ("conflict", first.task_id)

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
        assert (other.verdict, other.task_id != first.task_id) == ("created", True)

    def test_a_key_outlives_the_end_of_its_task(self, store, tasks):
        attempt = claimed(store, tasks, key="k1")
        settled(store, tasks, attempt, "complete")
        answer = store.create(tasks, "image", {}, key="k1")
        assert answer == Exists(attempt.task_id, State.COMPLETED)

    def test_a_create_whose_answer_was_lost_can_be_repeated(self, store, db, tasks):
        wanted = {"p_kind": "image", "p_input": Json('{"n": 1}'), "p_id": str(uuid4())}
        answers = [store.call("tasks_create", dict(wanted), 5.0) for _ in range(3)]
        assert [answer["verdict"] for answer in answers] == ["created", "exists", "exists"]
        assert {answer["task_id"] for answer in answers} == {wanted["p_id"]}
        assert one(db, "select count(*) from public.tasks")["count"] == 1

    def test_a_delayed_task_is_not_due_before_its_time(self, store, db, tasks):
        task_id = created(store, tasks, delay=60)
        assert store.claim(tasks, None, "w").verdict == "none"
        pass_time(db, 61)
        assert store.claim(tasks, None, "w").task_id == task_id

    def test_eight_creates_with_one_key_at_once_make_one_task(self, store, tasks):
        answers = at_once(*[lambda: store.create(tasks, "image", {}, key="k1")] * 8)
        assert Counter(answer.verdict for answer in answers) == {"created": 1, "exists": 7}
        assert len({answer.task_id for answer in answers}) == 1
