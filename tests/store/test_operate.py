"""Many tasks in one call: what a bad row and a database that goes away do to the others."""

from functions.core.policy import load
from functions.errors import StoreError
from functions.store.operate import operate
from functions.store.verbs import Store

WATCH = load().watch()


class RefusingStore(Store):
    """Moves tasks, but none in a call that names the task of an error."""

    def __init__(self, errors):
        self.errors, self.calls = errors, []

    def call(self, function, arguments, limit):
        raise NotImplementedError

    def operate(self, watch, action, task_ids, error=None):
        self.calls.append(task_ids)
        for task_id in task_ids:
            if task_id in self.errors:
                raise self.errors[task_id]
        return task_ids


def refused(refusals):
    return [(refusal.task_id, str(refusal.error)) for refusal in refusals]


def test_all_tasks_move_in_one_call():
    store = RefusingStore({})
    assert operate(store, WATCH, "retry", ["a", "b"]) == (["a", "b"], [])
    assert store.calls == [["a", "b"]]


def test_a_row_that_the_database_refuses_does_not_stop_the_others():
    store = RefusingStore({"b": StoreError("a trigger says no", retryable=False)})
    moved, refusals = operate(store, WATCH, "retry", ["a", "b", "c"])
    assert moved == ["a", "c"]
    assert refused(refusals) == [("b", "a trigger says no")]


def test_once_the_database_is_away_the_rest_is_refused_without_a_call():
    no, away = StoreError("no", retryable=False), StoreError("away", retryable=True)
    store = RefusingStore({"b": no, "c": away})
    moved, refusals = operate(store, WATCH, "retry", ["a", "b", "c", "d"])
    assert moved == ["a"]
    assert refused(refusals) == [("b", "no"), ("c", "away"), ("d", "away")]
    assert ["d"] not in store.calls
