"""The cold start is part of the product: each function loads what its first request needs, and
nothing else.

Each entry point runs in a process of its own, in the real framework, answers one request from a
real database, and then says which modules it has loaded. (All at once cost 670 ms against 190:
supabase 290, google-cloud-logging 240.)"""

import base64
import gc
import json
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from functions.core.policy import load
from tests.chain import platform

ROOT = Path(__file__).parents[1]

FRAMEWORK = {
    "blinker",
    "click",
    "cloudevents",
    "deprecation",
    "flask",
    "functions_framework",
    "google",
    "gunicorn",
    "itsdangerous",
    "jinja2",
    "markupsafe",
    "packaging",
    "werkzeug",
}
"""Loaded by functions-framework and gunicorn before any code of ours."""
DATABASE = {"psycopg", "psycopg_binary", "typing_extensions", "yaml"}
GOOGLE = {
    "google",
    "google.cloud",
    "google.cloud.functions",
    "google.cloud.functions.context",
    "google.cloud.functions_v1",
    "google.cloud.functions_v1.context",
}
"""Of functions-framework itself; not one of them is a client library."""
CURSORS = {"psycopg", "psycopg.connection", "psycopg.types", "psycopg_binary._psycopg"}
"""The most of psycopg, which the store does not use."""
HEAVY = {
    "asyncio",
    "multiprocessing",
    "requests",
    "urllib3",
    "grpc",
    "unittest",
    "pydoc",
    "sqlite3",
    "xmlrpc",
    "ensurepip",
}

MAIN = {
    "core",
    "core.events",
    "core.settings",
    "core.file_lock",
    "core.record",
    "core.trace",
    "entry",
    "entry.app",
    "entry.http",
    "entry.request_body",
    "errors",
    "worker",
    "worker.shutdown",
}
STORE = {
    "core.answers",
    "core.durations",
    "core.policy",
    "core.policy_keys",
    "core.record",
    "core.rule",
    "core.sqlstates",
    "core.states",
    "core.watch",
    "core.watch_reader",
    "core.yaml_lines",
    "store",
    "store.page_answers",
    "store.connection",
    "store.dsn",
    "store.limit",
    "store.part",
    "store.postgres",
    "store.psycopg_part",
    "store.reader",
    "store.verbs",
}
PUSH = {"core.dispatch"}
ASKED = {"entry.auth", "entry.fields"}
"""Of whoever calls."""
SETTLE = {"worker.settle"}
WORK = {
    "core.report",
    "worker.child",
    "worker.claim",
    "worker.guard",
    "worker.handler_context",
    "worker.handler_log",
    "worker.inbox",
    "worker.instance",
    "worker.kinds",
    "worker.lease_clock",
    "worker.messages",
    "worker.folder",
    "worker.json_text",
    "worker.output",
    "worker.preload",
    "worker.processes",
    "worker.spawn",
}
PAGE = {
    "core.explain",
    "core.jwt_payload",
    "core.progress",
    "core.redact",
    "entry.fields",
    "entry.page",
    "page",
    "page.actions",
    "page.app",
    "page.charts",
    "page.current",
    "page.list_query",
    "page.reasons",
    "page.run_again",
    "page.tables",
    "page.timeline",
    "page.views",
    "page.who",
    "store.operate",
    # whether a kind that waits has a handler
    "worker.kinds",
    "worker.messages",
    "worker.processes",
    "worker.spawn",
}
CALLED = MAIN | STORE | PUSH | ASKED
LOADED = {
    "create_task": CALLED | {"entry.create_task", "entry.price", "entry.input_schema"},
    "task_status": CALLED | {"entry.task_status", "core.report"},
    "cancel_task": MAIN | STORE | ASKED | {"entry.cancel_task"},
    "claim_task": CALLED | {"entry.claim_task", "worker.claim", "core.report"},
    "beat_task": CALLED | SETTLE | {"entry.beat_task", "entry.complete_task"},
    "complete_task": CALLED | SETTLE | {"entry.complete_task"},
    "fail_task": CALLED | SETTLE | {"entry.complete_task", "entry.fail_task"},
    "sweep": MAIN
    | STORE
    | PUSH
    | {
        "entry.auth",
        "entry.sweep",
        "sweep",
        "sweep.clock",
        "sweep.sweep",
        "sweep.notify",
        "sweep.time_share",
        "core.report",
    },
    "worker": CALLED | SETTLE | WORK | {"core.redact", "entry.worker"},
    "worker_event": CALLED | SETTLE | WORK | {"core.redact", "entry.worker", "entry.worker_event"},
    "rescue": MAIN
    | STORE
    | PUSH
    | SETTLE
    | {"entry.auth"}
    | {"entry.rescue", "sweep", "sweep.causes", "sweep.platform_line"},
    "page": MAIN | STORE | PUSH | PAGE | {"store.operate"},
}
"""The modules of ours that a first request may load."""

LINE = base64.b64encode(
    json.dumps(
        platform.line(platform.OOM, datetime.now(UTC), revision="unstuck-worker-00007-abc")
    ).encode()
).decode()
"""Of an instance that holds nothing."""

PROBE = """
    import base64, gc, json, sys
    import functions_framework

    target = sys.argv[1]
    event = target == "worker_event"
    client = functions_framework.create_app(target, "main.py").test_client()
    before = sorted(sys.modules)
    collections = sum(generation["collections"] for generation in gc.get_stats())
    headers = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}
    headers = headers if event else {}
    method, path, body = json.loads(sys.argv[2])
    answer = client.open(path, method=method, json=body, headers=headers)
    loaded = sorted(sys.modules)
    collections = sum(generation["collections"] for generation in gc.get_stats()) - collections
    print()
    print(json.dumps({"status": answer.status_code, "body": answer.text, "before": before,
      "loaded": loaded, "collections": collections, "threshold": gc.get_threshold()[0]}))
"""


def probe(target, database, method, path="/", body=None, **env):
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(PROBE),
        target,
        json.dumps([method, path, body]),
    ]
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in {"WORKER_URL", "TASKS_QUEUE"}
    } | env
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env | {"DATABASE_URL": database, "USERS": "none"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def task_id(database):
    """A task that waits."""
    with psycopg.connect(database) as connection:
        [(created,)] = connection.execute("select unstuck.tasks_create('selection', '{}')")
    return created["task_id"]


@pytest.fixture
def held(database):
    """A task in the hands of a worker elsewhere."""
    with psycopg.connect(database) as connection:
        [(created,)] = connection.execute("select unstuck.tasks_create('image', '{}')")
        wanted = (created["task_id"], load().watch().rules_json)
        [(claimed,)] = connection.execute("select unstuck.tasks_claim(%s, 'w', %s)", wanted)
    return {"task_id": claimed["task_id"], "token": claimed["token"]}


@pytest.fixture
def asked(database, task_id, held):
    """The entry point `target` after its first answer."""
    message = {
        "message": {"data": "eyJ0YXNrX2lkIjoiMDAwMDAwMDAtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAwIn0="}
    }
    requests = {
        "create_task": (
            "POST",
            "/",
            {"kind": "selection", "input": {"csv": "id", "size": 1, "quotas": {}}},
        ),
        "task_status": ("GET", f"/?task_id={task_id}", None),
        "cancel_task": ("POST", "/", {"task_id": task_id}),
        "claim_task": ("POST", "/", {"worker_id": "w"}),
        "beat_task": ("POST", "/", held),
        "complete_task": ("POST", "/", held),
        "fail_task": ("POST", "/", held | {"error": "It is broken."}),
        "sweep": ("POST", "/", None),
        "worker": ("POST", "/", {"task_id": task_id}),
        "worker_event": ("POST", "/", message),
        "rescue": ("POST", "/", {"message": {"data": LINE}}),
        "page": ("GET", "/", None),
    }
    return lambda target, **env: probe(target, database, *requests[target], **env)


def packages(modules):
    """The top-level packages that do not come with Python."""
    tops = (
        {name.partition(".")[0] for name in modules}
        - sys.stdlib_module_names
        - {"functions", "main"}
    )
    return {name for name in tops if not name.startswith(("_", "cython_runtime"))}


def ours(modules):
    return {name.removeprefix("functions.") for name in modules if name.startswith("functions.")}


@pytest.mark.parametrize("target", LOADED)
def test_a_first_request_loads_what_it_needs_and_nothing_else(asked, target):
    answer = asked(target)
    assert answer["status"] in {200, 201}, answer["body"]
    assert packages(answer["loaded"]) <= FRAMEWORK | DATABASE | (
        {"fastjsonschema"} if target == "create_task" else set()
    )
    assert {name for name in answer["loaded"] if name.partition(".")[0] == "google"} <= GOOGLE
    assert ours(answer["loaded"]) == LOADED[target]
    assert not CURSORS & set(answer["loaded"])
    process = {"multiprocessing"} if target.startswith("worker") else set()
    assert HEAVY & set(answer["loaded"]) == process
    assert answer["collections"] == 0, "the collector looks through what was just loaded"
    assert answer["threshold"] == gc.get_threshold()[0], "garbage of a handler is large"


def test_the_import_of_main_loads_neither_the_database_nor_the_policy(asked):
    answer = asked("sweep")
    assert ours(answer["before"]) == MAIN
    assert packages(answer["before"]) <= FRAMEWORK


def test_a_push_by_http_loads_its_client_and_no_client_of_google(asked):
    loaded = asked("create_task", WORKER_URL="http://127.0.0.1:1")["loaded"]
    client = {"requests", "urllib3", "idna", "certifi", "charset_normalizer"}
    assert packages(loaded) <= FRAMEWORK | DATABASE | client | {"fastjsonschema"}
    assert {name for name in loaded if name.partition(".")[0] == "google"} <= GOOGLE


def test_a_function_that_does_not_push_does_not_load_the_client_of_its_queue(asked):
    queue = "projects/p/locations/l/queues/q"
    loaded = asked("sweep", WORKER_URL="https://worker", TASKS_QUEUE=queue)["loaded"]
    assert packages(loaded) <= FRAMEWORK | DATABASE


def test_the_handlers_are_not_loaded_where_the_guard_is(asked):
    answer = asked("worker")
    assert json.loads(answer["body"])["verdict"] == "settled"
    assert not [name for name in answer["loaded"] if name.startswith("functions.handlers")]


def test_the_collector_stays_as_a_handler_has_set_it():
    """It was set back, and all that was left behind was kept for ever, at each request."""
    code = """
    import gc
    import functions_framework

    client = functions_framework.create_app("task_status", "main.py").test_client()
    for _ in range(2):
        client.get("/")
        gc.set_threshold(9000)
    frozen = gc.get_freeze_count()
    client.get("/")
    assert (gc.get_threshold()[0], gc.get_freeze_count()) == (9000, frozen)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
