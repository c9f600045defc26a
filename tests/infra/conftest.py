"""What the tests of infra/ share: one Terraform, and what it makes of the defaults and of
everything switched on.

A run costs seconds, so what it gave is kept in a file that all processes of a test run share."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.terraform import (
    FILLED_BY_HAND,
    ROOT,
    Mocked,
    Terraform,
    arguments,
    dependencies,
    resources,
    started,
)

PROJECT = "demo-project"
APPLY_ONLY = "UNSTUCK_TESTS_APPLY_ONLY"
"""A variable that `make mutants` sets."""
FILM = "{run_for: 3h, runs_on: pool, memory: 6GB}"
SHORTER = (
    ("timeout: 600s", "timeout: 540s"),
    ("run_for: 570s", "run_for: 500s"),  # what Pub/Sub triggers ends at 540 s
    (
        "      selection:\n",
        "      film: {run_for: 3h, runs_on: pool, memory: 6GB}\n      selection:\n",
    ),
    ("\nslo:\n", "\naddresses: {default: {}, oncall: {severity: error}, books: {}}\n\nslo:\n"),
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
    "secret_versions": {"SUPABASE_KEY": 3, "NOTIFY_URL": 3, "NOTIFY_URL_BOOKS": 3},
    "pubsub": True,
    "secret_values": {
        "SUPABASE_KEY": "S3CRET",
        "NOTIFY_URL": "https://hooks.example.com/S3CRET",
        "NOTIFY_URL_BOOKS": "https://books.example.com/S3CRET",
    },
    "users": "secret",
    "api_invokers": ["allUsers", "user:me@example.com"],
    "remote_workers": ["serviceAccount:gpu@demo-project.iam.gserviceaccount.com"],
    "notify": {"signed": True},
    "notify_addresses": {"oncall": {"signed": True}, "books": {}},
    "callback_hosts": ["api.example.com", "*.example.org"],
    "sweep_ping": True,
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
    "notification_channels": ["projects/demo-project/notificationChannels/77"],
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
FILLED = [
    f"two-of-them-{secret}"
    for secret in (
        "supabase-jwt-secret",
        "notify-secret",
        "notify-url-oncall",
        "notify-secret-oncall",
        "callback-secret",
        "sweep-ping-url",
    )
]
"""The secrets of EVERYTHING to which people give a value."""


@dataclass(frozen=True)
class Applied:
    """What Terraform made of infra/ with some variables: the arguments of each resource by its
    address, after which others each is made, the plan as JSON, what each command said, and its exit
    code."""

    complete: bool
    resources: dict[str, dict[str, Any]]
    after: dict[str, list[str]]
    plan: str
    outputs: dict[str, str]
    codes: dict[str, int]


class Infra:
    """infra/ with the defaults, and with everything switched on. Each is applied when the first
    test of a run asks for it, and kept in a file that the processes of the run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def default(self) -> Applied:
        return self._applied("default", FILLED_BY_HAND, lambda _: {})

    @cached_property
    def switched_on(self) -> Applied:
        return self._applied(
            "everything", FILLED, lambda folder: {"policy_file": policy_file(folder), **EVERYTHING}
        )

    @property
    def complete(self) -> bool:
        return self.default.complete

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        return self.default.resources

    @property
    def everything(self) -> dict[str, dict[str, Any]]:
        return self.switched_on.resources

    def of_type(self, kind: str, *, everything: bool = False) -> dict[str, dict[str, Any]]:
        """The resources of one type, by what stands in the brackets of their address, or by their
        name."""
        found = self.everything if everything else self.resources
        return {
            _key(address): one
            for address, one in found.items()
            if address.split("[")[0].split(".")[-2] == kind
        }

    def _applied(
        self, name: str, filled: Sequence[str], more: Callable[[Path], dict[str, Any]]
    ) -> Applied:
        kept = self._folder / f"{name}.json"
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                folder = self._folder / name
                shutil.rmtree(folder, ignore_errors=True)  # of a process that was stopped
                with started(folder, filled) as terraform:
                    variables = {"project_id": PROJECT, **more(folder)}
                    kept.write_text(json.dumps(_run(terraform, variables)))
        return Applied(**json.loads(kept.read_text()))


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
def infra(shared: Path) -> Infra:
    return Infra(shared)


def _run(terraform: Terraform, variables: dict[str, Any]) -> dict[str, Any]:
    """Plan (of more than the defaults), apply, a second plan, and destroy. In `make mutants` only
    apply: what the others tell of costs three times as long, for each mutant."""
    applies_only = APPLY_ONLY in os.environ
    plan = None if applies_only or len(variables) == 1 else terraform.planned(**variables)
    done = {"apply": terraform.apply(**variables)}
    assert done["apply"].returncode in {0, 2}, done["apply"].stdout + done["apply"].stderr
    state = terraform.state()
    if terraform.complete and not applies_only:
        done["second plan"] = terraform.plan(**variables)
        done["destroy"] = terraform.run("destroy", "-auto-approve", *arguments(variables))
    return {
        "complete": terraform.complete,
        "resources": resources(state),
        "after": dependencies(state),
        "plan": json.dumps(plan),
        "outputs": {name: one.stdout + one.stderr for name, one in done.items()},
        "codes": {name: one.returncode for name, one in done.items()},
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
