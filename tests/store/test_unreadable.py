"""JSON that PostgreSQL keeps and Python does not read stops neither a worker nor a status."""

import json

import pytest

from functions.core.answers import Claimed, ClaimRefusal, Held, Lost, QuietTask
from functions.errors import StoreError
from functions.store import deep
from functions.store.reader import read_all, read_one_of
from functions.worker.claim import claim
from tests.store.steps import claimed_again, created, one

DEEP = "[" * 3000 + "]" * 3000
TEXTS = {"deep": DEEP, "object": '{"a":' * 3000 + "1" + "}" * 3000, "digits": "9" * 5000}
UNREADABLE = json.dumps(deep.UNREADABLE)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_task_whose_input_cannot_be_read_fails_once_and_the_next_one_is_taken(
    store, db, tasks, text
):
    broken, sound = created(store, tasks, priority=9), created(store, tasks)
    db.execute("update tasks set input = %s::jsonb where id = %s", (text, broken))
    answer = claim(store, tasks, None, worker="w")
    assert (answer.verdict, answer.task_id) == (ClaimRefusal.ENDED, broken)
    ended = one(db, "select status, error_message from tasks where id = %s", broken)
    assert (ended["status"], ended["error_message"]) == ("failed", "The input cannot be read.")
    assert claimed_again(store, tasks, None).task_id == sound


def test_a_result_that_cannot_be_read_is_shown_without_what_lies_too_deep(store, db, tasks):
    task_id = created(store, tasks)
    db.execute("update tasks set result = %s::jsonb where id = %s", (f'{{"a": {DEEP}}}', task_id))
    assert deep.UNREADABLE in json.dumps(store.status(tasks, task_id).result)


def test_a_checkpoint_that_cannot_be_read_ends_the_task_too(store, db, tasks):
    task_id = created(store, tasks)
    attempt = claimed_again(store, tasks, task_id)
    store.checkpoint(tasks, task_id, attempt.token, "step", {})
    db.execute("update unstuck.checkpoints set data = %s::jsonb", (DEEP,))
    store.settle(tasks, task_id, attempt.token, "retry", after=0)
    assert claim(store, tasks, task_id, worker="w").verdict == ClaimRefusal.ENDED
    assert one(db, "select status from tasks where id = %s", task_id)["status"] == "failed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f'{{"a": {"9" * 5000}, "b": -{"1" * 4500}.5}}',
            f'{{"a": {UNREADABLE}, "b": {UNREADABLE}}}',
        ),
        (f'["{"9" * 5000}", 12]', f'["{"9" * 5000}", 12]'),
        (r'["\"[[", "\\", "]"]', r'["\"[[", "\\", "]"]'),
    ],
)
def test_texts_and_short_numbers_stay_as_they_are(text: str, expected: str) -> None:
    assert deep._cut(text) == expected


def test_what_is_nested_less_deeply_stays_whole_and_the_rest_is_one_text() -> None:
    levels = deep.MOST_LEVELS
    text = "[" * (levels + 3) + "1" + "]" * (levels + 3)
    assert deep._cut(text) == "[" * levels + UNREADABLE + "]" * levels
    beside = f'[{DEEP}, {{"k": [1, 2]}}, {DEEP}]'
    answer = deep.loads(beside)
    assert answer[1] == {"k": [1, 2]}
    assert deep.UNREADABLE in json.dumps(answer[2])
    for text, message in {"[[1": "Expecting", "[" * 100_000: "not JSON"}.items():
        with pytest.raises(ValueError, match=message):
            deep.loads(text)


@pytest.mark.parametrize("answer", [5, True, "text", [{"verdict": "held"}], {"verdict": "other"}])
def test_an_answer_of_another_shape_is_an_error_of_the_store(answer: object) -> None:
    """A gateway may answer 200 with anything."""
    with pytest.raises(StoreError, match="another release"):
        read_one_of(answer, Held, Lost)
    if not isinstance(answer, list):
        with pytest.raises(StoreError, match="another release"):
            read_all(QuietTask, answer)
    assert Claimed.is_readable
