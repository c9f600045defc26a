"""list: the tasks that are open, or those in the states that are named."""

import argparse
from typing import Any

from functions.core.states import State
from functions.ops.cli import selection, target
from functions.ops.cli.out import FINE, print_json, print_message, print_table, span
from functions.store import Answer

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
    wanted = selection.filter_of(options)
    if "ids" in wanted:  # whoever names a task wants to see it, open or not
        wanted.setdefault("states", list(State))
    found = list(selection.tasks(store, watch, wanted, options.limit))
    if options.json:
        print_json({"tasks": found})
        return FINE
    print_table(COLUMNS, rows(found))
    return print_message(
        f"{len(found)} task{'' if len(found) == 1 else 's'}"
        + (" (--limit shows more)" if len(found) == options.limit else "")
    )


def rows(found: list[Answer]) -> list[list[Any]]:
    names = ("task_id", "kind", "word", "age", "number", "worker", "reason", "error")
    return [[span(task[name]) if name == "age" else task[name] for name in names] for task in found]
