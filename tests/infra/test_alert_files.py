"""The alerts as files: promtool judges them, and each has a page whose commands and names exist."""

import re
import shlex

import pytest
import yaml

from functions.core.policy import DEFAULT
from functions.core.states import Reason
from functions.ops.command_line import parser
from tests.infra.gcloud import unknown
from tests.promtool import promtool
from tests.terraform import ROOT

ALERTS = ROOT / "infra" / "alerts"
RUNBOOKS = sorted((ROOT / "infra" / "runbooks").glob("*.md"))
HEADINGS = ["What broke", "User impact", "First commands", "Likely causes", "Fix", "Escalate"]
RULES = [
    one
    for group in yaml.safe_load((ALERTS / "rules.yaml").read_text())["groups"]
    for one in group["rules"]
]
LOG_MATCH = yaml.safe_load((ALERTS / "log_match.yaml").read_text())["alerts"]
OPTIONAL = re.findall(r"\{ (\w+) = \{ severity", (ROOT / "infra" / "outside.tf").read_text())
NAMES = [one["alert"] for one in RULES + LOG_MATCH] + OPTIONAL


def test_the_rules_are_right_by_promtool_and_say_what_their_tests_expect():
    done = promtool("check", "rules", ALERTS / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = promtool("test", "rules", "rules_test.yaml", cwd=ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_seen_to_fire_and_to_be_silent():
    cases = [
        one
        for test in yaml.safe_load((ALERTS / "rules_test.yaml").read_text())["tests"]
        for one in test["alert_rule_test"]
    ]
    for rule in RULES:
        fired = {bool(one["exp_alerts"]) for one in cases if one["alertname"] == rule["alert"]}
        assert fired == {True, False}, rule["alert"]


def test_no_window_is_wider_than_cloud_monitoring_allows():
    units = {"": 1, "s": 1, "m": 60, "h": 3600}
    for rule in RULES:
        widths = [
            int(number) * units[unit]
            for number, unit in re.findall(r"\[(\d+)([smh]?)\]", rule["expr"])
        ]
        assert widths
        assert max(widths) + int(rule["for"].removesuffix("s")) <= 25 * 3600, rule["alert"]


BURN = (["1h", "1h", "5m", "5m", "1h"], ["> 14.4", "> 14.4", ">= 10"], "0s")
PROMISES = {
    "TaskFailureBurnFast": BURN,
    "TaskFailureBurnMedium": (["6h", "6h", "30m", "30m", "6h"], ["> 6", "> 6", ">= 10"], "0s"),
    "TaskFailureBurnSlow": (["24h", "24h", "2h", "2h", "24h"], ["> 3", "> 3", ">= 10"], "0s"),
    "SweepSilent": (["900s"], [], "300s"),
    "SweepFailing": (["15m"], [">= 2"], "0s"),
    "SweepIncomplete": (["30m", "30m", "900s"], [">= 5"], "300s"),
    "SweepSuspended": (["15m"], [">= 1"], "0s"),
    "TaskOverdue": (["10m", "10m"], ["> 900"], "300s"),
    "TaskUnsweepable": (["30m"], [">= 3"], "0s"),
    "PendingTooOld": (["10m", "10m"], ["> 300"], "300s"),
    "RescueRateHigh": (["1h"] * 5, [">= 5", "> "], "0s"),
    "LeaseLost": (["1h"], [">= 3"], "0s"),
    "ZombieWriteRefused": (["1h"], [">= 3"], "0s"),
    "SettleFailed": (["15m"], [">= 3"], "0s"),
    "DispatchFailed": (["15m"], [">= 3"], "0s"),
    "FunctionErrors": (["5m", "5m", "5m"], ["> 0.05", ">= 5"], "300s"),
    "MemoryHigh": (["5m"], ["> 0.9"], "600s"),
}
"""Of each alert: the windows and the comparisons of its expression in their order, and how long it
must be true. Days of some hours cannot tell a window of 6 hours from one of 8."""


def test_each_rule_looks_as_far_back_and_waits_as_long_as_was_promised():
    found = {
        rule["alert"]: (
            re.findall(r"\[(\w+)\]", rule["expr"]),
            re.findall(r"[<>]=? [\d.]*", rule["expr"]),
            rule["for"],
        )
        for rule in RULES
    }
    assert found == PROMISES


def test_the_numbers_of_the_rules_are_those_of_the_policy():
    policy = yaml.safe_load(DEFAULT.read_text())
    marks = [
        mark
        for rule in RULES
        for mark in re.findall(
            r"([0-9.]+)[^0-9.\n]*# ([a-z]+)\.([a-z_]+)$", rule["expr"], re.MULTILINE
        )
    ]
    known = set(policy["alerts"]) | {"budget"}
    assert {name for _, _, name in marks} == known, "each number is used"
    for number, section, name in marks:
        if name == "budget":
            assert float(number) == pytest.approx(1 - policy["slo"]["goal"])
        else:
            assert float(number) == seconds(policy[section][name]), name


def seconds(value):
    match = re.fullmatch(r"([0-9.]+)([smh]?)", str(value))
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def test_each_alert_has_a_page_and_each_page_an_alert():
    assert len(set(NAMES)) == len(NAMES)
    assert len(OPTIONAL) == 2
    assert sorted(NAMES) == [page.stem for page in RUNBOOKS]


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_page_says_all_that_is_asked_at_night_and_fits_into_a_mail(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^# (.+)$", text.partition("```")[0], re.MULTILINE) == [page.stem]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    for section in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert len(section.strip()) > 20
    assert len(text) <= 8192, "Cloud Monitoring cuts what is longer"


def commands(text):
    """Every command of ours and of gcloud: in fenced blocks and in backticks."""
    fenced = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    quoted = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    yield from (one for one in fenced + quoted if one.startswith(("unstuck ", "gcloud ")))


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_each_command_of_a_page_exists(page):
    found = list(commands(page.read_text(encoding="utf-8")))
    assert len(found) >= 3
    for command in found:
        words = shlex.split(command)
        if words[0] == "gcloud":
            assert unknown(words) == [], command
        else:
            parser().parse_args(words[1:])  # exits with 2 where it does not exist


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_each_name_of_the_policy_of_a_reason_and_of_another_page_exists(page):
    text = page.read_text(encoding="utf-8")
    policy = yaml.safe_load(DEFAULT.read_text())
    for section, name in re.findall(r"`(platform|lease|sweep|slo|alerts)\.(\w+)`", text):
        assert name in policy[section], f"{section}.{name}"
    for name in re.findall(r"`rules\.(\w+)`", text):
        assert name in policy["watches"]["tasks"]["rules"]["*"], name
    for group, name in re.findall(r"`sizes\.(\w+|\*)\.(\w+)`", text):
        variables = (ROOT / "infra" / "variables.tf").read_text()
        assert group == "*" or re.search(
            rf"^    {group} += optional\(object", variables, re.MULTILINE
        )
        assert re.search(rf"^      {name} +=", variables, re.MULTILINE), name
    for name in re.findall(r"\b(?:[A-Z][a-z0-9]+){2,}\b", re.sub(r"`[^`]*`", "", text)):
        assert name in NAMES or name == "SQLSTATE", name
    for name in re.findall(r"reasons? (?:is|are) `([a-z_]+)`", text):
        assert name in set(Reason), name
