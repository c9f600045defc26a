"""Pace over each store: whether more tasks come than are taken, with the numbers."""

from functions.core.record import plain
from tests.sql import pass_time
from tests.store.steps import created


def take(store, tasks):
    return store.claim(tasks, None, "worker")


class TestPace:
    def test_it_counts_what_came_and_what_was_taken_in_the_last_minutes(self, store, db, tasks):
        for _ in range(2):
            created(store, tasks)
        taken = take(store, tasks)
        store.settle(tasks, taken.task_id, taken.token, "complete")
        pass_time(db, 700)
        for _ in range(3):
            created(store, tasks)
        take(store, tasks)
        pass_time(db, 30)
        [pace] = store.pace(tasks)
        assert (pace.kind, pace.waiting, pace.came, pace.taken) == ("image", 3, 3, 1)
        assert 30 <= pace.oldest < 800
        assert pace.is_slow

    def test_a_queue_that_was_long_and_gets_shorter_is_not_slow(self, store, db, tasks):
        for _ in range(3):
            created(store, tasks)
        pass_time(db, 700)
        for _ in range(2):
            take(store, tasks)
        [pace] = store.pace(tasks)
        assert (pace.waiting, pace.came, pace.taken, pace.is_slow) == (1, 0, 2, False)

    def test_where_nothing_waits_there_is_nothing_to_tell(self, store, tasks):
        created(store, tasks)
        take(store, tasks)
        assert plain(store.pace(tasks)) == []
