"""The deployed archive: what .gcloudignore leaves (Terraform's zip is the same, by tests/infra),
started as it is deployed: in a virtualenv with requirements.txt and nothing else, under
functions-framework, each entry point asked once.

The virtualenv costs a minute, so it is kept in .cache by the hash of requirements.txt."""

import ast
import base64
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from functions.ops.local.servers import listens
from functions.ops.postgres.embedded import free_port
from tests.chain import platform
from tests.infra.uploaded import uploaded
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "deployed"
NOBODY = "00000000-0000-4000-8000-000000000000"
TOKEN = {"task_id": NOBODY, "token": NOBODY}
EVENT = {
    "message": {"data": "eyJ0YXNrX2lkIjoiMDAwMDAwMDAtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAwIn0="}
}
GONE = {
    "message": {
        "data": base64.b64encode(
            json.dumps(platform.line(platform.OOM, datetime.now(UTC))).encode()
        ).decode()
    }
}
ASKED: dict[str, tuple[str, str, dict[str, object] | None, set[int]]] = {
    "create_task": (
        "POST",
        "/",
        {"kind": "selection", "input": {"csv": "id", "size": 1, "quotas": {}}},
        {201},
    ),
    "task_status": ("GET", f"/?task_id={NOBODY}", None, {404}),
    "cancel_task": ("POST", "/", {"task_id": NOBODY}, {404}),
    "worker": ("POST", "/", {"task_id": NOBODY}, {200, 404}),
    "worker_event": ("POST", "/", EVENT, {200, 204}),
    "claim_task": ("POST", "/", {"worker_id": "w", "kinds": ["none"]}, {200}),
    "beat_task": ("POST", "/", TOKEN, {200, 404, 409, 410}),
    "complete_task": ("POST", "/", TOKEN, {200, 404, 409, 410}),
    "fail_task": ("POST", "/", TOKEN | {"error": "It is broken."}, {200, 404, 409, 410}),
    "sweep": ("POST", "/", None, {200}),
    "rescue": ("POST", "/", GONE, {200}),
    "page": ("GET", "/", None, {200, 302, 303, 401, 403}),
}
"""What each is asked, and the statuses that show that our code has answered, from the database."""
CE = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}


def listed() -> list[str]:
    """The files that `gcloud functions deploy` would take."""
    with tempfile.TemporaryDirectory() as folder:
        return uploaded(".gcloudignore", Path(folder))


def entries() -> dict[str, str]:
    """Entry point of main.py -> the signature that the platform sets: that of its trigger."""
    tree = ast.parse((ROOT / "main.py").read_text(encoding="utf-8"))
    names = [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    return {name: "cloudevent" if name == "worker_event" else "http" for name in names}


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of a virtualenv that has what requirements.txt names, and nothing else."""
    wanted = (ROOT / "requirements.txt").read_bytes() + sys.version.encode()
    folder = CACHE / hashlib.sha256(wanted).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", folder)
            pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
            _run(*pip, "install", "-q", "-r", ROOT / "requirements.txt")
            (folder / "done").touch()
    return folder / "bin" / "python"


def _run(*command: object) -> None:
    env = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run(
        [str(one) for one in command], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for name in listed():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_it_holds_the_code_that_is_deployed_and_no_more() -> None:
    files = listed()
    tops = {name.split("/")[0] for name in files}
    assert tops == {"main.py", "requirements.txt", "functions"}
    inside = {name.split("/")[1] for name in files if name.count("/") > 1}
    assert not inside & {"ops", "tests", "infra", "__pycache__"}
    assert {
        "functions/policy.yaml",
        "functions/sweep/sweep.py",
        "functions/handlers/__init__.py",
    } <= set(files)
    assert not [name for name in files if name.endswith((".pyc", ".env", ".pem", ".log"))]


PLANTED = {
    "functions/.env": False,
    "functions/.env.py": False,
    "functions/dump.sql": False,
    "functions/policy.yaml": True,
    "functions/prod.yaml": False,
    "functions/sql/dump.sql": True,
    "functions/sql/migrations/0001_x.sql": True,
    "functions/handlers/service-account.json": False,
    "functions/handlers/key.pem": False,
    "functions/handlers/notes.txt": False,
    "functions/handlers/video.py": True,
    "functions/handlers/more/video.py": True,
    "functions/handlers/video.schema.json": True,
    "functions/handlers/data/fonts/plain.ttf": True,
    "functions/handlers/data/.env": False,
    "functions/handlers/.secrets/key.py": False,
    "functions/handlers/.secrets/key.pem": False,
    "functions/handlers/__pycache__/video.py": False,
    "functions/page/static/page.js": True,
    "functions/page/static/page.js.map": False,
    "functions/page/templates/index.html": True,
    "functions/ops/demo/run.py": False,
    ".env": False,
    "id_rsa": False,
    "main.py": True,
    "requirements.txt": True,
}
"""Files that may lie in a folder, and whether they are deployed."""


def test_only_the_kinds_of_files_that_are_named_are_deployed_and_no_secret_beside_them(
    tmp_path: Path,
) -> None:
    for name in PLANTED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / ".gcloudignore", tmp_path / "rules")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "ls-files", "--others", "--exclude-from=rules"]
    taken = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    deployed = {name for name, is_deployed in PLANTED.items() if is_deployed}
    assert set(taken.stdout.split()) == deployed


def test_terraform_takes_the_same_kinds() -> None:
    text = (ROOT / "infra" / "source.tf").read_text(encoding="utf-8")
    name = re.findall(r'file_name = "(.*)"', text)[0]
    kinds = re.findall(r'^    "(.*)",$', text, re.MULTILINE)
    patterns = [kind.replace("${local.file_name}", name).replace("\\\\", "\\") for kind in kinds]
    assert len(patterns) > 5
    for path, is_deployed in PLANTED.items():
        below = path.removeprefix("functions/")
        if below != path and not below.startswith("ops/") and "__pycache__" not in below:
            taken = any(re.fullmatch(pattern, below) for pattern in patterns)
            assert taken == is_deployed, path


def test_every_entry_point_is_asked_here() -> None:
    assert entries().keys() <= ASKED.keys()


@pytest.mark.timeout(900)
def test_it_starts_with_its_requirements_alone_and_each_entry_point_answers(
    unpacked: Path, python: Path, database: str, tmp_path: Path
) -> None:
    processes = {
        name: serve(python, unpacked, name, how, database, tmp_path)
        for name, how in entries().items()
    }
    try:
        for name, (process, port) in processes.items():
            method, path, body, expected = ASKED[name]
            log = tmp_path / f"{name}.log"
            eventually(
                lambda process=process, port=port: process.poll() is not None or listens(port),
                120,
                f"{name} is silent",
            )
            assert process.poll() is None, f"{name} does not start: {log.read_text()[-2000:]}"
            headers = CE if name == "worker_event" else {}
            url = f"http://127.0.0.1:{port}{path}"
            answer = requests.request(
                method, url, json=body, headers=headers, timeout=60, allow_redirects=False
            )
            assert answer.status_code in expected, (
                name,
                answer.status_code,
                answer.text[:500],
                log.read_text()[-2000:],
            )
    finally:
        for process, _ in processes.values():
            process.kill()
        for process, _ in processes.values():
            process.wait()


def serve(
    python: Path, folder: Path, name: str, how: str, database: str, logs: Path
) -> tuple["subprocess.Popen[bytes]", int]:
    """One entry point in a process of its own, with nothing of this environment but what the
    platform would set."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database,
        "HOME": str(logs),
        "LOG_EXECUTION_ID": "true",
        "USERS": "none",
        "PGPASSFILE": os.environ["PGPASSFILE"],
    }
    command = [str(python), "-m", "functions_framework", "--target", name, "--signature-type", how]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (logs / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        ), port
