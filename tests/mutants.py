"""Breaks infra/ in one place after the other, in a copy of the repository, and counts how many of
the faults a test tells: each that lives could be deployed by mistake.

    make mutants                                 40 of them, or as many as fit into 20 minutes
    make mutants ARGS="--seed 7 --minutes 60"    others, for longer
    make mutants ARGS="--file mutants.json"      those of a file

A file is a list of {name, edits}, and an edit {file, old, new}.

First the tests run without a fault, and must pass. A fault is told when a test fails by an
assertion, its own or that of what it needs, such as `terraform apply`. When tests cannot be
collected, crash or do not end, nobody knows: that is counted apart. It prints those that no test
told, and exits with 1 when more than one in twenty lived or a run has crashed."""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from tests.chain.test_chain import KEPT_RECORD
from tests.infra.conftest import APPLY_ONLY

ROOT = Path(__file__).parents[1]
FILES_OF_ALERTS = ("metrics.yaml", "rules.yaml", "log_match.yaml")
TERRAFORM_FILES = (
    "alerts.tf",
    "apis.tf",
    "functions.tf",
    "iam.tf",
    "metrics.tf",
    "modules/policy/main.tf",
    "notifications.tf",
    "outside.tf",
    "pool.tf",
    "pubsub.tf",
    "queue.tf",
    "rescue.tf",
    "scheduler.tf",
    "secrets.tf",
    "slo.tf",
    "source.tf",
    "variables.tf",
)
TESTS = {
    ".yaml": [
        "tests/infra/test_alert_files.py",
        "tests/chain",
        "tests/infra/test_deployed_chain.py",
    ],
    ".tf": [
        "tests/infra/test_applied.py",
        "tests/infra/test_deployed_chain.py",
        "tests/infra/test_every_switch.py",
        "tests/infra/test_terraform.py",
        "tests/infra/test_day_two.py",
        "tests/infra/test_commands.py",
        "tests/infra/test_examples.py",
    ],
}
LEFT_OUT = ("broken_link", "name_that_changes", "formatted", "second_plan", "is_in_the_plan")
"""Tests, by a part of their names. The first two take minutes for days with a broken link, of which
none tells more; the last two need what only a whole run of Terraform has."""
REPORT = "report.xml"
LEAST_SHARE_TOLD = 0.95
SAMPLE = 40
RUN_SECONDS = 900
"""For the tests of one fault."""
ARGUMENT = re.compile(
    r"(?<=\n) +(?!desc|error_message|display|title|type )[a-z_]+ += [^\n]*[^\n{(\[,&|?:](?=\n)"
)
"""On a line of its own, and none of those for people."""
Change = tuple[re.Pattern[str], str]
CHANGES: list[Change] = [
    (re.compile(r"\btrue\b"), "false"),
    (re.compile(r"\bfalse\b"), "true"),
    (re.compile(r" >= "), " < "),
    (re.compile(r" > "), " < "),
    (re.compile(r"(?<=\) )and(?= \()"), "or"),
    (re.compile(r"\bAND\b"), "OR"),
    (re.compile(r"!="), "="),
    (re.compile(r"(?<=[\w.]=\")[a-z_]+(?=[\"|])"), "other"),
    (re.compile(r"(?<=jsonPayload\.)\w+"), "other"),
    (re.compile(r"(?<=user_unstuck_)\w+?(?=(_sum|_count)?\{)"), "task_overtaken"),
    (re.compile(r"(?<=\[)\d+(?=[smh]\])"), "1"),
    (re.compile(r"(?<==~\")[^\"]+"), "^other$"),
    (re.compile(r"(?<= = )\d+\b"), "1000"),
    (re.compile(r"(?<= = \")\d+(?=s\")"), "7200"),
    (re.compile(r"\b(CRITICAL|WARNING)\b"), "INFO"),
    (re.compile(r"(?<= = )local\.channels$", re.MULTILINE), "[]"),
    (re.compile(r"(?<= = )var\.queue\.max_attempts"), "1"),
    (re.compile(r"\n  name( +)= "), "\n  disabled = true\n  name\\1= "),
    (re.compile(r"\n  display_name( +)= "), "\n  enabled = false\n  display_name\\1= "),
    (re.compile(r"\n  time_zone( +)= "), "\n  paused = true\n  time_zone\\1= "),
    (ARGUMENT, ""),
    (re.compile(r"(?<=\")roles/[\w.]+"), "roles/viewer"),
    (re.compile(r"(?<=\[)\"(worker|sweep|rescue|api|invoker)\"(?=\])"), '"build"'),
    (re.compile(r"(?<=\")ALLOW_\w+"), "ALLOW_INTERNAL_AND_GCLB"),
    (re.compile(r"(?<= = )null(?=\n)"), "1"),
    (re.compile(r"&&"), "||"),
    (re.compile(r"==(?= [\"\w])"), "!="),
    (re.compile(r"(?<= )[+](?= )"), "-"),
]
"""What is replaced by what; of those of the last part, the first leaves an argument out. A change
that Terraform or promtool refuses is told too."""
COMMENT = re.compile(r"#[^\n]*|annotations:[^\n]*|(description|error_message)[^\n]*")


class Verdict(StrEnum):
    TOLD = "told"
    LIVED = "lived"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Mutant:
    """Files of infra/ with another text."""

    name: str
    texts: dict[Path, str]

    def __str__(self) -> str:
        return self.name

    @property
    def tests(self) -> list[str]:
        """Those that look at its files."""
        return list(dict.fromkeys(test for file in self.texts for test in TESTS[file.suffix]))


def mutants() -> Iterator[Mutant]:
    """All that the changes allow, without those in comments and texts for people."""
    infra = ROOT / "infra"
    files = [infra / "alerts" / name for name in FILES_OF_ALERTS]
    for file in files + [infra / name for name in TERRAFORM_FILES]:
        text = file.read_text(encoding="utf-8")
        prose = {at for match in COMMENT.finditer(text) for at in range(*match.span())}
        for pattern, replacement in CHANGES:
            for match in pattern.finditer(text):
                if match.start() in prose:
                    continue
                new = match.expand(replacement)
                changed = text[: match.start()] + new + text[match.end() :]
                if changed != text:
                    line = text.count("\n", 0, match.start()) + 1
                    place = f"{file.relative_to(ROOT)}:{line}"
                    name = f"{place}: {match[0].strip()!r} becomes {new.strip()!r}"
                    yield Mutant(name, {file: changed})


def handed(file: Path) -> Iterator[Mutant]:
    """Those of a file. `*ALL*` at the end of `new`: at each place. Raises ValueError for one that
    changes nothing."""
    for one in json.loads(file.read_text(encoding="utf-8")):
        texts: dict[Path, str] = {}
        for edit in one["edits"]:
            path = ROOT / edit["file"]
            text = texts.get(path) or path.read_text(encoding="utf-8")
            new = edit["new"].removesuffix("*ALL*")
            if edit["old"] not in text:
                raise ValueError(f"{one['name']}: {edit['file']} has no {edit['old']!r}")
            texts[path] = text.replace(edit["old"], new, -1 if edit["new"].endswith("*ALL*") else 1)
        yield Mutant(one["name"], texts)


def tried(mutant: Mutant, copy: Path) -> Verdict:
    """What the tests say of it, in the copy of the repository."""
    originals = {}
    for file, text in mutant.texts.items():
        target = copy / file.relative_to(ROOT)
        originals[target] = target.read_text(encoding="utf-8")
        target.write_text(text, encoding="utf-8")
    try:
        return run(mutant.tests, copy)
    finally:
        for target, text in originals.items():
            target.write_text(text, encoding="utf-8")


def run(tests: list[str], copy: Path) -> Verdict:
    report = copy / REPORT
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    command += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
    command += ["-k", f"not {' and not '.join(LEFT_OUT)}"]
    kept = {APPLY_ONLY: "1", KEPT_RECORD: str(copy / "record.pickle")}
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=os.environ | kept,
            capture_output=True,
            check=False,
            timeout=RUN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Verdict.CRASHED
    return verdict(done.returncode, report_of(copy))


def report_of(copy: Path) -> str:
    """What pytest wrote of its last run there; "" if it did not come so far."""
    report = copy / REPORT
    return report.read_text(encoding="utf-8") if report.exists() else ""


def verdict(code: int, report: str) -> Verdict:
    """By pytest's exit code (0 all passed, 1 a test failed, else it did not come so far) and its
    report in JUnit's form. An assertion has told something; any other error may be a slip of the
    tests."""
    if code == 0:
        return Verdict.LIVED
    if code != 1 or not report:
        return Verdict.CRASHED
    has_told = any(
        "AssertionError" in text or "\nE       assert" in text for text in failures(report).values()
    )
    return Verdict.TOLD if has_told else Verdict.CRASHED


def failures(report: str) -> dict[str, str]:
    """What was said by each test that failed, by its name."""
    if not report:
        return {}
    return {
        f"{case.get('classname')}::{case.get('name')}": f"{part.get('message')} {part.text}"
        for case in ElementTree.fromstring(report).iter("testcase")
        for part in case
        if part.tag in {"failure", "error"}
    }


def copied(folder: Path) -> Path:
    """The repository without what is made from it, which is linked."""
    made = (".git", ".venv", ".cache", "node_modules", "__pycache__", "build")
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*made), symlinks=True)
    for name in (".venv", ".cache"):
        if (ROOT / name).exists():
            (copy / name).symlink_to((ROOT / name).resolve())
    return copy


def main() -> int:
    parser = argparse.ArgumentParser(description="Breaks infra/ and counts what a test tells.")
    parser.add_argument("--seed", type=int, default=1, help="which mutants (default 1)")
    parser.add_argument("--minutes", type=float, default=20.0, help="the most (default 20)")
    parser.add_argument("--count", type=int, default=SAMPLE, help=f"how many (default {SAMPLE})")
    parser.add_argument("--list", action="store_true", help="only print them")
    parser.add_argument("--file", type=Path, help="those of a file instead")
    options = parser.parse_args()
    every = list(handed(options.file) if options.file else mutants())
    chosen = every
    if not options.file:
        chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    if options.list:
        print("\n".join(map(str, chosen)))
        return 0
    until = time.monotonic() + options.minutes * 60
    counts = Counter[Verdict]()
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        whole = list(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
        if run(whole, copy) is not Verdict.LIVED:
            print("The tests do not pass without a fault. Mend them first:", file=sys.stderr)
            for test, words in failures(report_of(copy)).items():
                print(f"{test}\n{words}", file=sys.stderr)
            return 2
        for mutant in chosen:
            if time.monotonic() > until:
                break
            found = tried(mutant, copy)
            counts[found] += 1
            if found is not Verdict.TOLD:
                print(f"{found}: {mutant}", flush=True)
    known = counts[Verdict.TOLD] + counts[Verdict.LIVED]
    print(
        f"seed {options.seed}: {counts[Verdict.TOLD]} of {known} told, {counts[Verdict.CRASHED]} "
        f"runs crashed, of {len(every)} faults that there are"
    )
    is_enough = known and counts[Verdict.TOLD] / known >= LEAST_SHARE_TOLD
    return 0 if is_enough and not counts[Verdict.CRASHED] else 1


if __name__ == "__main__":
    if not os.environ.get("TFMOCK"):
        print("Without TFMOCK, tests of what is applied are skipped.", file=sys.stderr)
    sys.exit(main())
