"""sweep: one run of the sweep, as the scheduler calls it; with --dry-run, what it would do."""

import argparse
import contextlib
import sys
from typing import Any

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
    from functions.sweep.sweep import sweep

    store, policy, watch = target.target(options)
    if options.dry_run:
        return _preview(store.preview(watch, 500), options)
    with contextlib.redirect_stdout(sys.stderr):  # the log lines are words here
        done = sweep(store, policy, by="cli")
    if options.json:
        print_json(done)
    else:
        print(
            f"{done['verdict']}: {done.get('failed', 0)} failed, {done.get('requeued', 0)} requeued"
        )
    return ERROR if done["verdict"] == "error" else FINE


def _preview(found: list[dict[str, Any]], options: argparse.Namespace) -> int:
    if options.json:
        print_json({"would": found})
        return FINE
    rows = [
        [one["task_id"], one["kind"], one["was"], one["state"], one["reason"], span(one["late"])]
        for one in found
    ]
    print_table(("task", "kind", "is", "becomes", "reason", "late by"), rows)
    return print_message(f"{len(found)} tasks would be settled now; nothing was written")
