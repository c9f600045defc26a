"""Whatever is sent, to whichever door: no fault of ours (5xx), no secret in an answer, and no write
by a page of another origin. `make test` draws the same each time; `make hostile` draws anew, for a
bounded time, and a failure names its seed."""

import itertools
import json
import os
import random
import time

import pytest

from functions.ops.command_line import main
from functions.ops.dev.visitors import own_only
from tests.entry.issuers import bearer, google, user
from tests.entry.steps import METHODS, NOBODY

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "0"))
"""Of one kind of door, drawn anew. 0: the same draws each time."""
SECRET = "what-only-ann-may-read-7f3a"
SEED = int(os.environ.get("HOSTILE_SEED") or (random.getrandbits(32) if SECONDS else 4105180784))
TEXTS = (
    "",
    " ",
    "tasks",
    "returns",
    "image",
    "*",
    "..",
    "../../etc/passwd",
    "a\x00b",
    "\x1b]0;title\x07",
    "\u202edesrever",
    "\ud800",
    "x" * 300,
    "x" * 5000,
    "'; drop table tasks; --",
    "$$; select pg_sleep(60); $$",
    "%s%n{0}{x.__class__}",
    "<img src=x onerror=alert(1)>",
    "1e999",
    "-1",
    "9" * 400,
    "9999-99-99",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "infinity",
    "null",
    "\r\nX-Injected: 1",
    "٣",
    NOBODY,
    "{" * 500,
    '{"section": 1e999}',
    '{"section": 1, "at": "9999-99-99", "key": null}',
    "[" * 2900 + "]" * 2900,
)
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e-308, 0.5, float("inf"), float("nan"))
FIELDS = (
    "kind",
    "input",
    "owner",
    "idempotency_key",
    "priority",
    "scheduled_at",
    "cost",
    "watch",
    "task_id",
    "token",
    "worker_id",
    "kinds",
    "progress",
    "checkpoint",
    "result",
    "error",
    "detail",
    "retry",
    "after",
    "settle_as",
    "wait",
)
HEADERS = (
    "Authorization",
    "X-Serverless-Authorization",
    "X-Goog-Authenticated-User-Email",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-HTTP-Method-Override",
    "X-CloudScheduler-ScheduleTime",
    "X-CloudScheduler-JobName",
    "X-CloudTasks-TaskName",
    "X-CloudTasks-TaskRetryCount",
    "traceparent",
    "X-Cloud-Trace-Context",
    "Function-Execution-Id",
    "Content-Type",
    "Content-Encoding",
    "Content-Length",
    "Origin",
    "Referer",
    "Sec-Fetch-Site",
    "Host",
    "HX-Request",
    "HX-Target",
    "Cookie",
    "Accept",
    "Range",
    "If-None-Match",
)
PATHS = (
    "/",
    "/part/pulse",
    "/part/list",
    "/part/day",
    "/sweeps",
    "/sweeps/1",
    "/sweeps/99999999999999999999",
    "/confirm",
    "/act",
    "/sweep-now",
    "/assets/page.css",
    "/assets/../../policy.yaml",
    "/nowhere",
)
QUERY = (
    "state",
    "kind",
    "owner",
    "reason",
    "q",
    "after",
    "before",
    "idle",
    "part",
    "watch",
    "id",
    "action",
    "of",
    "done",
    "moved",
    "because",
    "sweep_id",
    "task_id",
)
COMMANDS = ("list", "show", "explain", "stats", "check", "retry", "cancel", "requeue", "fail")
OPTIONS = ("--state", "--kind", "--owner", "--id", "--in", "--limit", "--reason", "--older-than")


def draws(count):
    """That many, or as many as the seconds allow."""
    end = time.monotonic() + SECONDS
    for number in itertools.count():
        if time.monotonic() > end if SECONDS else number == count:
            return
        yield


def value(chosen, depth=0):
    """Any JSON."""
    draw = chosen.random()
    if depth > 4 or draw < 0.5:
        return chosen.choice([*TEXTS, *NUMBERS, None, True, False])
    if draw < 0.75:
        return [value(chosen, depth + 1) for _ in range(chosen.randrange(4))]
    keys = [*FIELDS, *TEXTS]
    return {chosen.choice(keys): value(chosen, depth + 1) for _ in range(chosen.randrange(5))}


def body(chosen):
    fields = chosen.sample(FIELDS, chosen.randrange(len(FIELDS)))
    text = json.dumps({name: value(chosen) for name in fields})
    data = text.encode(chosen.choice(["utf-8", "utf-8", "utf-8", "utf-16"]))
    if chosen.random() < 0.2:
        data = data[: chosen.randrange(len(data) + 1)]
    return data


def headers(chosen):
    names = chosen.sample(HEADERS, chosen.randrange(5))
    texts = [text for text in TEXTS if text.isprintable() and text.isascii()]
    return {name: chosen.choice(texts) for name in names}


def query(chosen):
    sendable = [text for text in TEXTS if "\ud800" not in text]
    names = chosen.choices(QUERY, k=chosen.randrange(6))
    return [(name, chosen.choice(sendable)) for name in names]


@pytest.fixture
def chosen():
    return random.Random(SEED)


@pytest.fixture
def world(api, task_of, db):
    """Something to steal."""
    task_id = task_of("ann")
    db.execute("update tasks set input = %s where id = %s", (json.dumps({"x": SECRET}), task_id))
    return task_id


def test_no_request_breaks_an_entry_point_or_shows_what_is_another_s(api, world, chosen):
    for _ in draws(800):
        target = chosen.choice([*METHODS, "worker_event"])
        token = chosen.choice([user("mallory"), google(), None, "garbage"])
        if target in {"claim_task", "worker", "worker_event", "sweep"} and token == google():
            continue  # who may work may read
        sent = bearer(token) | headers(chosen)
        method = chosen.choice(["GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD"])
        text = body(chosen)
        answer = api.client(target).open(
            "/", method=method, data=text, headers=sent, query_string=query(chosen)
        )
        assert answer.status_code < 500 or answer.status_code == 501, (SEED, target, sent, text)
        assert SECRET not in answer.text, (SEED, target, sent, text)
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("write", ["", "on"])
def test_no_request_breaks_the_page(http, task_of, db, monkeypatch, chosen, write):
    if write:
        monkeypatch.setenv("PAGE_WRITE", write)
    http.restart()
    task_id = task_of("ann")
    client = http.client("page")
    states = "select status, count(*) from tasks group by 1"
    before = db.execute(states).fetchall()
    for _ in draws(150):
        path = chosen.choice([*PATHS, f"/tasks/{task_id}", f"/payload/{task_id}", "/tasks/x"])
        method = chosen.choice(["GET", "GET", "GET", "POST", "PUT"])
        sent = headers(chosen)
        form = query(chosen) if method != "GET" else None
        answer = client.open(
            path,
            method=method,
            headers=sent,
            query_string=query(chosen),
            data=dict(form) if form else None,
        )
        assert answer.status_code < 500, (SEED, method, path, sent, form, answer.text[-300:])
        assert "<img src=x" not in answer.text, (SEED, path)
        assert "\x1b" not in answer.text
        answer.close()
    if not write:
        assert db.execute(states).fetchall() == before


def test_no_words_break_a_command(db, world, chosen, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    speakable = [text for text in TEXTS if "\x00" not in text and "\ud800" not in text]
    for _ in draws(60):
        arguments = [chosen.choice(COMMANDS)]
        for name in chosen.sample(OPTIONS, chosen.randrange(3)):
            arguments += [f"{name}={chosen.choice(speakable)}"]
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
        out = capsys.readouterr()
        assert code in {0, 1, 2, 3, 4}, (SEED, arguments, code)
        assert "Traceback" not in out.out + out.err, (SEED, arguments)
        assert not {"\x1b", "\u202e", "\x07"} & set(out.out), (SEED, arguments)


def test_no_page_of_another_origin_writes_to_dev_whatever_it_sends(chosen):
    written = []

    def wsgi(environ, start_response):
        written.append(environ)
        start_response("200 OK", [])
        return [b""]

    guarded = own_only(wsgi, ["https://app.example"])
    hosts = ("127.0.0.1:8080", "localhost:8080", "evil.example:8080", "127.0.0.1.evil.example", "")
    origins = ("https://evil.example", "http://127.0.0.1:9", "null", "", None, "http://[::1]:8080")
    sites = ("cross-site", "same-site", "none", "", "same-origin", None)
    for _ in draws(3000):
        host, origin, site = (chosen.choice(each) for each in (hosts, origins, sites))
        environ = {
            "REQUEST_METHOD": chosen.choice(["POST", "PUT", "DELETE", "PATCH", "FOO"]),
            "PATH_INFO": chosen.choice(["/create_task", "/sweep", "/act", "//create_task"]),
            "HTTP_HOST": host,
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
        }
        environ |= {"HTTP_ORIGIN": origin} if origin is not None else {}
        environ |= {"HTTP_SEC_FETCH_SITE": site} if site is not None else {}
        guarded(environ, lambda *_: None)
    assert written, "programs may write"
    for environ in written:
        assert environ["HTTP_HOST"] in {"127.0.0.1:8080", "localhost:8080"}, SEED
        assert environ.get("HTTP_ORIGIN") is None, (SEED, environ)
        assert environ.get("HTTP_SEC_FETCH_SITE") in {None, "same-origin"}, (SEED, environ)
