"""Cloud Build: the checks have no right but logs, and what has rights runs main alone. Each step
comes after what it needs, finds its files and commands, and names only what exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import blocks
from tests.infra.uploaded import uploaded
from tests.missing import missing
from tests.terraform import ROOT

FILES = ["cloudbuild.yaml", "cloudbuild.deploy.yaml"]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
CHECKS, DEPLOY = (yaml.safe_load(TEXTS[name]) for name in FILES)
README = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
STEPS = [(build, step) for build in (CHECKS, DEPLOY) for step in build["steps"]]
PLATFORM_SUBSTITUTIONS = {"PROJECT_ID", "BUILD_ID", "BRANCH_NAME"}
"""Cloud Build itself makes these."""
RIGHTS_OF_CHECKS = {"logging.logWriter"}
MAKER = {
    "artifact_registry": "artifactregistry.admin",
    "cloud_run": "run.admin",
    "cloud_scheduler": "cloudscheduler.admin",
    "cloud_tasks": "cloudtasks.admin",
    "cloudfunctions2": "cloudfunctions.admin",
    "logging": "logging.configWriter",
    "monitoring": "monitoring.admin",
    "project_iam": "resourcemanager.projectIamAdmin",
    "project_service": "serviceusage.serviceUsageAdmin",
    "pubsub": "pubsub.admin",
    "secret_manager": "secretmanager.admin",
    "service_account": "iam.serviceAccountAdmin",
    "storage": "storage.admin",
}
"""The role that makes the resources of infra/ whose types begin so, by Google's list of roles."""


def script(step: dict[str, Any]) -> str:
    return str(step["args"][-1])


def step_of(build: dict[str, Any], name: str) -> dict[str, Any]:
    [step] = [step for step in build["steps"] if step["id"] == name]
    return dict(step)


def before(build: dict[str, Any], name: str) -> set[str]:
    """The steps that must have ended before this one begins."""
    waits = set(step_of(build, name)["waitFor"]) - {"-"}
    return waits.union(*(before(build, wait) for wait in waits))


def shell_of(build: dict[str, Any], name: str, **values: str) -> "subprocess.CompletedProcess[str]":
    """Runs the first line of a step's script, with substitutions in their places."""
    line = script(step_of(build, name)).splitlines()[0]
    for key, value in values.items():
        line = line.replace(f"${{{key}}}", value)
    return subprocess.run(
        ["bash", "-ceu", f"{line}\necho went on"], capture_output=True, text=True, check=False
    )


# -- who may do what


def test_the_checks_run_as_an_account_that_may_write_logs_and_nothing_else() -> None:
    assert "${_CHECKER}@" in CHECKS["serviceAccount"]
    assert "${_DEPLOYER}@" in DEPLOY["serviceAccount"]
    granted = re.findall(
        r"^gcloud projects .*:unstuck-checker@\S+ --role=roles/([\w.]+)", README, re.MULTILINE
    )
    assert set(granted) == RIGHTS_OF_CHECKS
    for account in re.findall(r"^gcloud builds triggers create .*$", README, re.MULTILINE):
        named = re.findall(r"--(?:build-config|service-account)=(\S+)", account)
        assert ("cloudbuild.yaml" in named) == any("unstuck-checker@" in one for one in named)


def test_the_deploy_may_make_whatever_is_in_infra() -> None:
    texts = "".join(file.read_text("utf-8") for file in sorted((ROOT / "infra").glob("*.tf")))
    kinds = set(re.findall(r'^resource "google_(\w+)"', texts, re.MULTILINE))
    [roles] = re.findall(r"^for role in ([\w. ]+); do$", README, re.MULTILINE)
    for kind in kinds:
        [role] = {role for prefix, role in MAKER.items() if kind.startswith(prefix)}
        assert role in roles.split(), kind
    assert {"iam.serviceAccountUser", "logging.logWriter"} <= set(roles.split())


def test_the_checks_touch_neither_the_state_nor_the_project() -> None:
    for name in ("terraform plan", "terraform apply", "smoke.py", "_STATE_BUCKET", "_DEPLOYER"):
        assert name not in TEXTS["cloudbuild.yaml"]
    assert "-backend=false" in script(step_of(CHECKS, "terraform-check"))


def test_what_has_rights_runs_no_tests_and_no_branch_but_main() -> None:
    for name in ("pytest", "requirements-dev", "terraform test"):
        assert name not in TEXTS["cloudbuild.deploy.yaml"]
    for step in DEPLOY["steps"][1:]:
        assert "main-alone" in before(DEPLOY, step["id"])
    assert "went on" in shell_of(DEPLOY, "main-alone", BRANCH_NAME="main").stdout
    for branch in ("", "main2", "feature/main"):
        refused = shell_of(DEPLOY, "main-alone", BRANCH_NAME=branch)
        assert refused.returncode == 1
        assert "went on" not in refused.stdout
    [trigger] = [
        line for line in README.splitlines() if "triggers create" in line and "deploy.yaml" in line
    ]
    assert "--branch-pattern=^main$" in trigger
    assert "--require-approval" in trigger


def test_only_the_saved_plan_is_applied_and_only_when_asked_for() -> None:
    assert DEPLOY["substitutions"]["_APPLY"] == "false"
    [line] = [line for line in TEXTS["cloudbuild.deploy.yaml"].splitlines() if "form apply" in line]
    assert line.endswith("saved.plan")
    assert "-out=saved.plan" in script(step_of(DEPLOY, "plan"))
    for name in ("apply", "smoke"):
        assert "went on" not in shell_of(DEPLOY, name, _APPLY="false").stdout
        assert "went on" in shell_of(DEPLOY, name, _APPLY="true").stdout


def test_the_smoke_test_can_be_switched_off() -> None:
    lines = script(step_of(DEPLOY, "smoke")).splitlines()
    assert lines[1].startswith('if [ "${_SMOKE}" = off ]; then')
    assert DEPLOY["substitutions"]["_SMOKE"] == "on"


# -- what a step finds


def test_the_checks_get_every_file_of_the_repository_and_nothing_that_is_made_or_secret(
    tmp_path: Path,
) -> None:
    assert (
        "gcloud builds submit --config=cloudbuild.yaml --ignore-file=.gcloudignore.build" in README
    )
    files = set(uploaded(".gcloudignore.build", tmp_path))
    kept = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tracked = set(kept.stdout.splitlines())
    assert tracked <= files
    assert {
        "requirements-dev.txt",
        "pyproject.toml",
        "infra/versions.tf",
        "infra/smoke.py",
        "infra/examples/minimal.tfvars",
    } <= files
    made = re.compile(
        r"(^|/)(\.venv|\.cache|\.terraform|__pycache__|build)/|\.tfstate|\.env$"
        r"|^(?!infra/examples/[^/]+$).*\.tfvars$"
    )
    assert not [name for name in files if made.search(name)]


def test_a_secret_that_lies_in_the_folder_is_not_uploaded(tmp_path: Path) -> None:
    patterns = (ROOT / ".gcloudignore.build").read_text(encoding="utf-8").splitlines()
    assert {"*.tfvars", "*.tfstate", ".env", ".git"} <= set(patterns)


@pytest.fixture(scope="module")
def slim_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of python:slim: Debian's essential and required packages, and what the step
    `tests` installs."""
    if not shutil.which("dpkg-query"):
        missing("dpkg-query is not here: the packages of the image are looked up on Debian")
    fields = "${Package} ${Essential} ${Priority}\n"
    asked = subprocess.run(
        ["dpkg-query", "-W", f"-f={fields}"], capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in asked.stdout.splitlines()]
    packages = [row[0] for row in rows if "yes" in row[1:] or "required" in row[1:]]
    [line] = [
        one for one in script(step_of(CHECKS, "tests")).splitlines() if "apt-get install" in one
    ]
    packages += re.findall(r" ([a-z]+)(?= |$)", line.partition("recommends")[2].partition(">")[0])
    folder = tmp_path_factory.mktemp("bin")
    listed = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True, check=False)
    for file in re.findall(r"^/(?:usr/)?s?bin/\S+$", listed.stdout, re.MULTILINE):
        target = folder / Path(file).name
        if os.access(file, os.X_OK) and not target.exists():
            target.symlink_to(file)
    return folder


def test_the_tests_find_their_commands_in_the_image(slim_path: Path) -> None:
    tutorial = "\n".join(one.text for one in blocks(ROOT / "docs" / "tutorial.md", "sh"))
    used = {name for name in ("curl", "make", "git") if re.search(rf"\b{name}\b", tutorial)}
    for name in used | {"git", "bash"}:
        assert (slim_path / name).exists(), f"{name} is not in the image of the step `tests`"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/infra/test_archive.py",
            "-k",
            "holds",
        ],
        cwd=ROOT,
        env={"PATH": str(slim_path), "HOME": str(slim_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# -- the files themselves


@pytest.mark.parametrize("file", FILES)
def test_each_substitution_that_is_used_is_declared_and_each_declared_one_is_used(
    file: str,
) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", TEXTS[file]))
    assert used - PLATFORM_SUBSTITUTIONS == set(yaml.safe_load(TEXTS[file])["substitutions"])
    assert not re.search(r"(?<!\$)\$(?![{$])\w", TEXTS[file]), "a shell variable needs $$ here"


@pytest.mark.parametrize("build", [CHECKS, DEPLOY], ids=FILES)
def test_no_image_floats_no_secret_is_a_substitution_and_logs_go_to_cloud_logging(
    build: dict[str, Any],
) -> None:
    for step in build["steps"]:
        image = build["substitutions"][step["name"].strip("${}")]
        assert re.search(r":v?\d+\.\d+\.\d+(-[a-z-]+)?$", image), f"{image} may change tomorrow"
    secret = re.compile("SECRET|TOKEN|PASSWORD|KEY|DATABASE")
    assert not [name for name in build["substitutions"] if secret.search(name)]
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY", "required with an own account"


@pytest.mark.parametrize("step", [step for _, step in STEPS], ids=[step["id"] for _, step in STEPS])
def test_a_step_ends_at_its_first_error_and_names_files_that_are_there(
    step: dict[str, Any],
) -> None:
    assert step["args"][0] == "-ceu"
    folder = ROOT / step.get("dir", ".")
    made = {"backend.tf", "saved.plan", "plan.txt", "outputs.json"}
    for name in re.findall(r"[\w./-]+\.(?:py|txt|yaml|tf|json|example|plan)\b", script(step)):
        assert Path(name).name in made or (folder / name).exists(), name


def test_the_deploy_plans_before_it_applies_and_applies_before_it_smokes() -> None:
    assert before(CHECKS, "tests") == {"lint"}
    assert before(DEPLOY, "apply") == {"main-alone", "plan"}
    assert before(DEPLOY, "smoke") == {"main-alone", "plan", "apply"}


def test_what_terraform_is_given_are_its_variables() -> None:
    variables = (ROOT / "infra" / "variables.tf").read_text(encoding="utf-8")
    declared = set(re.findall(r'^variable "(\w+)"', variables, re.MULTILINE))
    assert set(re.findall(r"TF_VAR_(\w+)", TEXTS["cloudbuild.deploy.yaml"])) <= declared


def test_what_is_installed_for_the_smoke_test_is_what_it_imports() -> None:
    smoke = (ROOT / "infra" / "smoke.py").read_text(encoding="utf-8")
    assert {"requests", "google"} <= set(
        re.findall(r"^\s*(?:import|from) (\w+)", smoke, re.MULTILINE)
    )
    assert "requests==" in (ROOT / "requirements.txt").read_text(encoding="utf-8")
