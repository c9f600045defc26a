"""The command line: `python -m functions COMMAND`. stdout is data, stderr is words."""

import argparse
import os
import sys
from collections.abc import Sequence

from functions.errors import PolicyError, StoreError
from functions.policy import load

FINE, ERROR, USAGE, FOUND, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 1 error, 2 usage, 3 found, 4 not reachable, 130 interrupted."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except PolicyError as error:
        return _say(str(error), USAGE)
    except StoreError as error:
        return _say(str(error), UNREACHABLE if error.retryable else ERROR)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m functions", description="Unstuck: no task stays stuck.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="play the main job with workers that are killed, frozen, hungry and late")
    demo.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    demo.set_defaults(run=_demo)
    sql = commands.add_parser("sql", help="print the SQL of the policy, for review")
    sql.set_defaults(run=_sql)
    move = commands.add_parser("migrate", help="bring a database up to date with the policy")
    move.add_argument("--dsn", default=os.environ.get("DATABASE_URL"), help="PostgreSQL URL (default: DATABASE_URL)")
    move.add_argument("--apply", action="store_true", help="write; without it, only say what is missing")
    move.add_argument("--check", action="store_true", help="exit 3 when something is missing")
    move.set_defaults(run=_migrate)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from functions.ops.demo import run

    return run(as_json=options.json)


def _sql(_options: argparse.Namespace) -> int:
    from functions.migrate import script

    print(script(load()))
    return FINE


def _migrate(options: argparse.Namespace) -> int:
    from functions.migrate import check, migrate

    if not options.dsn:
        return _say("No database is named. Give --dsn, or set DATABASE_URL.", USAGE)
    steps = migrate(options.dsn) if options.apply else check(options.dsn)
    for step in steps:
        print(step)
    if options.apply:
        return _say(f"{len(steps)} steps applied" if steps else "up to date", FINE)
    if steps:
        return _say(f"{len(steps)} steps are missing. Run again with --apply.", FOUND if options.check else FINE)
    return _say("up to date", FINE)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
