"""check: finds the tasks that are stuck in any table, with nothing installed, and ends them with
--fix, unless the table is guarded: there the sweep does.

Without --table it lists the tables that look like task tables. A running task counts as stuck after
30m without a sign of life (most cleanup scripts say 10m, but judge by the start alone), a
pending one after 1h, one with a lease or deadline of its own 5m after that; --older-than overrides
all three; where finished rows took longer than 30m, so long. Exit code: 0 none, 1 refused or no
task of --job-id, 3 stuck tasks found, 5 it cannot say: no column tells since when the open tasks
are as they are, or row level security may hide rows."""

import argparse
import time
from dataclasses import replace

from functions.core.policy import Watch
from functions.core.states import State
from functions.errors import PolicyError, StoreError
from functions.ops.cli import target
from functions.ops.cli.out import (
    ERROR,
    FINE,
    FOUND,
    PROGRAM,
    UNKNOWN,
    USAGE,
    confirmed,
    counted,
    print_json,
    print_message,
)
from functions.ops.cli.selection import positive, seconds
from functions.ops.inspect import check, guarded
from functions.ops.inspect.fix import Fixed, fix, require_writable
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import Connection, connect
from functions.ops.inspect.stuck import find_stuck, is_there

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
    "unjudged": (),
    "guarded": (),
    "fixed": (),
    "unsweepable": ("id", "error"),
}
SHOWN_TASKS = 1000
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
        help=f"so many at most, the oldest first (shown: {SHOWN_TASKS})",
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
    target.add_word(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(options: argparse.Namespace) -> int:
    if options.watch is not None and (options.fix or not options.table):
        return print_message(
            "--watch looks at one table and writes nothing. Give it --table, and no --fix.", USAGE
        )
    try:
        with connect(target.dsn(options)) as connection:
            if options.table:
                return _table(connection, options)
            return _tables(connection, options)
    except StoreError as error:
        if error.code in {"dsn", "22P02"}:
            return print_message(_usage(error, options), USAGE)
        raise


def _usage(error: StoreError, options: argparse.Namespace) -> str:
    if error.code == "dsn" or not options.job_id:
        return str(error)
    return f"--job-id is no key of {options.table}: {error}. Give one."


def _tables(connection: Connection, options: argparse.Namespace) -> int:
    rows = check.tables(connection)
    if options.json:
        print_json({"schema": check.JSON_SCHEMA, "tables": rows})
    else:
        check.show_tables(rows)
    return FINE


def _table(connection: Connection, options: argparse.Namespace) -> int:
    inferred = check.infer_table(connection, options.table, options.map, options.word)
    limits = Limits(options.older_than, options.job_id, options.kind, options.limit, options.action)
    if inferred.refused or inferred.blind:
        return _refuse(inferred, options)
    if options.kind is not None and not inferred.mapping.columns.get("kind"):
        raise PolicyError(
            f"--kind: no column of {inferred.table.title} tells a task's kind. "
            "Name it with --map FILE (kind)."
        )
    if options.job_id is not None and not is_there(connection, inferred, options.job_id):
        return print_message(
            f"There is no task {options.job_id} in {options.table}. "
            f"`{PROGRAM} check --table {options.table}` shows those that are stuck.",
            ERROR,
        )
    if not options.json:
        check.show_mapping(inferred)
    shown = replace(limits, limit=options.limit or SHOWN_TASKS)
    watch = guarded.watch_of(connection, inferred)
    if options.fix and (refusal := guarded.why_no_fix(inferred, watch)):
        return _refuse_fix(_inspect(connection, inferred, watch, shown), refusal, options)
    watch = _judge(watch, options)
    while True:
        inspection = _inspect(connection, inferred, watch, shown)
        if options.fix and inspection.stuck:
            return _fix(connection, inspection, limits, options)
        code = _show(inspection, options)
        if options.watch is None:
            return code
        time.sleep(options.watch)


def _refuse_fix(inspection: check.Inspection, refusal: str, options: argparse.Namespace) -> int:
    if options.json:
        print_json(check.as_json(inspection, Fixed()))
    return print_message(f"{inspection.inferred.table.title}: {refusal}", ERROR)


def _judge(watch: Watch | None, options: argparse.Namespace) -> Watch | None:
    """The watch whose rules say what is stuck; None where a person says so, or nobody."""
    if options.older_than is not None or options.map or options.word:
        return None
    if watch:
        print_message(f"guarded: what is stuck goes by the rules of the watch {watch.name}")
    return watch


def _inspect(
    connection: Connection, inferred: Inferred, watch: Watch | None, limits: Limits
) -> check.Inspection:
    inspection = check.Inspection(inferred, *find_stuck(connection, inferred, limits))
    if watch is None:
        return inspection
    stuck, total = guarded.find_stuck(connection, watch, limits)
    return replace(inspection, stuck=stuck, total=total, watch=watch.name)


def _refuse(inferred: Inferred, options: argparse.Namespace) -> int:
    if options.json:
        print_json(check.as_json(check.Inspection(inferred)))
    return print_message(f"{inferred.table.title}: {inferred.refused or inferred.why_blind}", ERROR)


def _show(inspection: check.Inspection, options: argparse.Namespace) -> int:
    if options.json:
        print_json(check.as_json(inspection))
    else:
        check.show_stuck(inspection)
        if inspection.stuck and options.watch is None:
            end = f"{PROGRAM} sweep" if inspection.watch else "the same with --fix ends them"
            print_message(f"Next: {end}")
    if inspection.stuck:
        return FOUND
    return UNKNOWN if inspection.unjudged or inspection.hidden else FINE


def _fix(
    connection: Connection,
    inspection: check.Inspection,
    limits: Limits,
    options: argparse.Namespace,
) -> int:
    if not options.json:
        check.show_stuck(inspection)
    require_writable(inspection.inferred, limits)
    if not confirmed(_question(inspection, limits), yes=options.yes):
        if options.json:
            print_json(check.as_json(inspection))
        return print_message("nothing was written. --fix --yes writes without asking.", FOUND)
    fixed = fix(connection, inspection.inferred, limits)
    if options.json:
        print_json(check.as_json(inspection, fixed))
    else:
        check.show_fixed(fixed, limits.action)
    _, left, *_ = find_stuck(connection, inspection.inferred, replace(limits, limit=1))
    if not left and not options.json:
        print_message(f"Next: {PROGRAM} adopt --table {inspection.inferred.table.title}")
    if left > len(fixed.unsweepable):
        advice = ""
        if limits.action == "requeue":
            advice = " Pending tasks are not put back: --action fail ends them."
        print_message(f"{left} are stuck still.{advice}")
    return FOUND if left else FINE


def _question(inspection: check.Inspection, limits: Limits) -> str:
    inferred = inspection.inferred
    word = inferred.mapping.word(State.PENDING if limits.action == "requeue" else State.FAILED)
    count = min(inspection.total, limits.limit or inspection.total)
    return f"Set {counted(count, 'task')} of {inferred.table.title} to {word!r}?"
