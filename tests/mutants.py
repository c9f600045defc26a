"""Breaks infra/ in one place after the other, in a copy of the repository, and counts how many of
the faults a test tells: each that lives could be deployed by mistake.

    make mutants                                 40 of them, or as many as fit into 20 minutes
    make mutants ARGS="--seed 7 --minutes 60"    others, for longer

It prints those that no test told, and exits with 1 when more than one in twenty lived."""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES_OF_ALERTS = ("metrics.yaml", "rules.yaml", "log_match.yaml")
TERRAFORM_FILES = (
    "alerts.tf",
    "metrics.tf",
    "queue.tf",
    "scheduler.tf",
    "slo.tf",
    "notifications.tf",
)
TESTS = {
    ".yaml": [
        "tests/infra/test_alert_files.py",
        "tests/chain",
        "tests/infra/test_deployed_chain.py",
    ],
    ".tf": [
        "tests/infra/test_deployed_chain.py",
        "tests/infra/test_terraform.py",
        "tests/infra/test_day_two.py",
    ],
}
LEAST_SHARE_TOLD = 0.95
SAMPLE = 40
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
]
"""What is replaced by what. A change that Terraform or promtool refuses is told too."""
COMMENT = re.compile(r"#[^\n]*|annotations:[^\n]*|description[^\n]*")


@dataclass(frozen=True)
class Mutant:
    """A file of infra/ with another text at one place."""

    file: Path
    text: str
    line: int
    old: str
    new: str

    def __str__(self) -> str:
        name = self.file.relative_to(ROOT)
        return f"{name}:{self.line}: {self.old.strip()!r} becomes {self.new.strip()!r}"


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
                    yield Mutant(file, changed, line, match[0], new)


def is_told(mutant: Mutant, copy: Path) -> bool:
    """Whether a test fails in the copy of the repository."""
    target = copy / mutant.file.relative_to(ROOT)
    original = target.read_text(encoding="utf-8")
    target.write_text(mutant.text, encoding="utf-8")
    tests = TESTS[mutant.file.suffix]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    # Of the days that are played with a broken link, which take minutes, none tells more.
    command += ["-k", "not broken_link and not name_that_changes and not formatted"]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, check=False)
    finally:
        target.write_text(original, encoding="utf-8")
    return done.returncode == 1


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
    options = parser.parse_args()
    every = list(mutants())
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    if options.list:
        print("\n".join(map(str, chosen)))
        return 0
    until = time.monotonic() + options.minutes * 60
    told, lived = 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for mutant in chosen:
            if time.monotonic() > until:
                break
            if is_told(mutant, copy):
                told += 1
            else:
                lived.append(mutant)
                print(f"lived: {mutant}", flush=True)
    tried = told + len(lived)
    print(f"seed {options.seed}: {told} of {tried} told, of {len(every)} that there are")
    return 0 if tried and told / tried >= LEAST_SHARE_TOLD else 1


if __name__ == "__main__":
    if not os.environ.get("TFMOCK"):
        print("Without TFMOCK, tests of what is applied are skipped.", file=sys.stderr)
    sys.exit(main())
