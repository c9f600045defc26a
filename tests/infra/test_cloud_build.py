"""cloudbuild.yaml: its steps wait for each other as they must, apply nothing unasked, and name only
what exists."""

import re
from pathlib import Path

import pytest
import yaml

from tests.terraform import ROOT

TEXT = (ROOT / "cloudbuild.yaml").read_text(encoding="utf-8")
BUILD = yaml.safe_load(TEXT)
STEPS = {step["id"]: step for step in BUILD["steps"]}
GIVEN = {"PROJECT_ID", "BUILD_ID"}
"""Substitutions that Cloud Build itself makes."""


def script(step):
    return step["args"][-1]


def test_each_step_comes_after_what_it_needs():
    def before(name):
        waits = set(STEPS[name]["waitFor"]) - {"-"}
        return waits | {one for wait in waits for one in before(wait)}

    assert set(STEPS) == {
        "lint",
        "tests",
        "terraform-check",
        "alerts-check",
        "plan",
        "apply",
        "smoke",
    }
    assert before("plan") == {"lint", "tests", "terraform-check", "alerts-check"}
    assert before("apply") == before("plan") | {"plan"}
    assert before("smoke") == before("apply") | {"apply"}


def test_only_the_saved_plan_is_applied_and_only_when_asked_for():
    assert BUILD["substitutions"]["_APPLY"] == "false"
    applies = {
        name: line
        for name, step in STEPS.items()
        for line in script(step).splitlines()
        if "terraform apply" in line
    }
    assert list(applies) == ["apply"]
    assert applies["apply"].endswith("saved.plan")
    assert "-out=saved.plan" in script(STEPS["plan"])
    for name in ("apply", "smoke"):
        first = script(STEPS[name]).splitlines()[0]
        assert re.fullmatch(r'if \[ "\$\{_APPLY\}" != true \]; then echo ".+"; exit 0; fi', first)


def test_no_image_floats():
    images = {BUILD["substitutions"][step["name"].strip("${}")] for step in STEPS.values()}
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+(-[a-z-]+)?$", image), (
            f"{image} may be another one tomorrow"
        )


def test_each_substitution_that_is_used_is_declared_and_each_declared_one_is_used():
    used = set(re.findall(r"\$\{(\w+)\}", TEXT))
    assert used - GIVEN == set(BUILD["substitutions"])
    assert not re.search(r"(?<!\$)\$(?![{$])\w", TEXT), "a variable of the shell needs $$ here"


def test_the_build_runs_as_an_account_of_its_own_whose_logs_go_to_cloud_logging():
    assert "${_DEPLOYER}@" in BUILD["serviceAccount"]
    assert BUILD["options"]["logging"] == "CLOUD_LOGGING_ONLY", (
        "another place is refused with such an account"
    )


def test_no_secret_is_a_substitution():
    assert not [
        name
        for name in BUILD["substitutions"]
        if re.search("SECRET|TOKEN|PASSWORD|KEY|DATABASE", name)
    ]


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_ends_at_its_first_error_and_names_files_that_are_there(step):
    assert step["args"][0] == "-ceu"
    folder = ROOT / step.get("dir", ".")
    assert folder.is_dir()
    made = {"backend.tf", "saved.plan", "plan.txt", "outputs.json"}
    for name in re.findall(r"[\w./-]+\.(?:py|txt|yaml|tf|json|example|plan)\b", script(step)):
        assert Path(name).name in made or (folder / name).exists(), name


def test_what_terraform_is_given_are_its_variables():
    declared = set(
        re.findall(
            r'^variable "(\w+)"', (ROOT / "infra" / "variables.tf").read_text(), re.MULTILINE
        )
    )
    assert set(re.findall(r"TF_VAR_(\w+)", TEXT)) <= declared


def test_what_is_installed_for_the_smoke_test_is_what_it_imports():
    imports = set(
        re.findall(
            r"^\s*(?:import|from) (\w+)", (ROOT / "infra" / "smoke.py").read_text(), re.MULTILINE
        )
    )
    assert {"requests", "google"} <= imports
    assert "requests==" in (ROOT / "requirements.txt").read_text()
