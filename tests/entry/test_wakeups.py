"""A push says that there is work: what is promised of order holds as deployed, and no wake-up is
lost, whatever the queue does with its pushes: a stand-in of Cloud Tasks orders, delays and repeats
them, as its documentation says."""

import random
from collections import Counter

import pytest

SEED = 15
COME_BACK = {409, 503}
MOST_RETURNS = 50


class Queue:
    """Delivers pushes in an order of its own, some of them twice, and those again that the worker
    did not take."""

    def __init__(self, http, pushes, *, repeats=0.0, shuffled=True):
        self.http, self.draw = http, random.Random(SEED)
        self.waiting = [task for task in pushes for _ in range(1 + (self.draw.random() < repeats))]
        self.repeated = len(self.waiting) - len(pushes)
        if shuffled:
            self.draw.shuffle(self.waiting)
        self.ran, self.idle, self.returns = [], 0, Counter()

    def deliver(self, most=10_000):
        while self.waiting and most > 0:
            most -= 1
            task = self.waiting.pop(0)
            answer = self.http.work(task)
            if answer.status_code in COME_BACK and self.returns[task] < MOST_RETURNS:
                self.returns[task] += 1
                self.waiting.append(task)
            elif answer.json["verdict"] == "settled":
                self.ran.append(answer.json["task_id"])
            else:
                self.idle += 1
        return self


def test_a_task_with_priority_that_was_pushed_last_starts_first(http):
    usual = [http.create() for _ in range(10)]
    urgent = http.create(priority=1000)
    queue = Queue(http, [*usual, urgent], shuffled=False).deliver()
    assert queue.ran == [urgent, *usual]


def test_the_answer_names_the_task_that_was_run_and_the_one_that_was_pushed(http):
    pushed, urgent = http.create(), http.create(priority=1)
    answer = http.work(pushed).json
    assert (answer["task_id"], answer["pushed"]) == (urgent, pushed)
    answer = http.work(urgent).json
    assert (answer["task_id"], answer["pushed"]) == (pushed, urgent)


def test_no_wake_up_is_lost_in_a_queue_that_orders_delays_and_repeats(http, rows):
    tasks = [http.create(priority=number % 3) for number in range(30)]
    queue = Queue(http, tasks, repeats=0.3).deliver()
    assert sorted(queue.ran) == sorted(tasks), "each runs once"
    assert queue.repeated > 0
    assert queue.idle == queue.repeated, "a push runs for nothing only where it is a repetition"
    assert len(rows("select from unstuck.attempts")) == 30
    order = [tasks.index(task) % 3 for task in queue.ran]
    assert order == sorted(order, reverse=True), "the most urgent first"


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_pushes_of_a_paused_kind_come_back_burn_nothing_and_start_it_after_the_pause(
    http, rows, shuffled
):
    tasks = [http.create() for _ in range(5)]
    store, watch = http.app.store, http.app.policy.watch()
    store.pause(watch, "returns", "ada", "it is down", None)
    queue = Queue(http, tasks, shuffled=shuffled).deliver(most=10)
    answer = http.work(tasks[0])
    assert (answer.status_code, answer.json["verdict"]) == (409, "paused")
    assert int(answer.headers["Retry-After"]) > 1
    assert (queue.ran, len(queue.waiting)) == ([], 5)
    assert rows("select from unstuck.attempts") == []
    store.resume(watch, "returns", "ada")
    assert sorted(queue.deliver().ran) == sorted(tasks)
