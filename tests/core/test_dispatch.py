"""Dispatch: a push arrives as it should or is reported, never lost in silence. Cloud Tasks is
mocked at the wire only."""

import base64
import datetime
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import responses
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from functions.core.dispatch import (
    CloudTasksDispatch,
    DispatchError,
    HttpDispatch,
    NoDispatch,
    Push,
    dispatcher_of,
    name_of,
    push,
    pushes,
    still_queued,
)
from functions.core.policy import load
from functions.core.settings import Settings
from functions.entry.app import App
from functions.ops.postgres.embedded import free_port
from tests.waiting import eventually

QUEUE = "projects/our-project/locations/europe-west1/queues/tasks"
TASKS = f"https://cloudtasks.googleapis.com/v2/{QUEUE}/tasks"
WORKER = "https://worker-abc-ew.a.run.app/"
INVOKER = "invoker@our-project.iam.gserviceaccount.com"
TASK = "6f1c7a52-0d3c-4c54-9f2f-0a1d9d5f7a10"


@pytest.fixture
def log(capfd):
    return lambda: [json.loads(line) for line in capfd.readouterr().out.splitlines()]


# -- by HTTP, on one machine


class Worker(ThreadingHTTPServer):
    """Keeps what it is sent, and when."""

    def __init__(self):
        self.received, self.answers = [], []
        super().__init__(("127.0.0.1", free_port()), Receiver)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/work"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append(
            (time.monotonic(), self.path, self.headers["Content-Type"], body)
        )
        answers = self.server.answers
        self.send_response(answers.pop(0) if answers else 200)
        self.send_header("Retry-After", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def worker():
    with Worker() as server:
        yield server
        server.shutdown()


def test_a_push_by_http_reaches_the_worker_and_does_not_wait_for_it(worker):
    assert push(HttpDispatch(worker.url), "tasks", TASK, 3) is True
    [(_, path, content_type, body)] = eventually(lambda: worker.received)
    assert (path, content_type) == ("/work", "application/json")
    assert body == {"watch": "tasks", "task_id": TASK, "number": 3}


def test_a_push_by_http_does_not_arrive_before_its_time(worker):
    pushed = time.monotonic()
    HttpDispatch(worker.url).push("tasks", TASK, 2, delay=0.3)
    HttpDispatch(worker.url).push("tasks", TASK, 1)
    (at_once, *_, first), (later, *_, second) = eventually(
        lambda: len(worker.received) == 2 and worker.received
    )
    assert (first["number"], second["number"]) == (1, 2)
    assert at_once - pushed < later - pushed
    assert later - pushed >= 0.3


def test_a_push_by_http_of_which_nothing_can_start_comes_back(worker, monkeypatch):
    monkeypatch.setattr("functions.core.dispatch.LEAST_RETURN_SECONDS", 0.01)
    worker.answers += [409, 409]
    dispatcher = HttpDispatch(worker.url)
    dispatcher.push("tasks", TASK, 1)
    eventually(lambda: len(worker.received) == 3)
    dispatcher.push("tasks", TASK, 1)
    dispatcher.push("tasks", TASK, 2)
    eventually(lambda: len(worker.received) == 4)
    assert [body["number"] for *_, body in worker.received] == [1, 1, 1, 2]


def test_a_push_by_http_that_never_can_start_is_left_to_the_sweep(worker, monkeypatch):
    monkeypatch.setattr("functions.core.dispatch.LEAST_RETURN_SECONDS", 0.001)
    monkeypatch.setattr("functions.core.dispatch.MOST_RETURNS", 2)
    worker.answers += [409] * 3
    dispatcher = HttpDispatch(worker.url)
    dispatcher.push("tasks", TASK, 1)
    eventually(lambda: len(worker.received) == 3 and not dispatcher._returns)
    assert dispatcher._waiting == []


def test_the_same_push_by_http_is_one_however_often_it_is_asked_for(worker):
    """As for Cloud Tasks: a client may repeat its request as often as it likes."""
    dispatcher, before = HttpDispatch(worker.url), threading.active_count()
    for _ in range(400):
        dispatcher.push("tasks", TASK, 1, delay=29 * 86400)
        dispatcher.push("tasks", TASK, 2)
    eventually(lambda: worker.received)
    dispatcher.push("tasks", TASK, 2)
    dispatcher.push("tasks", TASK, 3)
    eventually(lambda: len(worker.received) > 1)
    assert [body["number"] for *_, body in worker.received] == [2, 3]
    assert len(dispatcher._waiting) == 1
    assert threading.active_count() - before <= 8


def test_pushes_that_wait_are_known_however_many_there_are(monkeypatch):
    monkeypatch.setattr("functions.core.dispatch.MOST_REMEMBERED", 10)
    dispatcher = HttpDispatch("http://127.0.0.1:1/")
    for _ in range(2):
        for number in range(100):
            dispatcher.push("tasks", TASK, number, delay=86400)
    assert len(dispatcher._waiting) == 100
    assert dispatcher._threads == 1


def test_a_push_by_http_that_failed_may_be_asked_for_again(log):
    dispatcher = HttpDispatch(f"http://127.0.0.1:{free_port()}")
    for count in (1, 2):
        dispatcher.push("tasks", TASK, 1)
        assert len(eventually(log)) == 1, count


def test_a_push_by_http_that_finds_nobody_is_reported(log):
    HttpDispatch(f"http://127.0.0.1:{free_port()}").push("tasks", TASK, 1)
    [line] = eventually(log)
    assert (line["event"], line["severity"], line["watch"]) == ("dispatch_failed", "ERROR", "tasks")
    assert (line["task_id"], line["error"]) == (TASK, "ConnectionError")


def test_a_push_by_http_gives_a_worker_that_never_answers_its_time_and_no_more(log):
    with ThreadingHTTPServer(
        ("127.0.0.1", free_port()), Receiver
    ) as silent:  # listens, and never accepts
        HttpDispatch(f"http://127.0.0.1:{silent.server_address[1]}", timeout=0.1).push(
            "tasks", TASK, 1
        )
        assert eventually(log)[0]["error"] == "ReadTimeout"


# -- by Google Cloud Tasks


@pytest.fixture
def google(monkeypatch):
    """The real library with the wire cut: what it sends is in `google.calls`."""
    monkeypatch.setattr(
        "google.auth.default", lambda *_, **__: (AnonymousCredentials(), "our-project")
    )
    with responses.RequestsMock() as wire:
        yield wire


def cloud_tasks(url=WORKER, invoker=INVOKER, deadline=600.0):
    return CloudTasksDispatch(QUEUE, url, invoker, deadline)


def sent(google):
    """The task as Cloud Tasks would read it."""
    assert len(google.calls) == 1
    request = google.calls[0].request
    assert request.headers["Content-Type"] == "application/json"
    return json.loads(request.body)["task"]


def seconds_from_now(text):
    return (
        datetime.datetime.fromisoformat(text) - datetime.datetime.now(datetime.UTC)
    ).total_seconds()


def test_cloud_tasks_is_given_all_that_the_worker_needs(google):
    google.post(TASKS, json={"name": "x"})
    cloud_tasks().push("tasks", TASK, 2, delay=90)
    task = sent(google)
    request = task["httpRequest"]
    assert task["name"] == f"{QUEUE}/tasks/{name_of('tasks', TASK, 2)}"
    assert task["dispatchDeadline"] == "600s"
    assert 80 < seconds_from_now(task["scheduleTime"]) <= 90
    assert (request["url"], request["httpMethod"]) == (WORKER, 1)  # the number of POST
    assert request["headers"] == {"Content-Type": "application/json"}
    assert json.loads(base64.b64decode(request["body"])) == {
        "watch": "tasks",
        "task_id": TASK,
        "number": 2,
    }
    assert request["oidcToken"] == {"serviceAccountEmail": INVOKER, "audience": WORKER}


def test_without_an_invoker_no_token_is_sent(google):
    google.post(TASKS, json={"name": "x"})
    cloud_tasks(invoker=None).push("tasks", TASK, 1)
    assert "oidcToken" not in sent(google)["httpRequest"]


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://worker-abc-ew.a.run.app", "https://worker-abc-ew.a.run.app"),
        ("https://worker-abc-ew.a.run.app/?watch=tasks", "https://worker-abc-ew.a.run.app/"),
        ("https://ew1-p.cloudfunctions.net/worker", "https://ew1-p.cloudfunctions.net/worker"),
        (
            "https://ew1-p.cloudfunctions.net/worker?a=b#c",
            "https://ew1-p.cloudfunctions.net/worker",
        ),
    ],
)
def test_the_token_is_for_the_function_and_not_for_the_query(google, url, audience):
    """Cloud Run and functions take the URL with its path, as Cloud Tasks' default does; a query
    gives 401 (googleapis/python-tasks#137), and a function's URL without its path too
    (nodejs-docs-samples#3267)."""
    google.post(TASKS, json={"name": "x"})
    cloud_tasks(url).push("tasks", TASK, 1)
    request = sent(google)["httpRequest"]
    assert (request["url"], request["oidcToken"]["audience"]) == (url, audience)


@pytest.mark.parametrize(
    ("timeout", "deadline"),
    [(5, "15s"), (15, "15s"), (600, "600s"), (1800, "1800s"), (3600, "1800s")],
)
def test_the_deadline_is_one_that_cloud_tasks_accepts(google, timeout, deadline):
    google.post(TASKS, json={"name": "x"})
    cloud_tasks(deadline=timeout).push("tasks", TASK, 1)
    assert sent(google)["dispatchDeadline"] == deadline


def test_a_push_without_a_delay_is_for_now(google):
    google.post(TASKS, json={"name": "x"})
    cloud_tasks().push("tasks", TASK, 1)
    assert -5 < seconds_from_now(sent(google)["scheduleTime"]) <= 0


def test_the_time_is_one_that_cloud_tasks_accepts(google):
    google.post(TASKS, json={"name": "x"})
    cloud_tasks().push("tasks", TASK, 1, delay=400 * 86400)
    assert 29 * 86400 < seconds_from_now(sent(google)["scheduleTime"]) < 30 * 86400


def test_the_same_push_has_the_same_name_and_another_one_has_another():
    names = {
        name_of(watch, task, number) for watch in "ab" for task in "cd" for number in (1, 2, -1, -2)
    }
    assert len(names) == 16
    assert name_of("tasks", TASK, 2) == name_of("tasks", TASK, 2)
    assert all(set(name) <= set("0123456789abcdef-") and len(name) <= 500 for name in names)


def refused(status, word):
    return {
        "status": status,
        "json": {"error": {"code": status, "message": f"it is {word}", "status": word}},
    }


def test_a_push_that_was_accepted_before_is_accepted(google, log):
    google.post(TASKS, **refused(409, "ALREADY_EXISTS"))
    assert push(cloud_tasks(), "tasks", TASK, 1) is True
    assert log() == []


@pytest.mark.parametrize(
    "trouble",
    [
        refused(400, "INVALID_ARGUMENT"),
        refused(401, "UNAUTHENTICATED"),
        refused(403, "PERMISSION_DENIED"),
        refused(404, "NOT_FOUND"),
        refused(429, "RESOURCE_EXHAUSTED"),
        refused(500, "INTERNAL"),
        refused(503, "UNAVAILABLE"),
        {"status": 502, "body": "<html>a proxy</html>"},
        {"body": requests.ConnectTimeout("slow")},
        {"body": requests.ReadTimeout("slow")},
        {"body": requests.ConnectionError("reset")},
        {"body": RefreshError("no token")},
    ],
    ids=lambda trouble: str(trouble.get("status") or type(trouble["body"]).__name__),
)
def test_a_push_that_is_not_accepted_is_reported_and_nothing_more(google, log, trouble):
    google.post(TASKS, **trouble)
    assert push(cloud_tasks(), "tasks", TASK, 1) is False
    [line] = log()
    assert (line["event"], line["task_id"]) == ("dispatch_failed", TASK)
    assert line["error"]
    with pytest.raises(DispatchError):
        cloud_tasks().push("tasks", TASK, 1)


def test_a_push_does_not_wait_for_long(google):
    google.post(TASKS, json={"name": "x"})
    cloud_tasks().push("tasks", TASK, 1)
    assert google.calls[0].request.req_kwargs["timeout"] == 10


def test_a_push_without_credentials_is_reported(monkeypatch, log):
    def none_here(*_, **__):
        raise DefaultCredentialsError("nobody is logged in")

    monkeypatch.setattr("google.auth.default", none_here)
    assert push(cloud_tasks(), "tasks", TASK, 1) is False
    assert "nobody is logged in" in log()[0]["error"]


def queued(google, number, due_in=0.0):
    """The queue has that push, due in so many seconds."""
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=due_in)
    url = f"{TASKS}/{name_of('tasks', TASK, number)}"
    google.get(url, json={"name": url, "scheduleTime": due.isoformat()})


def gone(google, *numbers):
    for number in numbers:
        google.get(f"{TASKS}/{name_of('tasks', TASK, number)}", **refused(404, "NOT_FOUND"))


def asked(times, first=1, within=120.0):
    lost = [(Push("tasks", TASK, -times), first)]
    return still_queued(cloud_tasks(), lost, within, time.monotonic() + 60)


def test_the_queue_is_asked_by_the_name_of_each_earlier_push(google):
    gone(google, 3, -4, -3)
    queued(google, -2)
    assert asked(times=5, first=3) == [True]


def test_a_push_that_the_queue_has_no_more_is_lost(google):
    gone(google, 1)
    assert asked(times=1) == [False]


def test_a_push_that_the_queue_delivers_much_later_counts_as_lost(google):
    """After many failed deliveries Cloud Tasks waits for up to an hour."""
    queued(google, 1, due_in=600)
    assert asked(times=1) == [False]


def test_a_queue_that_may_not_be_asked_is_asked_once_and_the_push_sent_again(google):
    google.get(f"{TASKS}/{name_of('tasks', TASK, 1)}", **refused(403, "PERMISSION_DENIED"))
    assert asked(times=4) == [False]
    assert len(google.calls) == 1


def test_a_queue_is_not_asked_when_the_time_is_over(google):
    lost = [(Push("tasks", TASK, -1), 1)]
    assert still_queued(cloud_tasks(), lost, 120.0, time.monotonic()) == [False]


def test_a_queue_whose_name_is_none_is_reported(google, log):
    assert push(CloudTasksDispatch("tasks", WORKER, INVOKER, 600), "tasks", TASK, 1) is False
    assert log()[0]["event"] == "dispatch_failed"


# -- which one


def environment(**variables):
    return Settings.read({"DATABASE_URL": "x"} | variables)


def test_a_process_has_one_dispatcher_with_the_timeout_of_the_policy(google):
    google.post(TASKS, json={"name": "x"})
    app = App({"TASKS_QUEUE": QUEUE, "WORKER_URL": WORKER, "TASKS_INVOKER": INVOKER})
    assert push(app.dispatcher, "tasks", TASK, 1) is True
    assert app.dispatcher is app.dispatcher
    task = sent(google)
    assert task["dispatchDeadline"] == f"{load().timeout:g}s"
    assert task["httpRequest"]["url"] == WORKER
    assert task["httpRequest"]["oidcToken"]["serviceAccountEmail"] == INVOKER


def test_the_environment_chooses_the_way():
    cloud = dispatcher_of(
        environment(TASKS_QUEUE=QUEUE, WORKER_URL=WORKER, TASKS_INVOKER=INVOKER), 600
    )
    assert isinstance(cloud, CloudTasksDispatch)
    assert isinstance(dispatcher_of(environment(WORKER_URL=WORKER), 600), HttpDispatch)
    assert isinstance(dispatcher_of(environment(), 600), NoDispatch)


def test_a_queue_without_a_worker_is_a_mistake_that_is_said_and_not_taken_for_workers_that_pull(
    log,
):
    dispatcher = dispatcher_of(environment(TASKS_QUEUE=QUEUE), 600)
    assert pushes(dispatcher) is True
    assert push(dispatcher, "tasks", TASK, 1) is False
    assert "Set WORKER_URL." in log()[0]["error"]


def test_where_workers_pull_nothing_is_sent_again():
    assert pushes(NoDispatch()) is False
    assert push(NoDispatch(), "tasks", TASK, 1) is True
    assert pushes(cloud_tasks()) is True
