"""undo: starts again the tasks that one sweep had failed, and which nobody has touched since."""

import argparse

from functions.ops.cli import many_tasks, selection, target
from functions.ops.cli.out import confirmed, data, words

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
    wanted = {"states": ["failed"], "sweep_id": options.sweep_id}
    found = [one["task_id"] for page in selection.pages(store, watch, wanted) for one in page]
    applied = bool(found) and confirmed(f"start {len(found)} tasks again?", yes=options.apply)
    moved, refused = many_tasks.move(store, watch, "retry", found) if applied else ([], [])
    if options.json:
        data(
            {
                "sweep_id": options.sweep_id,
                "found": len(found),
                "moved": moved,
                "refused": refused,
                "applied": applied,
            }
        )
    if not found:
        return words(
            f"No task that sweep {options.sweep_id} failed is failed still. A sweep's number stands in its log line."
        )
    if not applied:
        return words(
            f"{len(found)} tasks were failed by sweep {options.sweep_id} and are failed still. --apply starts them again."
        )
    return many_tasks.told("retry", len(found), moved, refused)
