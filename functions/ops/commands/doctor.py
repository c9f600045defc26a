"""doctor: checks the deployment and every watch before the first sweep, and changes nothing."""

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from functions.core.policy import load
from functions.errors import StoreError
from functions.ops.cli import google, target
from functions.ops.cli.out import (
    FINE,
    FOUND,
    UNREACHABLE,
    USAGE,
    print_block,
    print_json,
    print_message,
    print_table,
)
from functions.store.dsn import CODE_REFUSED

if TYPE_CHECKING:
    from functions.ops.doctor.finding import Finding

HELP = "say what will go wrong in the tables, before the first sweep"
JSON = {"findings": ("watch", "level", "check", "what", "why", "do")}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.add_dsn(parser)
    parser.add_argument(
        "--in", dest="watch", metavar="WATCH", help="one watch of policy.yaml (default: all)"
    )
    parser.add_argument(
        "--cloud",
        action="store_true",
        help="check the deployment in Google Cloud instead of the tables",
    )
    google.arguments(parser)
    parser.add_argument(
        "--region",
        default="us-central1",
        help="the variable `region` of infra/ (default: us-central1)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    if options.cloud:
        return _report(_examine_cloud(options), as_json=options.json)
    from functions.ops.doctor import examine
    from functions.ops.doctor.deployment import unreachable

    dsn, policy = target.dsn(options), load()
    if options.watch and options.watch not in policy.watches:
        return print_message(
            f"No watch is called {options.watch!r}. There are: {', '.join(policy.watches)}.", USAGE
        )
    watches = [policy.watches[options.watch]] if options.watch else list(policy.watches.values())
    code = None
    try:
        findings = examine(dsn, policy, watches)
    except StoreError as error:
        if not error.retryable and error.code != CODE_REFUSED:
            raise
        findings, code = [unreachable(str(error))], UNREACHABLE
    return _report(findings, as_json=options.json, code=code)


def _examine_cloud(options: argparse.Namespace) -> "list[Finding]":
    from functions.ops.doctor.cloud import Cloud, examine

    return examine(Cloud(google.project(options), options.region, options.name), load())


COLUMNS = ("level", "watch", "check", "what", "why", "do")


def _row(finding: "Finding") -> list[str | None]:
    record = finding.as_json()
    return [record[name] or None for name in COLUMNS]


def _print(findings: "list[Finding]") -> None:
    """One below the other on a terminal: three of the columns are sentences."""
    if not sys.stdout.isatty():
        print_table(COLUMNS, [_row(finding) for finding in findings])
        return
    for finding in findings:
        print_block(f"{finding.level}: {finding.watch or 'deployment'}, {finding.check}", bold=True)
        for text in filter(None, (finding.fact, finding.why, finding.do)):
            print_block(f"  {text}")


def _counted(count: int, level: str) -> str:
    """1 warns, 2 warn."""
    return f"{count} {level if count == 1 else level.removesuffix('s')}"


def _report(findings: "list[Finding]", *, as_json: bool, code: int | None = None) -> int:
    from functions.ops.doctor.finding import BREAKS, LEVELS

    findings = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    if as_json:
        print_json({"findings": [finding.as_json() for finding in findings]})
    else:
        _print(findings)
    counts = Counter(finding.level for finding in findings)
    summary = ", ".join(_counted(counts[level], level) for level in LEVELS if counts[level])
    code = code or (FOUND if counts[BREAKS] else FINE)
    advice = "Do what they say, then run it again." if counts[BREAKS] else ""
    return print_message(f"{summary}; nothing was changed. {advice}".rstrip(), code)
