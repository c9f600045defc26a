"""infra/README.md: its commands exist, and deploy what main.py has with what settings.py reads and
the times of the policy."""

import re
import shlex

import pytest
import yaml

from functions.core.policy import DEFAULT, load
from tests.infra.gcloud import unknown
from tests.infra.test_alert_files import LOG_MATCH, RULES
from tests.infra.test_terraform import PLATFORM_ENV, entry_points, names_in_settings
from tests.terraform import ROOT

TEXT = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [re.search(r"gcloud .*", line)[0] for line in LINES if "gcloud " in line]
POLICY = load(str(DEFAULT))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[:4]))
def test_each_command_of_gcloud_and_each_of_its_flags_exists(command):
    assert unknown(shlex.split(command)) == []


def deployments():
    """(name, flags) of each `gcloud functions deploy`."""
    found = [shlex.split(command) for command in COMMANDS if " functions deploy " in command]
    return {
        words[3]: dict(word.lstrip("-").partition("=")[::2] for word in words[4:])
        for words in found
    }


def test_what_is_deployed_are_entry_points_under_their_names():
    assert len(deployments()) >= 5
    for name, flags in deployments().items():
        assert flags["entry-point"] in entry_points()
        assert name == f"unstuck-{flags['entry-point'].replace('_', '-')}"
        assert "gen2" in flags
        assert "no-allow-unauthenticated" in flags
        assert flags["region"] == "us-central1"


def test_each_variable_that_is_set_is_read_and_the_database_is_a_secret():
    [line] = [line for line in LINES if line.startswith("env=")]
    given = dict(one.split("=", 1) for one in line.removeprefix("env=").split(","))
    assert set(given) <= names_in_settings() | PLATFORM_ENV
    assert given["WORKER_URL"].endswith("/unstuck-worker")
    for flags in deployments().values():
        assert flags["set-env-vars"] == "$env"
        assert flags["set-secrets"] == "DATABASE_URL=unstuck-database-url:latest"


def seconds(text):
    return float(text.removesuffix("s"))


def test_the_times_are_those_of_the_policy():
    found = deployments()
    assert seconds(found["unstuck-worker"]["timeout"]) == POLICY.timeout
    sweep = seconds(found["unstuck-sweep"]["timeout"])
    assert sweep == POLICY.sweep_budget + 60
    [job] = [shlex.split(command) for command in COMMANDS if "jobs create http" in command]
    flags = dict(word.lstrip("-").partition("=")[::2] for word in job[6:])
    assert (flags["schedule"], POLICY.sweep_every) == ("* * * * *", 60)
    assert seconds(flags["attempt-deadline"]) == sweep + 30
    assert flags["uri"] == flags["oidc-token-audience"]
    assert flags["uri"].endswith("/unstuck-sweep")


def test_who_is_called_may_be_called_by_who_calls():
    bound = {
        tuple(command.split()[4:5])
        for command in COMMANDS
        if "run services add-iam-policy-binding" in command
    }
    assert bound == {("unstuck-worker",), ("unstuck-sweep",)}
    invokers = {
        word
        for command in COMMANDS
        for word in command.split()
        if word.startswith("--oidc-service-account-email")
    }
    assert invokers == {
        "--oidc-service-account-email=unstuck-invoker@PROJECT_ID.iam.gserviceaccount.com"
    }


def test_each_alert_is_in_the_table_with_its_level_and_the_numbers_that_it_reads():
    rows = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (.*) \|$", TEXT, re.MULTILINE))
    alerts = {one["alert"]: one for one in RULES + LOG_MATCH}
    assert set(rows) == set(alerts)
    policy = yaml.safe_load(DEFAULT.read_text())
    for name, row in rows.items():
        level, _, numbers = (cell.strip() for cell in row.split(" | "))
        assert level == alerts[name]["labels"]["severity"]
        named = set(re.findall(r"`(\w+\.\w+)`", numbers))
        read = set(re.findall(r"# (\w+\.\w+)$", alerts[name].get("expr", ""), re.MULTILINE))
        read = {one.replace("slo.budget", "slo.goal") for one in read}
        assert read == named - {"sweep.mass_expiry"}, name
        for one in named:
            section, key = one.split(".")
            assert key in policy[section]


def test_each_variable_that_is_named_exists():
    declared = set(
        re.findall(
            r'^variable "(\w+)"', (ROOT / "infra" / "variables.tf").read_text(), re.MULTILINE
        )
    )
    named = set(re.findall(r"`(\w+) = ", TEXT)) | {
        "api_invokers",
        "users",
        "cors_origins",
        "remote_workers",
        "page_viewers",
        "renotify",
    }
    named |= set(
        re.findall(
            r"^(\w+) += ", "\n".join(re.findall(r"```hcl\n(.*?)```", TEXT, re.DOTALL)), re.MULTILINE
        )
    )
    assert named - {"min"} <= declared


def test_the_numbers_of_conditions_and_metrics_are_right():
    metrics = yaml.safe_load((ROOT / "infra" / "alerts" / "metrics.yaml").read_text())["metrics"]
    assert (
        f"{len(RULES)} conditions with PromQL each minute, {len(LOG_MATCH)} on log lines; "
        f"{len(metrics)} metrics" in TEXT
    )
