"""sweep: one run of the sweep, as the scheduler calls it; with --dry-run, what it would do."""

import argparse
import contextlib
import sys

from functions.core.answers import Rescued
from functions.ops.cli import target
from functions.ops.cli.out import ERROR, FINE, print_json, print_message, print_table, span

HELP = "run the sweep once, or say what it would do"
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
    "would": (
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
    ),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="write nothing: show what would be settled, and why"
    )


def run(options: argparse.Namespace) -> int:
    from functions.sweep.sweep import SweepReport, sweep

    store, policy, watch = target.target(options)
    if options.dry_run:
        return _print_preview(store.preview(watch, 500), options)
    with contextlib.redirect_stdout(sys.stderr):  # the log lines are no data here
        report = sweep(store, policy, options.app.dispatcher, options.app.settings, by="cli")
    if options.json:
        print_json(report)
    elif isinstance(report, SweepReport):
        print(f"{report.verdict}: {report.failed} failed, {report.requeued} requeued")
    else:
        print(f"{report.verdict}: 0 failed, 0 requeued")
    return ERROR if report.verdict == "error" else FINE


def _print_preview(overdue: list[Rescued], options: argparse.Namespace) -> int:
    if options.json:
        print_json({"would": overdue})
        return FINE
    rows = [
        [task.task_id, task.kind, task.was, task.state, task.reason, span(task.late)]
        for task in overdue
    ]
    print_table(("task", "kind", "is", "becomes", "reason", "late by"), rows)
    return print_message(f"{len(overdue)} tasks would be settled now; nothing was written")
