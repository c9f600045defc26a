"""list: the tasks that are open, or those in the states that are named."""

import argparse
from typing import Any

from functions.core.answers import TaskRow
from functions.core.states import State
from functions.ops.cli import selection, target
from functions.ops.cli.out import FINE, print_json, print_message, print_table, span

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
    )
}
COLUMNS = ("task", "kind", "status", "for", "attempt", "worker", "reason", "error")


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    selection.arguments(parser)
    parser.add_argument(
        "--limit",
        type=selection.positive,
        metavar="N",
        default=100,
        help="so many at most (default 100)",
    )


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    task_filter = selection.filter_of(options)
    if "ids" in task_filter:  # whoever names a task wants to see it, open or not
        task_filter.setdefault("states", list(State))
    tasks = list(selection.tasks(store, watch, task_filter, options.limit))
    if options.json:
        print_json({"tasks": tasks})
        return FINE
    print_table(COLUMNS, rows(tasks))
    noun = "task" if len(tasks) == 1 else "tasks"
    more = " (--limit shows more)" if len(tasks) == options.limit else ""
    return print_message(f"{len(tasks)} {noun}{more}")


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
