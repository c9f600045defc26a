"""The real terraform for tests, on a real provider where one can be had, else on tfmock (its folder
in TFMOCK).

tfmock serves the providers' schemas, offline, and refuses what the platform would. Without it
`terraform init` must reach its registry; then only what is known before an apply can be read."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.missing import missing

ROOT = Path(__file__).parents[1]
CACHED = ROOT / ".cache" / "terraform" / "terraform"
ENABLED_BY_HAND = ("cloudresourcemanager", "serviceusage")
"""What infra/README.md enables before the first `terraform apply`."""
FILLED_BY_HAND = ("unstuck-database-url",)
Done = subprocess.CompletedProcess[str]
Json = dict[str, Any]
READ_BY_TERRAFORM = ("policy.yaml", "handlers/selection.py")
"""What infra/ reads of functions/ by name. The other files only go into the archive, over which
Terraform spends two thirds of the time of each plan."""


def binary() -> str:
    """The path of terraform."""
    found = (
        os.environ.get("TERRAFORM")
        or shutil.which("terraform")
        or (str(CACHED) if CACHED.exists() else None)
    )
    return found or missing(
        "terraform is not here: run `make terraform`, or put terraform >= 1.11 into PATH or "
        "TERRAFORM"
    )


def copied(folder: Path, *, whole: bool) -> Path:
    """A copy of infra/ beside what it deploys, or, when not `whole`, beside what it reads."""
    ignored = shutil.ignore_patterns("__pycache__", "build", ".terraform", "terraform.tfstate*")
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=ignored)
    if whole:
        shutil.copytree(ROOT / "functions", folder / "functions", ignore=ignored)
    for name in () if whole else READ_BY_TERRAFORM:
        target = folder / "functions" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "functions" / name, target)
    for name in ("main.py", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    return folder / "infra"


class Terraform:
    """Terraform in a copy of infra/, with the providers of its registry."""

    complete = False
    """Whether `apply` applies, so that what the cloud would make up, such as URLs, is there
    afterwards."""

    def __init__(self, work: Path, env: dict[str, str] | None = None) -> None:
        self.work = work
        token = {"GOOGLE_OAUTH_ACCESS_TOKEN": "none", "TF_INPUT": "0", "TF_CLI_ARGS": "-no-color"}
        self._env = os.environ | token | (env or {})

    def run(self, *arguments: str) -> Done:
        command = [binary(), f"-chdir={self.work}", *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)

    def init(self) -> Done:
        return self.run("init", "-backend=false")

    def plan(self, **variables: Any) -> Done:
        return self.run(
            "plan", "-detailed-exitcode", f"-out={self.work}/saved", *arguments(variables)
        )

    def planned(self, **variables: Any) -> Json:
        """The plan as `terraform show -json` prints it."""
        done = self.plan(**variables)
        assert done.returncode in {0, 2}, done.stdout + done.stderr
        return self._json("show", "-json", f"{self.work}/saved")

    def apply(self, **variables: Any) -> Done:
        """Only plans: there is no cloud to apply to."""
        return self.plan(**variables)

    def state(self) -> Json:
        """What there is after `apply`, as `terraform show -json` prints it."""
        return self._json("show", "-json", f"{self.work}/saved")

    def _json(self, *arguments: str) -> Json:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


class Mocked(Terraform):
    """The same with the providers of tfmock, which keeps a copy of its own and makes up what the
    cloud would."""

    complete = True

    def __init__(self, session: Any) -> None:
        self._session, self.work = session, Path(session.work)

    def run(self, *arguments: str) -> Done:
        done = self._session.run(
            *arguments, capture=True
        )  # with stderr in stdout, where TF may warn about its own settings
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, "")

    def init(self) -> Done:
        return self._session.init()

    def apply(self, **variables: Any) -> Done:
        return self.run("apply", "-auto-approve", *arguments(variables))

    @property
    def provider(self) -> dict[str, str]:
        """The variable by which any terraform finds this provider."""
        return {"TF_REATTACH_PROVIDERS": self._session.env["TF_REATTACH_PROVIDERS"]}

    def fill(self, secret: str) -> None:
        """As `gcloud secrets versions add`."""
        self._session.cloud.fill(secret)

    def warnings(self, **variables: Any) -> list[str]:
        """What may go wrong on a first apply: APIs that are not waited for, quotas."""
        return list(self._session.warnings(variables))

    def state(self) -> Json:
        return self._json("show", "-json")

    def _json(self, *arguments: str) -> Json:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout
        return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def arguments(variables: Json) -> list[str]:
    return [
        f"-var={name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in variables.items()
    ]


@contextmanager
def started(
    folder: Path, filled: Sequence[str] = FILLED_BY_HAND, *, whole: bool = False
) -> Iterator[Terraform]:
    """Terraform on a copy of infra/, after `init`. `folder` is a temporary one; `filled` are the
    secrets that have a value before the functions are made; `whole` puts all of functions/ into the
    archive."""
    work = copied(folder, whole=whole)
    if mock := os.environ.get("TFMOCK"):
        sys.path.append(mock)
        try:
            from tfmock import Session
        except ImportError as error:
            missing(
                f"TFMOCK is {mock}, but {error}: set it to the folder of tfmock, run `make install`"
            )
        with Session(
            work,
            terraform=binary(),
            platform=True,
            apis_enabled=ENABLED_BY_HAND,
            secrets_filled=filled,
        ) as session:
            # A short process needs few collections of its garbage, while the machine has room.
            session.env |= {"GOGC": "400", "GOMEMLIMIT": "1GiB"}
            leave_what_is_named(session, work)
            made = Mocked(session)
            assert made.init().returncode == 0
            yield made
        return
    real = Terraform(work)
    if real.init().returncode:
        pytest.skip("terraform has no provider: let it reach its registry, or set TFMOCK to tfmock")
    yield real


def leave_what_is_named(session: Any, work: Path) -> None:
    """Each command reads what the provider says of all its types. Of 1,806 types infra/ names 42,
    and a plan with those alone takes half of the CPU: 1.7 to 2.2 s instead of 3.6."""
    text = "".join(file.read_text(encoding="utf-8") for file in work.rglob("*.tf"))
    named = set(re.findall(r'"(google_\w+)"', text))
    for provider in (session.google, session.google_beta):
        for types in (provider.resources, provider.data_sources):
            for name in types.keys() - named:
                del types[name]


def resources(document: Json) -> dict[str, Json]:
    """The arguments of each resource by its address, of a plan or of a state; and of the data
    sources it read."""
    found = document.get("planned_values") or document["values"]
    prior = document.get("prior_state", {}).get("values", {})
    read = {one["address"]: one["values"] for one in _all(prior) if one["mode"] == "data"}
    return read | {one["address"]: one["values"] for one in _all(found)}


def dependencies(document: Json) -> dict[str, list[str]]:
    """Of a state: by the address of a resource without its key, after which others it was made.
    What comes before those anyway is left out."""
    earlier: dict[str, set[str]] = {}
    for one in _all(document.get("values", {})):
        address = one["address"].split("[")[0]
        earlier.setdefault(address, set()).update(one.get("depends_on", []))
    found = {}
    for address, addresses in earlier.items():
        further = {after for one in addresses for after in earlier.get(one, ()) if one != after}
        found[address] = sorted(addresses - further)
    return found


def _all(values: Json) -> Iterator[Json]:
    waiting = [values["root_module"]] if values else []
    while waiting:
        module = waiting.pop()
        yield from module.get("resources", [])
        waiting += module.get("child_modules", [])
