"""infra/smoke.py against the real functions: it is content with a deployment that works, and with
no other."""

import importlib.util
import json

import pytest
import requests
import responses

from functions.ops.local.servers import Server
from functions.ops.postgres.embedded import free_port
from tests.terraform import ROOT


@pytest.fixture(scope="module")
def smoke():
    spec = importlib.util.spec_from_file_location("smoke", ROOT / "infra" / "smoke.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def deployed(database, tmp_path):
    """The functions as processes, and a file as `terraform output -json` prints it."""
    port = free_port()
    env = {"DATABASE_URL": database, "WORKER_URL": f"http://127.0.0.1:{port}"}
    names = ["create_task", "task_status", "worker", "sweep"]
    servers = {
        name: Server(name, env, port=port if name == "worker" else 0, log=tmp_path / f"{name}.log")
        for name in names
    }
    try:
        urls = {name: server.start().url for name, server in servers.items()}
        yield servers, outputs(tmp_path, urls)
    finally:
        for server in servers.values():
            server.kill()


def outputs(folder, urls, **smoke):
    values = {
        "functions": urls,
        "invoker": "invoker@p.iam.gserviceaccount.com",
        "sweep_job": "projects/p/locations/l/jobs/unstuck-sweep",
        "smoke": {"users": False, "internal": False, "watch": "tasks", **smoke},
    }
    file = folder / "outputs.json"
    file.write_text(json.dumps({name: {"value": value} for name, value in values.items()}))
    return str(file)


URLS = {name: f"https://{name}.example" for name in ("sweep", "create_task", "task_status")}
JOB = "https://cloudscheduler.googleapis.com/v1/projects/p/locations/l/jobs/unstuck-sweep"


@responses.activate
def test_where_users_are_asked_and_no_token_is_there_a_refusal_is_what_must_be_seen(
    smoke, tmp_path, capsys
):
    file = outputs(tmp_path, URLS, users=True)
    responses.post(URLS["sweep"], json={"verdict": "ok"})
    responses.post(URLS["create_task"], json={"error": "no_token"}, status=401)
    assert smoke.main(["--outputs", file, "--no-token"]) == 0
    assert "Set SMOKE_TOKEN" in capsys.readouterr().out
    responses.replace("POST", URLS["create_task"], json={"task_id": "1"}, status=201)
    assert smoke.main(["--outputs", file, "--no-token"]) == 1, "anybody can create tasks"


@responses.activate
def test_where_only_adopted_tables_are_watched_the_sweep_alone_is_tried_and_it_says_so(
    smoke, tmp_path, capsys
):
    responses.post(URLS["sweep"], json={"verdict": "ok"})
    assert smoke.main(["--outputs", outputs(tmp_path, URLS, watch=None), "--no-token"]) == 0
    assert "task: not tried" in capsys.readouterr().out


@responses.activate
@pytest.mark.parametrize(("status", "code"), [({}, 0), ({"code": 7}, 1)])
def test_an_internal_sweep_is_called_by_the_scheduler_whose_job_tells_the_result(
    smoke, tmp_path, monkeypatch, status, code
):
    monkeypatch.setattr(smoke, "_session", requests.Session)
    monkeypatch.setattr(smoke.time, "sleep", lambda seconds: None)
    responses.get(JOB, json={"lastAttemptTime": "1"})
    responses.get(JOB, json={"lastAttemptTime": "1"})
    responses.get(JOB, json={"lastAttemptTime": "2", "status": status})
    responses.post(f"{JOB}:run", json={})
    file = outputs(tmp_path, URLS, internal=True, watch=None)
    assert smoke.main(["--outputs", file, "--no-token"]) == code


def test_a_deployment_that_works_passes_and_one_whose_worker_is_gone_does_not(
    smoke, deployed, capsys
):
    servers, file = deployed
    assert smoke.main(["--outputs", file, "--no-token"]) == 0
    out = capsys.readouterr().out
    assert "sweep: ok" in out
    assert ": completed" in out
    bad = [
        "--kind",
        "selection",
        "--input",
        json.dumps({"csv": "town\nRome\n", "size": 5, "quotas": {"town": {"Rome": [0, 1]}}}),
    ]
    assert smoke.main(["--outputs", file, "--no-token", *bad]) == 1
    assert "failed" in capsys.readouterr().err
    servers["worker"].kill()
    assert smoke.main(["--outputs", file, "--no-token", "--limit", "1"]) == 1
    assert "is still pending" in capsys.readouterr().err


@responses.activate
def test_a_refused_call_says_what_to_do(smoke, tmp_path, capsys):
    urls = URLS
    responses.post(urls["sweep"], status=403, body="Forbidden")
    assert smoke.main(["--outputs", outputs(tmp_path, urls), "--no-token"]) == 1
    assert "answered 403 instead of 200: Forbidden" in capsys.readouterr().err


@responses.activate
def test_each_call_carries_the_invokers_token_for_its_url_and_a_users_beside_it(
    smoke, tmp_path, monkeypatch
):
    urls = URLS
    monkeypatch.setattr(smoke, "_token", lambda account, audience: f"{account} for {audience}")
    monkeypatch.setenv("SMOKE_TOKEN", "a user's")
    responses.post(urls["sweep"], json={"verdict": "ok"})
    responses.post(urls["create_task"], json={"task_id": "1", "state": "pending"}, status=201)
    responses.get(urls["task_status"], json={"state": "completed"})
    assert smoke.main(["--outputs", outputs(tmp_path, urls)]) == 0
    assert len(responses.calls) == 3
    for call in responses.calls:
        audience = call.request.url.partition("?")[0].rstrip("/")
        sent = call.request.headers["X-Serverless-Authorization"]
        assert sent == f"Bearer invoker@p.iam.gserviceaccount.com for {audience}"
        assert call.request.headers["Authorization"] == "Bearer a user's"


def test_without_credentials_it_says_so(smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    urls = URLS
    assert smoke.main(["--outputs", outputs(tmp_path, urls)]) == 1
    assert "roles/iam.serviceAccountOpenIdTokenCreator" in capsys.readouterr().err
