"""list: the tasks that are open, or those in the states that are named."""

import argparse

from functions.ops import selection, target
from functions.ops.out import FINE, data, span, table, words

HELP = "list tasks: the open ones, or those in some states"


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    selection.arguments(parser)
    parser.add_argument("--limit", type=int, default=100, help="so many at most (default 100)")


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    found = list(selection.tasks(store, watch, selection.chosen(options), options.limit))
    if options.json:
        data({"tasks": found})
        return FINE
    rows = [
        [
            one["task_id"],
            one["kind"],
            one["word"],
            span(one["age"]),
            one["number"],
            one["worker"],
            one["reason"],
            one["error"],
        ]
        for one in found
    ]
    table(("task", "kind", "status", "for", "attempt", "worker", "reason", "error"), rows)
    return words(f"{len(found)} tasks" + (" (--limit shows more)" if len(found) == options.limit else ""))
