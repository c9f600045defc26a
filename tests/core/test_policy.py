"""The policy: the bundle's own is sound, and every mistake in one is refused with its file, line,
path and next step."""

import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.core import policy as policies
from functions.core.policy import DEFAULT, Rule, load, parse
from functions.core.rule import PYTHON_ONLY
from functions.core.states import State
from functions.errors import PolicyError

TEXT = DEFAULT.read_text(encoding="utf-8")
NEXT_STEP = (
    r"Add|Set|Remove|Lower|Raise|Rename|Write|Known are|Give each|must be (a|one of|true|named)"
)


def changed(old: str, new: str, text: str = TEXT) -> str:
    """The bundle's policy with one change, which must meet exactly one place."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
    return text.replace(old, new)


def refusal(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return str(caught.value)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


# -- what is accepted


def test_the_policy_of_the_bundle_loads_with_the_defaults_that_the_documents_name():
    policy = load(str(DEFAULT))
    assert (policy.beat, policy.lease, policy.sweep_every) == (10, 30, 60)
    watch = policy.watch()
    assert watch is policy.watch("tasks")
    assert (watch.table, watch.key_type, watch.own) == ("public.tasks", "uuid", True)
    assert watch.words[State.RUNNING] == ("processing",)
    assert watch.words[State.RESTING] == ()
    assert watch.rule("anything").attempts == 3
    assert watch.rule("anything").memory == 400_000_000


def test_a_rule_takes_from_the_star_what_it_does_not_say():
    watch = load(str(DEFAULT)).watch()
    star, selection = watch.rule("*"), watch.rule("selection")
    assert (selection.run_for, selection.attempts) == (120, 2)
    same = set(Rule.field_types) - {"run_for", "attempts"}
    assert {name: getattr(selection, name) for name in same} == {
        name: getattr(star, name) for name in same
    }


def test_the_order_of_the_rules_does_not_matter():
    star = TEXT[TEXT.index('      "*":') : TEXT.index("      image:")]
    last = TEXT.replace(star, "") + "\n" + star
    assert parse(last).watch().rules == parse(TEXT).watch().rules


UNSET = ("pending_at_most", "limit_", "breaker_", "retention_")
"""Fields of a rule that travel only where the policy states them begin so."""


def test_the_rules_travel_to_the_database_whole_as_plain_json_and_short():
    watch = load(str(DEFAULT)).watch()
    rules = json.loads(watch.rules_json, parse_constant=pytest.fail)
    names = set(Rule.field_types) - PYTHON_ONLY
    unset = {name for name in names if name.startswith(UNSET)}
    assert rules["*"].keys() == names - unset | {"longest_pending_for", "ageing"}
    for kind, rule in watch.rules.items():
        unstated = {name: getattr(Rule, name) for name in unset}
        whole = {**unstated, **rules["*"], **rules[kind]}
        assert {name: whole[name] for name in vars(rule) if name not in PYTHON_ONLY} == {
            name: value for name, value in vars(rule).items() if name not in PYTHON_ONLY
        }
    assert rules["selection"] == {"run_for": 120, "attempts": 2}
    assert rules["*"]["longest_pending_for"] == 4 * max(
        rule.pending_for for rule in watch.rules.values()
    )


def test_a_task_may_wait_in_all_as_long_as_stated_or_four_times_pending_for():
    text = changed("pending_for: 15m", "pending_for: 15m\n        pending_at_most: 20m", TEXT)
    assert parse(TEXT).watch().rule("image").longest_wait == 4 * 900
    rule = parse(text).watch().rule("image")
    assert (rule.pending_at_most, rule.longest_wait) == (1200, 1200)
    assert json.loads(parse(text).watch().rules_json)["*"]["pending_at_most"] == 1200
    with pytest.raises(PolicyError, match="pending_at_most must not be shorter than pending_for"):
        parse(text.replace("pending_at_most: 20m", "pending_at_most: 10m"))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("600s", 600),
        ("10m", 600),
        ("0.25h", 900),
        ("1d", 86400),
        ("600", 600),
        ("'600 s'", 600),
        (".5d", 43200),
    ],
)
def test_a_time_may_be_written_in_any_unit(written, seconds):
    assert parse(changed("retention: 30d ", f"retention: {written} ")).retention == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1GiB", 2**30),
        ("1 GB", 10**9),
        ("500MB", 500 * 10**6),
        ("500MiB", 500 * 2**20),
        ("600000kb", 6 * 10**8),
        ("600000 KiB", 600_000 * 2**10),
        ("2000000B", 2_000_000),
        ("2000000", 2_000_000),
    ],
)
def test_a_size_may_be_written_in_any_unit(written, size):
    assert parse(changed("memory: 400MB ", f"memory: {written} ")).watch().rule("*").memory == size


def test_a_watch_is_what_its_file_says():
    watch = load(str(DEFAULT)).watch()
    assert watch.columns["error"] == "error_message"
    assert watch.clocks["queued"] == watch.clocks["due"] == ("scheduled_at",)
    assert (watch.hooks, watch.fence) == ({}, "enforce")
    text = changed(
        "    key: id",
        "    hooks: {on_failed: [refund, tell], on_created: public.hello}\n    key: id",
    )
    assert parse(text).watch().hooks == {
        "on_failed": ("refund", "tell"),
        "on_created": ("public.hello",),
    }
    text = changed("alive: updated_at", "alive: [beat_at, updated_at]")
    assert parse(text).watch().clocks["alive"] == ("beat_at", "updated_at")


def test_an_optional_part_is_installed_and_its_hooks_come_first():
    text = changed(
        "    key: id",
        "    optional: [credits, generations]\n    hooks: {on_completed: pay}\n    key: id",
    )
    watch = parse(text).watch()
    assert watch.optional == ("credits", "generations")
    assert watch.hooks["on_completed"] == (
        "unstuck.tasks_credits_on_completed",
        "unstuck.tasks_generations_on_completed",
        "pay",
    )
    assert watch.hooks["on_reopened"] == ("unstuck.tasks_credits_on_reopened",)


def test_a_kind_costs_what_its_rule_says_or_the_one_for_every_kind():
    text = changed("    key: id", "    optional: [credits]\n    key: id")
    text = changed("        attempts: 3", "        attempts: 3\n        cost: 25", text)
    text = changed(
        "        run_for: 2m",
        "        run_for: 2m\n        cost: {at_least: 5, at_most: 500}",
        text,
    )
    watch = parse(text).watch()
    costs = {
        kind: (watch.rule(kind).cost_at_least, watch.rule(kind).cost_at_most)
        for kind in ("image", "selection")
    }
    assert costs == {"image": (25, 25), "selection": (5, 500)}
    assert load(str(DEFAULT)).watch().rule("image").cost_at_most == 0


def test_a_table_that_does_not_say_so_is_not_ours_and_its_writers_are_not_refused():
    watch = parse(changed("    own: true ", "    # own: true ")).watch()
    assert (watch.own, watch.fence) == (False, "off")


def test_numbers_that_just_fit_are_accepted():
    text = changed("run_for: 570s", "run_for: 585s")
    text = changed("silent_for: 15m", "silent_for: 601s", text)
    text = changed("redispatch_after: 2m", "redispatch_after: 14m", text)
    text = changed("budget: 45s", "budget: 59s", text)
    rule = parse(changed("first: 2s", "first: 5m", text)).watch().rule("*")
    assert (rule.run_for, rule.silent_for, rule.backoff_first, rule.backoff_max) == (
        585,
        601,
        300,
        300,
    )


def test_words_of_a_table_may_be_numbers_and_many_for_one_state():
    words = (
        parse(changed("running: [processing]", "running: [processing, auditing, 7, true]"))
        .watch()
        .words
    )
    assert words[State.RUNNING] == ("processing", "auditing", 7, True)


def test_anchors_may_save_repetition():
    text = changed("backoff: {first: 2s", "backoff: &backoff {first: 2s") + "    # more\n"
    text = changed("      image:\n", "      image:\n        backoff: *backoff\n", text)
    assert parse(text).watch().rule("image").backoff_first == 2


def test_the_policy_is_found_by_the_path_and_else_by_the_environment(tmp_path, monkeypatch):
    mine = tmp_path / "mine.yaml"
    mine.write_text(changed("every: 60s", "every: 61s"))
    assert load(str(mine)).sweep_every == 61
    monkeypatch.setenv("UNSTUCK_POLICY", str(mine))
    load.cache_clear()
    try:
        assert load().sweep_every == 61
    finally:
        load.cache_clear()


def test_the_name_of_a_table_may_depend_on_the_environment(monkeypatch):
    monkeypatch.setenv("STAGE", "prod")
    assert (
        parse(changed("public.tasks", "public.tasks_${STAGE}")).watch().table == "public.tasks_prod"
    )


def test_a_watch_that_is_not_named_is_the_first_one():
    policy = load(str(DEFAULT))
    assert policy.watch(None).name == "tasks"
    with pytest.raises(KeyError):
        policy.watch("nothing")


# -- what is refused: the change, the path that is named, and what the text says

REFUSED = {
    "an unknown key at the top": (
        "platform:\n",
        "platfrom: 1\nplatform:\n",
        "platfrom",
        "is not known here",
    ),
    "an unknown key of the platform": (
        "  margin:",
        "  margins: 1s\n  margin:",
        "platform.margins",
        "is not known here",
    ),
    "an unknown key of a watch": (
        "    key: id",
        "    keys: id\n    key: id",
        "watches.tasks.keys",
        "is not known here",
    ),
    "an unknown state": (
        "      pending: [",
        "      waiting: [w]\n      pending: [",
        "tasks.words.waiting",
        "is not known",
    ),
    "an unknown column": (
        "      kind: kind",
        "      kin: kind",
        "tasks.columns.kin",
        "Known are: kind, input",
    ),
    "an unknown clock": (
        "      due: sch",
        "      dew: sch",
        "tasks.clocks.dew",
        "is not known here",
    ),
    "an unknown name in a rule": (
        "attempts: 2",
        "attemps: 2",
        "rules.selection.attemps",
        "is not known here",
    ),
    "an unknown hook": (
        "    key: id",
        "    hooks: {on_lunch: f}\n    key: id",
        "hooks.on_lunch",
        "Known are: on_created",
    ),
    "an optional part that is none": (
        "    key: id",
        "    optional: [credit]\n    key: id",
        "tasks.optional",
        "credit is not known here. Known are: credits, generations",
    ),
    "a cost that nothing takes": (
        "        attempts: 2",
        "        attempts: 2\n        cost: 5",
        "tasks.rules",
        "Add `optional: [credits]`",
    ),
    "a cost in fractions": (
        "        attempts: 2",
        "        attempts: 2\n        cost: 0.5",
        "selection.cost",
        "whole number",
    ),
    "a cost below nothing": (
        "        attempts: 2",
        "        attempts: 2\n        cost: -5",
        "selection.cost",
        "from 0",
    ),
    "costs that cross": (
        "        attempts: 2",
        "        attempts: 2\n        cost: {at_least: 6, at_most: 5}",
        "selection.cost.at_least",
        "must not be more than `at_most`",
    ),
    "one active that is no flag": (
        "        attempts: 2",
        "        attempts: 2\n        one_active: 1",
        "selection.one_active",
        "true or false",
    ),
    "no creates at all": (
        "    key: id",
        "    limits: {create_per_minute: 0}\n    key: id",
        "limits.create_per_minute",
        "from 1",
    ),
    "limits for a table of others": (
        "    own: true ",
        "    limits: {create_per_minute: 5}\n    own: false ",
        "tasks.limits",
        "Remove it",
    ),
    "a fence that is none": (
        "    key: id",
        "    fence: high\n    key: id",
        "tasks.fence",
        "off, observe, enforce",
    ),
    "types that are a list": (
        "    key: id",
        "    types: [text]\n    key: id",
        "tasks.types",
        "must be a mapping",
    ),
    "more to write that is unknown": (
        "    key: id",
        "    also: {failed: {a: b}}\n    key: id",
        "also.failed.a",
        "now, nothing",
    ),
    "more to write for no state": (
        "    key: id",
        "    also: {lost: {a: now}}\n    key: id",
        "also.lost",
        "is not known here",
    ),
    "a variable that is not set": (
        "public.tasks",
        "tasks_${NO_SUCH_STAGE}",
        "tasks.table",
        "NO_SUCH_STAGE of the environment",
    ),
    "a missing key": ("    key: id\n", "", "watches.tasks", "lacks `key`. Add it."),
    "a missing time": ("  budget: 45s ", "  # budget: 45s ", "sweep", "lacks `budget`. Add it."),
    "a rule for every kind that leaves something out": (
        "        on_lost: retry ",
        "        # ",
        "rules.*",
        "lacks `on_lost`",
    ),
    "a backoff that leaves something out": ("factor: 4, ", "", "rules.*.backoff", "lacks `factor`"),
    "no rule for every kind": (
        '      "*": ',
        "      any: ",
        "watches.tasks.rules",
        'lacks the rule "*"',
    ),
    "a time that is none": (
        "timeout: 600s",
        "timeout: soon",
        "platform.timeout",
        "such as 30s, 5m, 2h or 7d",
    ),
    "a time of nothing": ("timeout: 600s", "timeout: 0s", "platform.timeout", "above 0"),
    "a time below zero": ("timeout: 600s", "timeout: -5s", "platform.timeout", "above 0"),
    "a time without end": ("timeout: 600s", "timeout: .inf", "platform.timeout", "above 0"),
    "a time of ages": (
        "timeout: 600s",
        f"timeout: {'9' * 400}d",
        "platform.timeout",
        "at most 3650d",
    ),
    "a time in weeks": ("timeout: 600s", "timeout: 1w", "platform.timeout", "such as 30s"),
    "a time that YAML takes for a number to the base of 60": (
        "timeout: 600s",
        "timeout: 1:30",
        "timeout",
        "such as 30s",
    ),
    "a time that YAML takes for a date": (
        "timeout: 600s",
        "timeout: 2001-99-99",
        "platform.timeout",
        "such as 30s",
    ),
    "an empty time": ("timeout: 600s", "timeout:     ", "platform.timeout", "such as 30s"),
    "a list in place of a time": (
        "timeout: 600s",
        "timeout: [1s]",
        "platform.timeout",
        "such as 30s",
    ),
    "a size that is none": (
        "memory: 400MB",
        "memory: much",
        "rules.*.memory",
        "such as 400MB or 1GiB",
    ),
    "a size in half units": ("memory: 400MB", "memory: 0.5GB", "rules.*.memory", "such as 400MB"),
    "a size without its unit": ("memory: 400MB", "memory: 400", "rules.*.memory", "from 1MB"),
    "a size of nothing": ("memory: 400MB", "memory: 0MB", "rules.*.memory", "from 1MB"),
    "a size beyond any machine": (
        "memory: 400MB",
        f"memory: {'9' * 5000}",
        "rules.*.memory",
        "from 1MB",
    ),
    "attempts that are none": (
        "attempts: 3",
        "attempts: 0",
        "rules.*.attempts",
        "whole number from 1 to 100",
    ),
    "attempts in halves": ("attempts: 3", "attempts: 1.5", "rules.*.attempts", "whole number"),
    "attempts that YAML takes for true": (
        "attempts: 3",
        "attempts: yes",
        "rules.*.attempts",
        "whole number",
    ),
    "a share above one": (
        "share: 0.5",
        "share: 1.5",
        "sweep.mass_expiry.share",
        "a number from 0 to 1",
    ),
    "a share that is not a number": (
        "share: 0.5",
        "share: .nan",
        "sweep.mass_expiry.share",
        "a number from 0 to 1",
    ),
    "a batch beyond what PostgREST answers": (
        "batch: 500",
        "batch: 5000",
        "sweep.batch",
        "from 1 to 500",
    ),
    "a flag that is none": (
        "own: true ",
        "own: perhaps ",
        "watches.tasks.own",
        "must be true or false",
    ),
    "a word outside a choice": (
        "on_lost: retry ",
        "on_lost: ignore ",
        "rules.*.on_lost",
        "retry, fail, uncertain",
    ),
    "a list outside a choice": (
        "isolation: process ",
        "isolation: [process] ",
        "rules.*.isolation",
        "process, thread",
    ),
    "a type that no key has": (
        "key_type: uuid",
        "key_type: money",
        "tasks.key_type",
        "uuid, text, integer, bigint",
    ),
    "an empty name": ("    key: id", '    key: ""', "watches.tasks.key", "must be a text"),
    "a number for a name": ("    key: id", "    key: 7", "watches.tasks.key", "must be a text"),
    "a name with a NUL": ("    key: id", '    key: "i\\0d"', "watches.tasks.key", "must be a text"),
    "a clock that is no name": (
        "alive: updated_at",
        "alive: [7]",
        "tasks.clocks.alive",
        "must be a name",
    ),
    "a lease of less than three beats": ("for: 30s", "for: 29s", "lease.for", "less than 3 beats"),
    "a margin that leaves nothing": (
        "margin: 15s",
        "margin: 10m",
        "platform.margin",
        "shorter than `timeout`",
    ),
    "a sweep longer than its period": (
        "budget: 45s",
        "budget: 60s",
        "sweep.budget",
        "shorter than `every`",
    ),
    "an attempt that outlives the platform": (
        "run_for: 570s",
        "run_for: 586s",
        "rules.*.run_for",
        "(585s). Lower it",
    ),
    "a kind that outlives the platform": (
        "run_for: 5m",
        "run_for: 10m",
        "rules.image.run_for",
        "Lower it",
    ),
    "a silence that a healthy worker may keep": (
        "silent_for: 15m",
        "silent_for: 10m",
        "rules.*.silent_for",
        "Raise it",
    ),
    "a push sent again too late": (
        "redispatch_after: 2m",
        "redispatch_after: 15m",
        "rules.*.redispatch_after",
        "Lower it",
    ),
    "a first pause longer than the longest": (
        "first: 2s",
        "first: 6m",
        "backoff.first",
        "longer than `max`",
    ),
    "a backoff that shrinks": ("factor: 4", "factor: 0.5", "backoff.factor", "from 1 to 100"),
    "a word for two ends": (
        "[cancelled]",
        "[cancelled, failed]",
        "words.cancelled",
        "stands for failed already",
    ),
    "a word for two states": (
        "[processing]",
        "[processing, pending]",
        "words.running",
        "name the column that tells them",
    ),
    "no word for pending": (
        "      pending: [pending]\n",
        "",
        "watches.tasks.words",
        "which a table of our own needs",
    ),
    "a state without a word": (
        "[processing]",
        "[]",
        "watches.tasks.words",
        "has no word for running. Add `running: [...]`",
    ),
    "a state that is left out": (
        "      failed: [failed]\n",
        "",
        "watches.tasks.words",
        "has no word for failed",
    ),
    "a word that is a mapping": (
        "[processing]",
        "[{a: b}]",
        "words.running",
        "a value or a list of values",
    ),
    "a word that is nothing": (
        "[processing]",
        "[null]",
        "words.running",
        "a value or a list of values",
    ),
    "a word that is a set": (
        "[processing]",
        "[!!set {a}]",
        "words.running",
        "a value or a list of values",
    ),
    "no clock for waiting tasks": (
        "      queued: scheduled_at\n",
        "",
        "tasks.clocks",
        "lacks `queued`",
    ),
    "no clock for silent tasks": ("      alive: updated_at\n", "", "tasks.clocks", "lacks `alive`"),
    "a watch that SQL cannot name": (
        "  tasks:\n",
        "  My-Tasks:\n",
        "watches.My-Tasks",
        "must be named by a-z",
    ),
    "a watch that starts with a digit": (
        "  tasks:\n",
        "  7tasks:\n",
        "watches.7tasks",
        "must be named by a-z",
    ),
    "a watch in letters of another script": (
        "  tasks:\n",
        "  tâches:\n",
        "watches.tâches",
        "must be named by a-z",
    ),
    "a watch whose functions' names would be cut": (
        "  tasks:\n",
        f"  {'t' * 41}:\n",
        "ttt",
        "40 at most",
    ),
    "a key that stands twice": (
        "  margin:",
        "  timeout: 1s\n  margin:",
        "platform.timeout",
        "stands twice. Remove one.",
    ),
    "a rule that stands twice": (
        "      image:\n",
        "      image: {}\n      image:\n",
        "rules.image",
        "stands twice",
    ),
    "a merge key": (
        "      image:\n",
        "      <<: {run_for: 1s}\n      image:\n",
        "tasks.rules",
        "is not a plain text",
    ),
    "a list for a name": (
        "      image:\n",
        "      ? [a]\n      : {}\n      image:\n",
        "tasks.rules",
        "is not a plain text",
    ),
    "a rule that is a text": (
        "      image:\n        run_for: 5m",
        "      image: quick",
        "rules.image",
        "must be a mapping",
    ),
    "a rule that is nothing": (
        "      image:\n        run_for: 5m",
        "      image:",
        "rules.image",
        "must be a mapping",
    ),
    "an unknown tag": (
        "    key: id",
        "    key: !secret id",
        "watches.tasks.key",
        "could not determine a constructor",
    ),
    "a tag that does not fit": (
        "    key: id",
        "    key: !!bool maybe",
        "watches.tasks.key",
        "cannot be read",
    ),
    "a date that is none": (
        "    key: id",
        "    key: 2001-99-99",
        "watches.tasks.key",
        "cannot be read",
    ),
    "a number too long to convert": (
        "attempts: 3",
        f"attempts: {'9' * 5000}",
        "rules.*.attempts",
        "cannot be read",
    ),
}


@pytest.mark.parametrize(("old", "new", "path", "says"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_refused_with_its_place_and_the_next_step(old, new, path, says):
    text = changed(old, new)
    error = refusal(text)
    match = re.fullmatch(r"policy\.yaml:(\d+): (\S+): (.+)", error, re.DOTALL)
    assert match, error
    number, place, problem = match.groups()
    line = text.splitlines()[int(number) - 1]
    assert path in place
    assert says in problem
    assert re.search(NEXT_STEP, problem), "it does not say the next step"
    name = place.rpartition(".")[2]
    assert name in line or "is not a plain text" in error, f"line {number} is {line!r}"


HEAD = TEXT[: TEXT.index("watches:")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"policy\.yaml:1: is empty\. Start from functions/policy\.yaml"),
        ("# only a comment\n", r"policy\.yaml:1: is empty\."),
        ("just a text", r"policy\.yaml:1: the file: must be a mapping\. Write"),
        ("- a\n- list", r"policy\.yaml:1: the file: must be a mapping\. Write"),
        ("a: 1\nb: [1, 2\nc: 3\n", r"policy\.yaml:3: is not YAML: .*Mend that line"),
        ("a: 1\n  b: 2\n", r"policy\.yaml:2: is not YAML: .*Mend that line"),
        ("a: *nowhere", r"policy\.yaml:1: is not YAML: .*undefined alias.*Mend that line"),
        ("a: 1\n---\nb: 2\n", r"policy\.yaml:2: is not YAML: .*another document.*Mend that line"),
        (
            "a: ä\nb: '\x07'\n",
            r"policy\.yaml:2: is not YAML: control characters are not allowed\. Mend",
        ),
        ("watches: {}\n", r"policy\.yaml:1: the file: lacks `platform`\. Add it"),
        (HEAD + "watches: {}\n", r"watches: is empty\. Name at least one watch"),
        (HEAD + "watches:\n", r"watches: must be a mapping\. Write"),
        (HEAD + "watches: &all\n  tasks: *all\n", r"watches\.tasks\.tasks: is not known here"),
    ],
)
def test_a_file_that_is_no_policy_at_all_is_refused_with_the_line(text, error):
    assert re.search(error, refusal(text)), refusal(text)


def test_a_value_that_came_by_an_anchor_is_refused_where_it_is_used():
    text = changed("timeout: 600s", "timeout: &t never")
    text = changed("timeout: &t never", "timeout: &t 600s", text) + "        attempts: *t\n"
    text = text.replace("        attempts: 2\n", "")
    assert (
        f"policy.yaml:{line_of(text, 'attempts: *t')}: watches.tasks.rules.selection.attempts"
        in refusal(text)
    )


def test_a_file_that_cannot_be_read_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(
        PolicyError, match=r"nothing\.yaml: cannot be read \(No such file.*\)\. Set UNSTUCK_POLICY"
    ):
        load(str(tmp_path / "nothing.yaml"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"platform: \xff\xfe")
    with pytest.raises(PolicyError, match=r"binary\.yaml: is not UTF-8\. Save it as UTF-8"):
        load(str(binary))


# -- whatever somebody types, the answer is a policy or a PolicyError

PLACES = [
    match.span(1)
    for match in re.finditer(r": +([^\s#&{\[][^\s#,}\]]*)", TEXT)
    if not match[0].startswith(":  #")
]
TRAPS = """
~ null yes no .inf .nan [] {} *x << | > ? - % @ ` 0x 0o7 1_000 1:99 2001-99-99 '\\0' "\\0" "\\ud800"
&x_1 !!int_x !!set_{a} !!timestamp_x !!binary_x !!float_x !!bool_x !!omap_[a] [a,_b] {a:_b}
"""
SCALARS = st.one_of(
    st.text(max_size=20),
    st.text("0123456789.:-+_eExsmhdKMGiB ", max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [*(trap.replace("_", " ") for trap in TRAPS.split()), "9" * 5000, "0x" + "f" * 5000]
    ),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(PLACES), SCALARS, min_size=1, max_size=4))
def test_edits_of_the_values_never_raise_anything_but_a_policy_error(edits):
    text = TEXT
    for (start, end), value in sorted(edits.items(), reverse=True):
        text = text[:start] + value + text[end:]
    accepted_or_refused(text)


@settings(deadline=None)
@given(st.data())
def test_edits_of_the_structure_never_raise_anything_but_a_policy_error(data):
    """A value anywhere in the tree becomes another value of any shape, or goes."""
    root = yaml.safe_load(TEXT)
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )
    node, name = root, data.draw(st.sampled_from(sorted(root)))
    while isinstance(node[name], dict) and data.draw(st.booleans()):
        node, name = node[name], data.draw(st.sampled_from(sorted(node[name])))
    if data.draw(st.booleans()):
        node[name] = data.draw(anything)
    else:
        del node[name]
    accepted_or_refused(yaml.safe_dump(root, allow_unicode=True))


@settings(deadline=None)
@given(st.text())
def test_any_text_at_all_never_raises_anything_but_a_policy_error(text):
    accepted_or_refused(text)


def accepted_or_refused(text: str) -> None:
    try:
        policy = parse(text)
    except PolicyError:
        return
    assert policies.BEATS_IN_A_LEASE * policy.beat <= policy.lease
    for watch in policy.watches.values():
        json.loads(watch.rules_json, parse_constant=pytest.fail)


# -- the numbers of the alerts


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("goal: 0.99 ", "goal: 1 ", "slo.goal: must be a number from 0.5 to 0.9999"),
        ("goal: 0.99 ", "gaol: 0.99 ", "slo.gaol: is not known here"),
        ("  overdue: 15m ", "  overdue: soon ", "alerts.overdue: must be a time above 0"),
        ("  lost_leases: 3 ", "  # lost_leases: 3 ", "alerts: lacks `lost_leases`. Add it."),
        (
            "sweep_silent: 15m",
            "sweep_silent: 12m",
            "alerts.sweep_silent: 780s pass until three sweeps are missed",
        ),
        (
            "pending: 5m ",
            "pending: 15m ",
            r"alerts.pending: must be shorter than pending_for \(900s\)",
        ),
    ],
)
def test_a_slip_in_the_numbers_of_the_alerts_is_refused_with_the_next_step(old, new, problem):
    assert re.search(rf"policy.yaml:\d+: {problem}", refusal(changed(old, new)))


def test_a_policy_that_is_not_deployed_by_terraform_needs_no_numbers_of_alerts():
    root = yaml.safe_load(TEXT)
    del root["slo"], root["alerts"]
    assert parse(yaml.safe_dump(root)).watch().name == "tasks"


def test_the_rules_for_a_user_are_none_unless_they_are_written():
    watch = parse(TEXT).watch()
    assert (watch.create_per_minute, watch.rule("image").one_active) == (None, False)
    text = changed("    key: id", "    limits: {create_per_minute: 5}\n    key: id")
    watch = parse(text.replace("run_for: 5m", "one_active: true")).watch()
    assert (
        watch.create_per_minute,
        watch.rule("image").one_active,
        watch.rule("selection").one_active,
    ) == (5, True, False)


def test_our_own_table_has_the_highest_priority_first():
    text = DEFAULT.read_text(encoding="utf-8").replace(
        "    key: id\n", "    key: id\n    urgent: lowest\n"
    )
    with pytest.raises(PolicyError, match="highest priority first"):
        parse(text)


@pytest.mark.parametrize("end", ["highest", "lowest"])
def test_the_column_of_the_priority_may_state_its_urgent_end(end):
    def text(key: str, more: str = "") -> str:
        star = dict(load(str(DEFAULT)).watch().columns)
        assert star["priority"] == "priority"
        default = DEFAULT.read_text(encoding="utf-8")
        adopted = default.replace("    own: true", f"{more}    own: false")
        return adopted.replace("      priority: priority\n", f"      priority: {key}\n")

    watch = parse(text(f"{{column: prio, first: {end}}}")).watch()
    assert (watch.columns["priority"], watch.urgent) == ("prio", end)
    assert parse(text("{column: prio}")).watch().urgent == "highest"
    with pytest.raises(PolicyError, match="Remove one"):
        parse(text(f"{{column: prio, first: {end}}}", f"    urgent: {end}\n"))
