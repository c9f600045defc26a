"""Answers are made from JSON in one place, and say what does not fit."""

import pickle

import pytest

from functions.core import answers
from functions.core.record import plain
from functions.core.states import State
from functions.errors import StoreError
from functions.store import reader
from functions.store.reader import read, read_one_of

RESCUED = {
    "task_id": "1",
    "kind": "image",
    "number": 1,
    "tries": 1,
    "worker": None,
    "state": "pending",
    "reason": "lease_lost",
    "cause": "lease_lost",
    "error": None,
    "retry_after": 2.5,
    "late": 1,
}


def test_a_field_that_is_not_known_is_ignored():
    held = read(answers.Held, {"verdict": "held", "since": 5})
    assert vars(held) == {"verdict": "held"}


def test_the_order_of_the_database_is_seen_in_no_record():
    data = RESCUED | {"was": None, "live": None}
    record = read(answers.Rescued, data)
    other = read(answers.Rescued, dict(reversed(data.items())))
    assert (record, hash(record)) == (other, hash(other))
    assert list(plain(other)) == list(answers.Rescued.field_types)


def test_a_class_that_another_thread_reads_at_the_same_time_is_known_whole(monkeypatch):
    class Seen(dict):
        def __setitem__(self, answer, converters):
            super().__setitem__(answer, converters)
            assert read(answers.Rescued, RESCUED | {"was": None, "live": None}).late == 1

    monkeypatch.setattr(reader, "_made", Seen())
    monkeypatch.setattr(reader, "_needed", {})
    assert read(answers.Rescued, RESCUED).task_id == "1"


def test_a_missing_field_is_named():
    with pytest.raises(StoreError, match="SweepBegun lacks `sweep_id`") as error:
        read(answers.SweepBegun, {"verdict": "begun"})
    assert not error.value.retryable


def test_an_answer_that_is_no_object_is_an_error():
    with pytest.raises(StoreError, match="Held is None"):
        read(answers.Held, None)


def test_an_unknown_verdict_is_an_error():
    with pytest.raises(StoreError, match="hold"):
        read_one_of({"verdict": "hold"}, answers.Held, answers.Lost)


def test_an_unknown_state_is_named():
    with pytest.raises(StoreError, match="AlreadyEnded has 'finished', which is no State"):
        read(answers.AlreadyEnded, {"task_id": "1", "state": "finished"})


def test_the_verdict_chooses_the_class():
    lost = read_one_of({"verdict": "lost", "outcome": None}, answers.Held, answers.Lost)
    assert lost == answers.Lost()


def test_records_in_a_record_are_made_too_and_are_json_again():
    data = {"rescued": [RESCUED], "unsweepable": [], "more": False}
    batch = read(answers.Batch, data)
    assert batch.rescued[0].state is answers.RescuedState.PENDING
    assert plain(batch) == data | {"rescued": [RESCUED | {"was": None, "live": None}]}


def test_null_stays_null():
    created = {"task_id": "1", "state": "pending", "rescued": None}
    assert read(answers.Created, created) == answers.Created("1", State.PENDING)


def test_a_record_does_not_change():
    held = answers.Held()
    with pytest.raises(AttributeError, match=r"Held\.verdict cannot be changed"):
        held.verdict = "lost"


def test_a_record_needs_all_its_fields():
    with pytest.raises(AttributeError, match="sweep_id"):
        answers.SweepBegun()


def test_a_record_travels_between_processes():
    lost = answers.Lost(number=2)
    assert pickle.loads(pickle.dumps(lost)) == lost
