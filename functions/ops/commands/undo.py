"""undo: starts again the tasks that one sweep had failed, and which nobody has touched since."""

import argparse

from functions.ops.cli import many_tasks, selection, target
from functions.ops.cli.out import confirmed, print_json, print_message

HELP = "start again what a sweep has failed"
JSON = {"sweep_id": (), "found": (), "moved": (), "refused": ("task_id", "error"), "applied": ()}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep_id", type=selection.positive, help="the run, as `sweep` and its log line say it"
    )
    target.arguments(parser)
    parser.add_argument(
        "--apply", action="store_true", help="write; without it, ask at a terminal, else only count"
    )


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    sweep_id = options.sweep_id
    task_filter = {"states": ["failed"], "sweep_id": sweep_id}
    pages = selection.pages(store, watch, task_filter)
    task_ids = [task.task_id for page in pages for task in page]
    count = len(task_ids)
    applied = bool(task_ids) and confirmed(f"start {count} tasks again?", yes=options.apply)
    moved, refused = many_tasks.move(store, watch, "retry", task_ids if applied else [])
    if options.json:
        print_json(
            {
                "sweep_id": sweep_id,
                "found": count,
                "moved": moved,
                "refused": refused,
                "applied": applied,
            }
        )
    if not task_ids:
        return print_message(
            f"No task that sweep {sweep_id} failed is failed still. "
            "A sweep's number stands in its log line."
        )
    if not applied:
        return print_message(
            f"{count} tasks were failed by sweep {sweep_id} and are failed still. "
            "--apply starts them again."
        )
    return many_tasks.print_result("retry", count, moved, refused)
