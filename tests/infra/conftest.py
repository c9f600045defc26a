"""What the tests of infra/ share: one Terraform, and what it makes of the defaults and of
everything switched on.

A run costs seconds, so what it gave is kept in a file that all processes of a test run share."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.terraform import ROOT, Mocked, Terraform, resources, started

PROJECT = "demo-project"
FILM = "{run_for: 3h, runs_on: pool, memory: 6GB}"
SHORTER = (
    ("timeout: 600s", "timeout: 540s"),
    ("run_for: 570s", "run_for: 500s"),  # what Pub/Sub triggers ends at 540 s
    (
        "      selection:\n",
        "      film: {run_for: 3h, runs_on: pool, memory: 6GB}\n      selection:\n",
    ),
)
SIZES: dict[str, dict[str, Any]] = {
    "api": {"memory": "256Mi", "cpu": "1", "concurrency": 20, "min": 1, "max": 7},
    "worker": {"memory": "2Gi", "cpu": "2", "concurrency": 2, "min": 2, "max": 9},
    "sweep": {"memory": "768Mi", "cpu": "0.5", "concurrency": 1, "min": 0, "max": 3},
    "rescue": {"memory": "384Mi", "cpu": "1", "concurrency": 5, "min": 0, "max": 4},
}
POOL: dict[str, Any] = {
    "image": "europe-docker.pkg.dev/demo-project/images/pool:1",
    "instances": 3,
    "memory": "16Gi",
    "cpu": "4",
    "gpu": "nvidia-l4",
    "hours": {"start": "0 8 * * *", "end": "0 20 * * *", "time_zone": "Europe/Berlin"},
}
QUEUE: dict[str, Any] = {
    "name": "another-queue",
    "max_dispatches_per_second": 9,
    "max_attempts": 7,
    "min_backoff": "2s",
    "max_backoff": "99s",
}
BROUGHT = "clients@demo-project.iam.gserviceaccount.com"
REPOSITORY = "projects/demo-project/locations/europe-west1/repositories/ours"
KEY = "projects/keys/locations/europe-west1/keyRings/ours/cryptoKeys/tasks"
"""An account, a repository and a key that were there before."""
EVERYTHING: dict[str, Any] = {
    "name": "two-of-them",
    "region": "europe-west1",
    "database": "supabase",
    "supabase_url": "https://ref.supabase.co",
    "secret_versions": {"SUPABASE_KEY": 3, "NOTIFY_URL": 3},
    "pubsub": True,
    "secret_values": {"SUPABASE_KEY": "S3CRET", "NOTIFY_URL": "https://hooks.example.com/S3CRET"},
    "users": "secret",
    "api_invokers": ["allUsers", "user:me@example.com"],
    "remote_workers": ["serviceAccount:gpu@demo-project.iam.gserviceaccount.com"],
    "notify": {"signed": True},
    "cors_origins": ["https://app.example.com", "http://localhost:3000"],
    "page_viewers": ["group:ops@example.com"],
    "page_write": True,
    "page_redact": ["iban", "tax"],
    "notification_emails": ["oncall@example.com"],
    "slack": {"channel": "#alerts"},
    "slack_token": "S3CRET",
    "pagerduty": {},
    "pagerduty_key": "S3CRET",
    "webhook": {"url": "https://example.com/hook", "username": "unstuck"},
    "webhook_password": "S3CRET",
    "alerts_topic": True,
    "internal_ingress": True,
    "runbooks_url": "https://example.com/runbooks",
    "alerts_off": ["MemoryHigh"],
    "labels": {"team": "media"},
    "sizes": SIZES,
    "pools": {"film": POOL},
    "queue": QUEUE,
    "network": {"network": "ours", "subnetwork": "inner", "tags": ["database"]},
    "secret_locations": ["europe-west1"],
    "paused": True,
    "renotify": "7200s",
    "probe": True,
    "dead_letters": True,
    "accounts": {"api": BROUGHT},
    "source_bucket": "our-archive",
    "repository": REPOSITORY,
    "kms_key": KEY,
}
FILLED = ["two-of-them-supabase-jwt-secret", "two-of-them-notify-secret"]
"""The secrets of EVERYTHING to which people give a value."""


@dataclass(frozen=True)
class Infra:
    """What Terraform made of infra/."""

    complete: bool
    resources: dict[str, dict[str, Any]]
    everything: dict[str, dict[str, Any]]
    everything_plan: str
    outputs: dict[str, str]
    """What the commands said, and their exit codes, by name."""
    codes: dict[str, int]

    def of_type(self, kind: str, *, everything: bool = False) -> dict[str, dict[str, Any]]:
        """The resources of one type, by what stands in the brackets of their address, or by their
        name."""
        found = self.everything if everything else self.resources
        return {
            _key(address): one
            for address, one in found.items()
            if address.split("[")[0].split(".")[-2] == kind
        }


def _key(address: str) -> str:
    return (
        address.split('["')[1].rstrip('"]')
        if '["' in address
        else address.rsplit(".", maxsplit=1)[-1]
    )


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    with started(tmp_path_factory.mktemp("terraform")) as found:
        yield found


@pytest.fixture(scope="session")
def infra(shared: Path, request: pytest.FixtureRequest) -> Infra:
    kept = shared / "infra.json"
    with (shared / "infra.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(_run(request.getfixturevalue("terraform"), shared)))
    return Infra(**json.loads(kept.read_text()))


def _run(terraform: Terraform, folder: Path) -> dict[str, Any]:
    said = {"validate": terraform.run("validate"), "apply": terraform.apply(project_id=PROJECT)}
    assert said["apply"].returncode in {0, 2}, said["apply"].stdout + said["apply"].stderr
    found = resources(terraform.state())
    said["second plan"] = terraform.plan(project_id=PROJECT)
    shutil.copy(Path(terraform.work, "build", "functions.zip"), folder)
    with started(folder / "everything", FILLED) as other:
        variables = {"project_id": PROJECT, "policy_file": policy_file(folder), **EVERYTHING}
        plan = other.planned(**variables)
        said["everything"] = other.apply(**variables)
        everything = resources(other.state())
    return {
        "complete": terraform.complete,
        "resources": found,
        "everything": everything,
        "everything_plan": json.dumps(plan),
        "outputs": {name: done.stdout + done.stderr for name, done in said.items()},
        "codes": {name: done.returncode for name, done in said.items()},
    }


def policy_file(folder: Path) -> str:
    text = (ROOT / "functions" / "policy.yaml").read_text(encoding="utf-8")
    for old, new in SHORTER:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "shorter.yaml").write_text(text, encoding="utf-8")
    return str(folder / "shorter.yaml")


def block(value: dict[str, Any], *path: str) -> dict[str, Any]:
    """A block of which there is at most one, by the names that lead to it."""
    for name in path:
        (value,) = value[name]
    return value


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mocked]:
    with started(tmp_path_factory.mktemp("terraform")) as terraform:
        if not isinstance(terraform, Mocked):
            pytest.skip("nothing can be applied: only tfmock applies without a cloud")
        yield terraform
