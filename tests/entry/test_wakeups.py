"""A push says that there is work: what is promised of order holds as deployed, and no wake-up is
lost, whatever the queue does with its pushes: a stand-in of Cloud Tasks orders, delays and repeats
them, as its documentation says."""

import json
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import pytest

from functions.core.dispatch import HttpDispatch, NoDispatch
from functions.ops.local.queue import LocalQueue
from functions.sweep.wake import wake

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


def paused_and_resumed(http, kind, waited, kinds=("returns",)):
    """The answer of `wake` after a pause of the kind."""
    store, watch = http.app.store, http.app.policy.watch()
    store.pause(watch, kind, "ada", None, None)
    waited.extend(http.create(kind=each) for each in kinds)
    del http.app.dispatcher[:]
    return wake(store, http.app.dispatcher, watch, store.resume(watch, kind, "ada"))


@pytest.mark.parametrize("kind", ["returns", "*"])
def test_the_end_of_a_pause_pushes_what_waits_whatever_its_age_and_no_other_kind(
    http, pushed, kind
):
    waited = []
    woken = paused_and_resumed(http, kind, waited, ["returns", "gives_up"])
    expected = waited[:1] if kind == "returns" else waited
    assert sorted(task for _, task, _, _ in pushed) == sorted(expected)
    assert (woken.pushed, woken.error) == (len(expected), None)
    assert Queue(http, [task for _, task, _, _ in pushed]).deliver().idle == 0
    assert wake(http.app.store, pushed, http.app.policy.watch(), []).pushed == 0


def test_it_pushes_a_bounded_number_the_oldest_first(http, pushed, monkeypatch):
    monkeypatch.setattr("functions.sweep.wake.MAX_WAKES", 2)
    waited = []
    assert paused_and_resumed(http, "returns", waited, ["returns"] * 3).pushed == 2
    assert sorted(task for _, task, _, _ in pushed) == sorted(waited[:2])


def test_where_the_queue_refuses_the_pause_is_over_and_the_answer_says_so(http, pushed):
    store, watch = http.app.store, http.app.policy.watch()
    waiting = http.create()
    store.pause(watch, "returns", "ada", None, None)
    pushed.refuses = True
    woken = wake(store, pushed, watch, store.resume(watch, "returns", "ada"))
    assert (woken.pushed, woken.error) == (0, "the queue did not take 1 of 1 pushes")
    assert http.work(waiting).json["verdict"] == "settled"


def test_workers_that_pull_need_no_push(http, rows):
    store, watch = http.app.store, http.app.policy.watch()
    waiting = http.create()
    store.pause(watch, "returns", "ada", None, None)
    ended = store.resume(watch, "returns", "ada")
    assert wake(store, NoDispatch(), watch, ended).pushed == 0
    assert rows("select from unstuck.dispatches") == []
    assert store.claim(watch, None, "w").task_id == waiting


def test_on_the_local_queue_the_task_that_waited_starts_by_the_push_of_the_resume(http):
    """Its own push was lost; one worker, which answers as the deployed one does."""

    class Worker(BaseHTTPRequestHandler):
        def do_POST(self):
            push = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = http.work(push["task_id"])
            ran.put(answer.json)
            self.send_response(answer.status_code)
            self.end_headers()

        def log_message(self, *_):
            pass

    ran = SimpleQueue()
    store, watch = http.app.store, http.app.policy.watch()
    waiting = http.create()
    store.pause(watch, "returns", "ada", None, None)
    ended = store.resume(watch, "returns", "ada")
    with ThreadingHTTPServer(("127.0.0.1", 0), Worker) as worker:
        threading.Thread(target=worker.serve_forever, args=(0.01,), daemon=True).start()
        with LocalQueue([f"http://127.0.0.1:{worker.server_address[1]}"]) as queue:
            dispatcher = HttpDispatch(queue.url)
            assert wake(store, dispatcher, watch, ended).pushed == 1
            dispatcher.flush(10)
            assert ran.get(timeout=20)["task_id"] == waiting
        worker.shutdown()
