"""doctor: checks the deployment and every watch before the first sweep, and changes nothing."""

import argparse
import os
from collections import Counter

from functions.errors import StoreError
from functions.ops import target
from functions.ops.out import FINE, FOUND, UNREACHABLE, USAGE, data, table, words
from functions.policy import load

HELP = "say what will go wrong in the tables, before the first sweep"
JSON = {"findings": ("watch", "level", "check", "what", "why", "do")}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", default=os.environ.get("DATABASE_URL"), help="PostgreSQL URL (default: DATABASE_URL)")
    parser.add_argument("--in", dest="name", metavar="WATCH", help="one watch of policy.yaml (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from functions.ops.doctor import examine
    from functions.ops.doctor.deployment import unreachable
    from functions.ops.doctor.finding import BREAKS, LEVELS

    dsn, policy = target.dsn(options), load()
    if options.name and options.name not in policy.watches:
        return words(f"No watch is called {options.name!r}. There are: {', '.join(policy.watches)}.", USAGE)
    watches = [policy.watches[options.name]] if options.name else list(policy.watches.values())
    code = None
    try:
        found = examine(dsn, policy, watches)
    except StoreError as error:
        if not error.retryable:
            raise
        found, code = [unreachable(str(error))], UNREACHABLE
    if options.json:
        data({"findings": [one.as_json() for one in found]})
    else:
        rows = [[one.level, one.watch, one.check, one.what, one.why or None, one.do or None] for one in found]
        table(("level", "watch", "check", "what", "why", "do"), rows)
    count = Counter(one.level for one in found)
    said = ", ".join(f"{count[level]} {level}" for level in LEVELS if count[level])
    return words(f"{said}; nothing was changed", code or (FOUND if count[BREAKS] else FINE))
