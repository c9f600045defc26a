"""docs/openapi.yaml is what the server does: schemathesis asks the real one, with good requests and
with bad ones."""

import copy
import inspect
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
import yaml

import main
from functions.core.policy import DEFAULT, load
from functions.ops.local.servers import listens
from functions.ops.postgres.embedded import free_port
from tests.conftest import copied
from tests.entry.issuers import ACCOUNT, AUDIENCE, EC, RSA, SECRET, google, published, user
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "openapi.yaml"
API = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
ELSEWHERE = {"worker_event", "page", "rescue"}
"""Entry points that are no JSON API: a CloudEvent, and a page for people."""


def test_each_entry_point_is_described_and_no_other():
    entries = {
        name
        for name, one in inspect.getmembers(main, inspect.isfunction)
        if one.__module__ == "main"
    }
    assert {path.strip("/") for path in API["paths"]} == entries - ELSEWHERE


def test_each_code_of_an_error_in_the_code_is_told():
    told = DOCUMENT.read_text(encoding="utf-8")
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "functions" / "entry").glob("*.py")
    )
    codes = set(re.findall(r'code="([a-z_]+)"', code)) | set(
        re.findall(r'refused\("([a-z_]+)"', code)
    )
    assert len(codes) > 15
    usual = {"bad_request", "unknown_kind", "unavailable"}  # told by their status
    assert {one for one in codes - usual if f"`{one}`" not in told} == set()


# -- against the real server


@pytest.fixture(scope="module")
def issuer():
    """The URL of a real server that publishes our keys, as Supabase and Google publish theirs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"keys": [published("ec", EC), published("google", RSA)]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks"
        server.shutdown()


@pytest.fixture(scope="module")
def dsn(postgres, template):
    with copied(postgres, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def server(dsn, issuer, tmp_path_factory):
    """The URL of the API under functions-framework and gunicorn."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    policy["watches"]["tasks"]["rules"]["image"] = {"one_active": True}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    env = os.environ | {
        "DATABASE_URL": dsn,
        "UNSTUCK_POLICY": str(folder / "policy.yaml"),
        "KEYS_OF_GOOGLE": issuer,
        "SUPABASE_JWKS_URL": issuer,
        "SUPABASE_JWT_SECRET": SECRET,
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_ACCOUNTS": ACCOUNT,
        "CALLBACK_HOSTS": "backend.test",
        "CALLBACK_SECRET": SECRET,
    }
    source = Path(__file__).with_name("gathered.py")
    command = [
        "-m",
        "functions_framework",
        "--target",
        "api",
        "--source",
        source,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=env, stdout=log, stderr=log
        )
    try:
        eventually(lambda: listens(port), 30, "the server does not listen")
        yield f"http://127.0.0.1:{port}", folder / "log"
    finally:
        process.terminate()
        process.wait(15)


CONFIG = """
[auth.openapi.supabase]
bearer = "{user}"
[auth.openapi.google]
bearer = "{google}"
"""


def ask(server, folder, document):
    """What schemathesis says when it finds something, else ""."""
    (folder / "openapi.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (folder / "schemathesis.toml").write_text(
        CONFIG.format(user=user(key=EC, alg="ES256", kid="ec"), google=google()), encoding="utf-8"
    )
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        "schemathesis.toml",
        "--no-color",
        "run",
    ]
    wanted = [
        "--url",
        server,
        "--generation-deterministic",
        "--no-shrink",
        "--generation-allow-x00",
        "false",
        "--phases",
        "examples,coverage,fuzzing",
    ]
    done = subprocess.run(
        [*command, "openapi.yaml", *wanted, "--max-examples", "8"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def narrowed(held):
    """The document with what is there in place of what may be: so that good requests are good
    ones."""
    document = copy.deepcopy(API)
    schemas = document["components"]["schemas"]
    schemas["Watch"] = {"enum": ["tasks", None]}
    schemas["TaskId"] = {"type": "string", "enum": [one["task_id"] for one in held]}
    schemas["Token"] = {"type": "string", "enum": [one["token"] for one in held]}
    task_id, watch = document["paths"]["/task_status"]["get"]["parameters"]
    task_id["schema"], watch["schema"] = schemas["TaskId"], {"type": "string", "enum": ["tasks"]}
    create, needed = body_of(document, "create_task")
    needed.append("input")
    create["kind"], create["input"] = (
        {"type": "string", "enum": ["image"]},
        json.loads(SCHEMA.read_text(encoding="utf-8")),
    )
    create["scheduled_at"] = {"enum": [None, "2020-01-01T00:00:00Z"]}
    create["callback_url"] = {"enum": [None, "https://backend.test/ends?id=1"]}
    create["owner"] = {"enum": [None, "ann"]}
    create.pop("cost")
    claim, _ = body_of(document, "claim_task")
    claim["kinds"], claim["task_id"] = (
        {"enum": [None, ["selection"]]},
        {"type": ["string", "null"], "enum": [None]},
    )
    return document


def body_of(document, target):
    post = document["paths"][f"/{target}"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    return schema["properties"], schema["required"]


SCHEMA = ROOT / "functions" / "handlers" / "image.schema.json"
PREPARE = """
insert into tasks (id, kind, owner)
select format('00000000-0000-4000-8000-%%s', lpad(n::text, 12, '0'))::uuid, 'selection', 'ann'
  from generate_series(1, 30) n
"""
CLAIM = """
select unstuck.tasks_claim(format('00000000-0000-4000-8000-00000000000%%s', n), 'w', %s, %s)
  from generate_series(1, 3) n
"""
TOKEN = "00000000-0000-4000-9000-000000000001"
"""Ids and token are the same in each run: what schemathesis makes depends on them."""


@pytest.mark.timeout(300)
def test_the_server_answers_as_the_document_says(server, dsn, tmp_path):
    url, log = server
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(PREPARE, ())
        wanted = (load(str(DEFAULT)).watch().rules_json, TOKEN)
        held = [row[0] for row in connection.execute(CLAIM, wanted).fetchall()]
    found = ask(url, tmp_path, narrowed(held))
    assert not found, found
    lines = [
        json.loads(line)
        for line in log.read_text(encoding="utf-8").splitlines()
        if line.startswith("{")
    ]
    assert [line for line in lines if line["event"] == "request_failed"] == []
    wanted = {
        "request_refused",
        "task_created",
        "task_claimed",
        "task_finished",
        "lease_lost",
        "sweep_finished",
    }
    assert {line["event"] for line in lines} >= wanted


def test_an_answer_that_the_document_does_not_tell_is_found(server, tmp_path):
    """So that the test above can fail."""
    document = copy.deepcopy(API)
    document["paths"] = {"/sweep": document["paths"]["/sweep"]}
    told = document["paths"]["/sweep"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    told["properties"]["verdict"] = {"const": "never"}
    assert (
        "is not one of" in (found := ask(server[0], tmp_path, document)) or "was expected" in found
    )
