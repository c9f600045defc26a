"""sweep: one run of the sweep, as the scheduler calls it; with --dry-run, what it would do.

On a terminal it shows what it would settle, and asks. Without one it does not ask, as the deployed
sweep: a cron job is no terminal."""

import argparse
import contextlib
import io
import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

from functions.core.answers import StuckTasks
from functions.core.record import plain, replace
from functions.ops.cli import target
from functions.ops.cli.out import (
    ERROR,
    FINE,
    PROGRAM,
    confirmed,
    counted,
    print_json,
    print_message,
    print_table,
    span,
)

if TYPE_CHECKING:
    from functions.sweep.sweep import SweepReport

HELP = "run the sweep once, or say what it would do"
TASK = (
    "watch",
    "task_id",
    "kind",
    "was",
    "live",
    "number",
    "tries",
    "worker",
    "state",
    "reason",
    "cause",
    "error",
    "retry_after",
    "late",
)
JSON = {
    "verdict": (),
    "sweep_id": (),
    "failed": (),
    "requeued": (),
    "redispatched": (),
    "suspended": (),
    "unsweepable": (),
    "orphaned": (),
    "pruned": (),
    "oldest_overdue_seconds": (),
    "oldest_pending_seconds": (),
    "complete": (),
    "seconds": (),
    "error": (),
    "count": (),
    "groups": ("watch", "kind", "was", "state", "reason", "count", "oldest", "newest"),
    "would": TASK,
}
LISTED_TASKS = 500
"""Of each watch, in JSON."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser, several=True)
    parser.add_argument(
        "--dry-run", action="store_true", help="write nothing: show what would be settled, and why"
    )
    parser.add_argument("--apply", action="store_true", help="do not ask at a terminal")


def run(options: argparse.Namespace) -> int:
    from functions.sweep.sweep import SweepReport, sweep

    store, policy, _ = target.target(options)
    watches = target.watches(options, policy)
    asks = sys.stdin.isatty() and not options.apply and not options.json
    if options.dry_run or asks:
        stuck = {watch.name: store.stuck(watch, LISTED_TASKS) for watch in watches}
        if not _is_wanted(stuck, options):
            return FINE
    swept = replace(policy, watches={watch.name: watch for watch in watches})
    log_lines = _for_log_lines()
    with contextlib.redirect_stdout(log_lines):
        report = sweep(store, swept, options.app.dispatcher, options.app.settings, by="cli")
    if options.json:
        print_json(report)
    elif isinstance(report, SweepReport):
        print(f"{report.verdict}: {report.failed} failed, {report.requeued} requeued")
    else:
        print(f"{report.verdict}: 0 failed, 0 requeued")
    if report.verdict == "error":
        reason = getattr(report, "error", None) or "the sweep failed"
        return print_message(f"{reason}. Next: {PROGRAM} doctor", ERROR)
    again = target.again(options)
    return _print_next(report, log_lines, again) if isinstance(report, SweepReport) else FINE


def _is_wanted(stuck: dict[str, StuckTasks], options: argparse.Namespace) -> bool:
    """Shows what the sweep would settle. Whether it runs, then."""
    count = sum(answer.count for answer in stuck.values())
    if options.json:
        print_json({"count": count, "groups": _groups(stuck), "would": _tasks(stuck)})
        return False
    _print_groups(stuck)
    if options.dry_run:
        print_message(f"{_counted(stuck)} would be settled now; nothing was written")
        return False
    if count and not confirmed(f"Settle {_counted(stuck)}?", yes=False):
        print_message("nothing was written. --apply does not ask.")
        return False
    return True


def _print_next(report: "SweepReport", log_lines: TextIO, again: str) -> int:
    """How to take back what it failed, and what it could not settle. Returns the exit code."""
    if report.failed:
        print_message(f"To start again what it failed: {PROGRAM} undo {report.sweep_id}")
    if not report.unsweepable:
        return FINE
    for error in _refusals(log_lines):
        print_message(error)
    could_not = f"{counted(report.unsweepable, 'task')} could not be settled"
    return print_message(f"{could_not}. Next: {PROGRAM} list --stuck{again}", ERROR)


def _refusals(log_lines: TextIO) -> list[str]:
    """Why tasks could not be settled, where nobody has seen the log lines."""
    if not isinstance(log_lines, io.StringIO):
        return []
    logged = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    errors = [line["error"] for line in logged if line["event"] == "task_unsweepable"]
    return list(dict.fromkeys(errors))


def _for_log_lines() -> TextIO:
    """They are no data here, and nothing for a person who sees the answer."""
    return io.StringIO() if sys.stderr.isatty() else sys.stderr


def _groups(stuck: dict[str, StuckTasks]) -> list[dict[str, Any]]:
    return [
        {"watch": name} | plain(group) for name, answer in stuck.items() for group in answer.groups
    ]


def _tasks(stuck: dict[str, StuckTasks]) -> list[dict[str, Any]]:
    return [
        {"watch": name} | plain(task) for name, answer in stuck.items() for task in answer.tasks
    ]


def _counted(stuck: dict[str, StuckTasks]) -> str:
    count = sum(answer.count for answer in stuck.values())
    more = any(answer.count >= answer.most for answer in stuck.values())
    return f"{counted(count, 'task')}{' or more' if more else ''}"


def _print_groups(stuck: dict[str, StuckTasks]) -> None:
    rows = [
        [
            group["watch"],
            group["kind"],
            group["was"],
            group["state"],
            group["reason"],
            group["count"],
            span(group["oldest"]),
            span(group["newest"]),
        ]
        for group in _groups(stuck)
    ]
    columns = ("watch", "kind", "is", "becomes", "reason", "tasks", "oldest", "newest")
    print_table(columns, rows)
