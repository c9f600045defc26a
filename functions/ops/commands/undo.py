"""undo: starts again the tasks that one sweep had failed, and which nobody has touched since. A
sweep goes over all watches, and so does this; with --in only over one."""

import argparse

from functions.core.policy import Watch
from functions.ops.cli import many_tasks, selection, target
from functions.ops.cli.out import PROGRAM, confirmed, counted, print_json, print_message
from functions.store import Store

HELP = "start again what a sweep has failed"
JSON = {
    "sweep_id": (),
    "found": (),
    "moved": (),
    "refused": ("task_id", "error"),
    "applied": (),
    "watches": ("watch", "found", "moved"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep_id", type=selection.positive, help="the run, as `sweep` and its log line say it"
    )
    target.arguments(parser, several=True)
    parser.add_argument(
        "--apply", action="store_true", help="write; without it, ask at a terminal, else only count"
    )


def run(options: argparse.Namespace) -> int:
    store, policy, _ = target.target(options)
    sweep_id = options.sweep_id
    failed = {watch: _failed(store, watch, sweep_id) for watch in target.watches(options, policy)}
    count = sum(map(len, failed.values()))
    of_each = ", ".join(f"{len(ids)} of {watch.table}" for watch, ids in failed.items() if ids)
    applied = count > 0 and confirmed(
        f"start {counted(count, 'task')} again ({of_each})?", yes=options.apply
    )
    moved: dict[str, list[str]] = {}
    refused: list[dict[str, str]] = []
    for watch, task_ids in failed.items():
        to_move = task_ids if applied else []
        moved[watch.name], refusals = many_tasks.move(store, watch, "retry", to_move)
        refused += refusals
    all_moved = [task_id for task_ids in moved.values() for task_id in task_ids]
    if options.json:
        of_watches = [
            {"watch": watch.name, "found": len(task_ids), "moved": moved[watch.name]}
            for watch, task_ids in failed.items()
        ]
        print_json(
            {
                "sweep_id": sweep_id,
                "found": count,
                "moved": all_moved,
                "refused": refused,
                "applied": applied,
                "watches": of_watches,
            }
        )
    if not count:
        return print_message(
            f"No task that sweep {sweep_id} failed is failed still. "
            "Its number stands in its log line, and in what `sweep` answers. "
            f"Next: {PROGRAM} list --state failed{target.again(options)}"
        )
    if not applied:
        return print_message(
            f"Failed by sweep {sweep_id}, and failed still: {counted(count, 'task')} ({of_each}). "
            "--apply starts them again."
        )
    first = next((f" --in {name}" for name, task_ids in moved.items() if task_ids), "")
    return many_tasks.print_result("retry", count, all_moved, refused, first)


def _failed(store: Store, watch: Watch, sweep_id: int) -> list[str]:
    pages = selection.pages(store, watch, {"states": ["failed"], "sweep_id": sweep_id})
    return [task.task_id for page in pages for task in page]
