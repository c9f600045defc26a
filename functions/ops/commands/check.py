"""check: finds the tasks that are stuck in any table, with nothing installed, and ends them with
--fix.

Without --table it lists the tables that look like task tables. A running task counts as stuck after
30m without a sign of life (most cleaners in the field say 10m, but judge by the start alone), a
pending one after 1h, one with a lease or deadline of its own 5m after that; --older-than overrides
all three. Exit code: 0 none, 1 refused, 3 stuck tasks found."""

import argparse
import time
from dataclasses import replace

from functions.core.states import State
from functions.errors import PolicyError, StoreError
from functions.ops.cli import target
from functions.ops.cli.out import ERROR, FINE, FOUND, USAGE, confirmed, print_json, print_message
from functions.ops.cli.selection import positive, seconds
from functions.ops.look import check
from functions.ops.look.catalogue import Connection
from functions.ops.look.fix import fix
from functions.ops.look.infer import Inferred
from functions.ops.look.overdue import Limits
from functions.ops.look.session import connect
from functions.ops.look.stuck import find

HELP = "find the tasks that are stuck in any table, with nothing installed"
JSON = {
    "schema": (),
    "tables": ("table", "sure", "why", "refused", "unsure"),
    "table": (),
    "inferred": ("key", "status", "words", "clocks", "error", "kind", "owner", "attempts"),
    "unsure": (),
    "refused": (),
    "stuck": ("id", "state", "word", "age_seconds", "reason", "kind", "action"),
    "open": (),
    "fixed": (),
    "unsweepable": ("id", "error"),
}
SHOWN = 1000
"""Stuck tasks that are listed unless --limit says otherwise. --fix has no such limit."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.add_dsn(parser)
    parser.add_argument(
        "--table", help="schema.name; without it, the tables that look like task tables are listed"
    )
    parser.add_argument(
        "--older-than", type=seconds, metavar="10m", help="how long is too long: 30s, 10m, 2h, 1d"
    )
    parser.add_argument("--job-id", metavar="ID", help="only this task")
    parser.add_argument("--kind", help="only tasks of this kind")
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help=f"so many at most, the oldest first (shown: {SHOWN})",
    )
    parser.add_argument(
        "--watch", type=seconds, metavar="2s", help="look again and again, this often"
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="end what is stuck, after asking; guarded by status and age",
    )
    parser.add_argument("--yes", action="store_true", help="with --fix: do not ask")
    parser.add_argument(
        "--action",
        choices=("fail", "requeue"),
        default="fail",
        help="what --fix does (default: fail)",
    )
    parser.add_argument(
        "--map",
        metavar="FILE",
        help="YAML or JSON that says what `inferred` got wrong, with its keys",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(options: argparse.Namespace) -> int:
    if options.watch is not None and (options.fix or not options.table):
        return print_message(
            "--watch looks at one table and writes nothing. Give it --table, and no --fix.", USAGE
        )
    try:
        with connect(target.dsn(options)) as connection:
            return (
                _tables(connection, options) if not options.table else _table(connection, options)
            )
    except StoreError as error:
        if error.code in {"dsn", "22P02"}:
            return print_message(_usage(error, options), USAGE)
        raise


def _usage(error: StoreError, options: argparse.Namespace) -> str:
    return (
        str(error)
        if error.code == "dsn" or not options.job_id
        else f"--job-id is no key of {options.table}: {error}. Give one."
    )


def _tables(connection: Connection, options: argparse.Namespace) -> int:
    found = check.tables(connection)
    if options.json:
        print_json({"schema": check.SCHEMA, "tables": found})
    else:
        check.show_tables(found)
    return FINE


def _table(connection: Connection, options: argparse.Namespace) -> int:
    found = check.inferred(connection, options.table, options.map)
    limits = Limits(options.older_than, options.job_id, options.kind, options.limit, options.action)
    if found.refused or found.blind:
        return _nothing(found, options)
    if options.kind is not None and not found.mapping.columns.get("kind"):
        raise PolicyError(
            f"--kind: no column of {found.table.title} tells a task's kind. Name it with --map FILE (kind)."
        )
    if not options.json:
        check.show_mapping(found)
    while True:
        seen = check.Seen(
            found, *find(connection, found, replace(limits, limit=options.limit or SHOWN))
        )
        code = (
            _fixed(connection, seen, limits, options)
            if options.fix and seen.stuck
            else _shown(seen, options)
        )
        if options.watch is None:
            return code
        time.sleep(options.watch)


def _nothing(found: Inferred, options: argparse.Namespace) -> int:
    if options.json:
        print_json(check.as_json(check.Seen(found)))
    return print_message(f"{found.table.title}: {found.refused or found.why_blind}", ERROR)


def _shown(seen: check.Seen, options: argparse.Namespace) -> int:
    if options.json:
        print_json(check.as_json(seen))
    else:
        check.show_stuck(seen)
    return FOUND if seen.stuck else FINE


def _fixed(
    connection: Connection, seen: check.Seen, limits: Limits, options: argparse.Namespace
) -> int:
    if not options.json:
        check.show_stuck(seen)
    if not confirmed(_question(seen, limits), yes=options.yes):
        if options.json:
            print_json(check.as_json(seen))
        return print_message("nothing was written. --fix --yes writes without asking.", FOUND)
    fixed = fix(connection, seen.found, limits)
    if options.json:
        print_json(check.as_json(seen, fixed))
    else:
        check.show_fixed(fixed, limits.action)
    _, left, _ = find(connection, seen.found, replace(limits, limit=1))
    if left > len(fixed.unsweepable):
        waits = (
            " Pending tasks are not put back: --action fail ends them."
            if limits.action == "requeue"
            else ""
        )
        print_message(f"{left} are stuck still.{waits}")
    return FOUND if left else FINE


def _question(seen: check.Seen, limits: Limits) -> str:
    word = seen.found.mapping.word(State.PENDING if limits.action == "requeue" else State.FAILED)
    guess = ", a word that this table does not show yet" if word in seen.found.assumed else ""
    return f"Set {min(seen.total, limits.limit or seen.total)} tasks of {seen.found.table.title} to {word!r}{guess}?"
