"""migrate: brings a database up to date with the policy."""

import argparse
import os

from functions.ops.out import FINE, FOUND, USAGE, words

HELP = "bring a database up to date with the policy"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", default=os.environ.get("DATABASE_URL"), help="PostgreSQL URL (default: DATABASE_URL)")
    parser.add_argument("--apply", action="store_true", help="write; without it, only say what is missing")
    parser.add_argument("--check", action="store_true", help="exit 3 when something is missing")


def run(options: argparse.Namespace) -> int:
    from functions.migrate import check, migrate

    if not options.dsn:
        return words("No database is named. Give --dsn, or set DATABASE_URL.", USAGE)
    steps = migrate(options.dsn) if options.apply else check(options.dsn)
    for step in steps:
        print(step)
    if not steps:
        return words("up to date", FINE)
    if options.apply:
        return words(f"{len(steps)} steps applied", FINE)
    return words(f"{len(steps)} steps are missing. Run again with --apply.", FOUND if options.check else FINE)
