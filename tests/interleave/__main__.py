"""`python -m tests.interleave`: every order of the actors' steps, and the SQL with one fault after
the other. Exit code 1 when an invariant was broken, or when more than one fault in twenty lived."""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from functions.ops.postgres.embedded import Postgres
from tests.interleave.casts import casts, early_and_rest
from tests.interleave.explore import in_processes, play_here
from tests.interleave.mutants import Verdict, judge_here, mutants
from tests.interleave.world import databases

MOST_EXAMPLES = 5
LEAST_SHARE_KILLED = 0.95


@dataclass
class Figures:
    casts: int = 0
    casts_in_all: int = 0
    schedules: int = 0
    violations: int = 0
    played_again: int = 0
    """Since a lock was waited for too long while the machine was busy."""

    seconds: float = 0.0
    by_table: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def each_second(self) -> float:
        return self.schedules / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interleave", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=12.5, help="of schedules; the faults take 2 more"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--only", default="", help="casts with this text in their description")
    parser.add_argument("--no-mutants", action="store_true", help="only the shipped SQL")
    parser.add_argument("--mutants", action="store_true", help="only the faults")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    failed = False
    answer = {}
    with Postgres(durable=False) as server:
        if not options.mutants:
            figures = play_schedules(server, options)
            failed |= bool(figures.violations)
            answer["schedules"] = asdict(figures)
        if not options.no_mutants:
            verdicts = judge_mutants(server, options)
            report = mutants_report(verdicts)
            failed |= report["killed"] < LEAST_SHARE_KILLED * report["mutants"]
            answer["mutants"] = report
    print(json.dumps(answer) if options.json else json.dumps(answer, indent=2))
    return int(failed)


def play_schedules(server: Postgres, options: argparse.Namespace) -> Figures:
    chosen = [cast for cast in casts() if options.only in str(cast)]
    chosen = early_and_rest(chosen)
    figures = Figures(casts_in_all=len(chosen))
    with databases(server, options.processes) as dsns:
        began = time.monotonic()
        for tally in in_processes(dsns, play_here, chosen):
            figures.casts += 1
            figures.schedules += tally.schedules
            figures.violations += tally.violations
            figures.played_again += tally.repeated
            table = tally.cast.partition(",")[0]
            figures.by_table[table] = figures.by_table.get(table, 0) + tally.schedules
            figures.seconds = time.monotonic() - began
            if len(figures.examples) < MOST_EXAMPLES:
                figures.examples += tally.examples[:1]
            if figures.casts % 100 == 0:
                print(
                    f"{figures.casts} of {len(chosen)} casts, {figures.schedules:,} schedules, "
                    f"{figures.each_second:.0f} each second, {figures.violations} violations",
                    file=sys.stderr,
                )
            if figures.seconds > options.minutes * 60:
                break
    return figures


def judge_mutants(server: Postgres, options: argparse.Namespace) -> list[Verdict]:
    chosen = [mutant for mutant in mutants() if options.only in str(mutant)]
    verdicts = []
    with databases(server, options.processes) as dsns:
        for verdict in in_processes(dsns, judge_here, chosen):
            verdicts.append(verdict)
            outcome = f"killed: {verdict.violation}" if verdict.violation else "LIVED"
            print(
                f"{len(verdicts)} of {len(chosen)}: {verdict.mutant}: {outcome} "
                f"({verdict.schedules} schedules, {verdict.seconds:.1f} s)",
                file=sys.stderr,
            )
    return verdicts


def mutants_report(verdicts: list[Verdict]) -> dict[str, Any]:
    survivors = [verdict for verdict in verdicts if not verdict.violation]
    return {
        "mutants": len(verdicts),
        "killed": len(verdicts) - len(survivors),
        "schedules": sum(verdict.schedules for verdict in verdicts),
        "survivors": {
            str(verdict.mutant): verdict.mutant.equal or "nobody knows why" for verdict in survivors
        },
    }


if __name__ == "__main__":
    sys.exit(main())
