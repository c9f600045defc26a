"""BadInput over each store."""

from contextlib import suppress

import pytest

from functions.errors import StoreError
from tests.sql import pass_time
from tests.store.steps import (
    PENDING_FOR,
    attempts,
    claimed,
    claimed_again,
    created,
    one,
    row,
    settled,
    swept,
)


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
            store.beat(tasks, attempt.task_id, "no token")
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
        store.checkpoint(tasks, answer.task_id, attempt.token, text, text)
        store.beat(tasks, answer.task_id, attempt.token, {text: text})
        settled(store, tasks, attempt, "fail", reason=text, error=text, detail=text, result=text)
        found, (ended,) = row(db, answer.task_id), attempts(db, answer.task_id)
        assert (found["kind"], found["input"], found["owner"]) == (text, {text: [text]}, text)
        assert (found["idempotency_key"], found["metadata"]) == (text, {text: text})
        assert (found["error_message"], ended["detail"], ended["worker"]) == (text, text, text)
        assert ended["progress"] == {text: text}
        checkpoint = one(db, "select * from unstuck.checkpoints where task_id = %s", answer.task_id)
        assert (checkpoint["name"], checkpoint["data"]) == (text, text)

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
    def test_what_postgresql_cannot_store_is_refused_for_good(self, store, tasks, text):
        attempt = claimed(store, tasks)
        for verb in (
            lambda: store.create(tasks, text, {}),
            lambda: store.create(tasks, "image", {"x": text}),
            lambda: store.settle(tasks, attempt.task_id, attempt.token, "complete", result=[text]),
        ):
            with pytest.raises(StoreError) as refused:
                verb()
            assert not refused.value.retryable

    def test_a_number_that_is_not_json_is_refused_for_good(self, store, tasks):
        attempt = claimed(store, tasks)
        with pytest.raises(StoreError) as refused:
            store.settle(
                tasks, attempt.task_id, attempt.token, "complete", result={"x": float("nan")}
            )
        assert not refused.value.retryable

    @pytest.mark.parametrize("text", ["a\0b", "a\udce4b"])
    def test_whatever_an_exception_says_the_task_ends(self, store, db, tasks, text):
        attempt = claimed(store, tasks)
        settled(store, tasks, attempt, "fail", reason="handler_error", error=text, detail=text)
        assert row(db, attempt.task_id)["error_message"] == "a\ufffdb"

    def test_large_things_are_carried(self, store, db, tasks):
        large = {"x": "y" * 1_000_000}
        task_id = store.create(tasks, "image", large).task_id
        attempt = claimed_again(store, tasks, task_id)
        assert attempt.input == large
        settled(store, tasks, attempt, "complete", result=large)
        assert store.status(tasks, task_id).result == large
