"""list: the tasks that are open, stuck ones first and the oldest first, or those in the states that
are named."""

import argparse
import itertools
from typing import Any

from functions.core.answers import TaskRow
from functions.core.states import State
from functions.ops.cli import selection, target
from functions.ops.cli.out import (
    FINE,
    PROGRAM,
    counted,
    print_json,
    print_message,
    print_table,
    span,
)

HELP = "list tasks: the open ones, or those in some states"
JSON = {
    "tasks": (
        "task_id",
        "state",
        "word",
        "kind",
        "owner",
        "error",
        "number",
        "tries",
        "worker",
        "reason",
        "age",
    ),
    "limit": (),
    "more": (),
}
COLUMNS = ("task", "kind", "status", "for", "attempt", "worker", "reason", "error")


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    selection.arguments(parser)
    parser.add_argument("--stuck", action="store_true", help="only those that are stuck")
    parser.add_argument(
        "--limit",
        type=selection.positive,
        metavar="N",
        default=100,
        help="so many at most (default 100)",
    )


def run(options: argparse.Namespace) -> int:
    store, policy, watch = target.target(options)
    task_filter = selection.filter_of(options, watch)
    if "ids" in task_filter:  # whoever names a task wants to see it, open or not
        task_filter.setdefault("states", list(State))
    stuck: int | None = None
    if options.stuck or "states" not in task_filter:
        matches = selection.stuck_first(store, watch, task_filter, only_stuck=options.stuck)
        open_tasks = list(itertools.islice(matches, options.limit + 1))
        tasks = [task for task, _ in open_tasks]
        stuck = sum(is_stuck for _, is_stuck in open_tasks[: options.limit])
    else:
        tasks = list(selection.tasks(store, watch, task_filter, options.limit + 1))
    more, tasks = len(tasks) > options.limit, tasks[: options.limit]
    if options.json:
        print_json({"tasks": tasks, "limit": options.limit, "more": more})
        return FINE
    print_table(COLUMNS, rows(tasks))
    count = counted(len(tasks), "task") + _stuck_share(stuck, len(tasks))
    if more:
        count = f"the first {count}; --limit shows more"
    where = "" if options.name else _one_of_several(watch.name, list(policy.watches))
    advice = f". Next: {PROGRAM} explain TASK{target.again(options)}" if tasks else ""
    return print_message(f"{count}{where}{advice}")


def _one_of_several(name: str, names: list[str]) -> str:
    """Which watch it was, and how to see the others, where there are any."""
    others = ", ".join(other for other in names if other != name)
    return f" in the watch {name}; the others by --in: {others}" if others else ""


def _stuck_share(stuck: int | None, count: int) -> str:
    """How many of the rows are stuck; they stand first. Nothing where nobody asked, and where it is
    seen anyway."""
    if stuck is None or count == 0:
        return ""
    if stuck == 0:
        return ", none stuck"
    return ", stuck" if stuck == count else f", the first {stuck} stuck"


def rows(tasks: list[TaskRow]) -> list[list[Any]]:
    """The cells of COLUMNS for each task."""
    return [_row(task) for task in tasks]


def _row(task: TaskRow) -> list[Any]:
    return [
        task.task_id,
        task.kind,
        task.word,
        span(task.age),
        task.number,
        task.worker,
        task.reason,
        task.error,
    ]
