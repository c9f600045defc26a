"""What a person does to many tasks: chosen by a filter in the database, shown first, then moved
page by page."""

import argparse
import sys
from typing import Any

from functions.core.policy import Watch
from functions.core.states import ACTIONS
from functions.ops.cli import selection, target
from functions.ops.cli.out import ERROR, FINE, USAGE, confirmed, data, span, table, words
from functions.store import Store
from functions.store.operate import operate

PREVIEW = 20
JSON = {"action": (), "found": (), "moved": (), "refused": ("task_id", "error"), "applied": ()}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    selection.arguments(parser)
    parser.add_argument(
        "--limit",
        type=selection.positive,
        metavar="N",
        default=10_000,
        help="so many at most (default 10000)",
    )
    parser.add_argument("--because", metavar="TEXT", help="the sentence for the user")
    parser.add_argument(
        "--apply", action="store_true", help="write; without it, ask at a terminal, else only show"
    )


def run(action: str, options: argparse.Namespace) -> int:
    """Shows what would move, asks, and moves it. Exit code 1 when some could not be moved."""
    store, _, watch = target.target(options)
    wanted = {"states": ACTIONS[action]} | selection.chosen(options)
    if not set(wanted["states"]) <= set(ACTIONS[action]):
        return words(
            f"{action} applies to tasks that are {' or '.join(ACTIONS[action])}. Leave --state out.",
            USAGE,
        )
    found = [one["task_id"] for one in selection.tasks(store, watch, wanted, options.limit)]
    if not options.json:
        _show(store, watch, wanted, len(found))
    if not found or not confirmed(
        f"{action} {len(found)} tasks of {watch.table}?", yes=options.apply
    ):
        if options.json:
            data(
                {
                    "action": action,
                    "found": len(found),
                    "moved": [],
                    "refused": [],
                    "applied": False,
                }
            )
        if not found:
            return words(f"{action}: no task matches that is {' or '.join(ACTIONS[action])}.")
        return words(
            f"{action} would move {len(found)} tasks. Nothing was written; --apply writes."
        )
    moved, refused = move(store, watch, action, found, options.because)
    if options.json:
        data(
            {
                "action": action,
                "found": len(found),
                "moved": moved,
                "refused": refused,
                "applied": True,
            }
        )
    return told(action, len(found), moved, refused)


def move(
    store: Store, watch: Watch, action: str, found: list[str], because: str | None = None
) -> tuple[list[str], list[dict[str, str]]]:
    """Page by page. Returns what moved, and what the database refused; the others were not in the
    state any more."""
    moved: list[str] = []
    refused: list[dict[str, str]] = []
    for start in range(0, len(found), selection.PAGE):
        page = found[start : start + selection.PAGE]
        page_moved, refusals = operate(store, watch, action, page, because)
        moved += page_moved
        refused += [{"task_id": one.task_id, "error": str(one.error)} for one in refusals]
        _progress(start + len(page), len(found))
    return moved, refused


def told(action: str, count: int, moved: list[str], refused: list[dict[str, str]]) -> int:
    """Says what became of them. Returns the exit code."""
    for one in refused:
        words(f"{one['task_id']}: {one['error']}")
    if refused:
        words(
            f"{len(refused)} were refused by the database. Mend what it says and run the same again."
        )
    return words(f"{action}: {len(moved)} of {count} tasks moved.", ERROR if refused else FINE)


def _show(store: Store, watch: Watch, wanted: dict[str, Any], count: int) -> None:
    rows = [
        [one["task_id"], one["kind"], one["word"], span(one["age"]), one["reason"]]
        for one in selection.tasks(store, watch, wanted, PREVIEW)
    ]
    if rows:
        table(("task", "kind", "status", "for", "reason"), rows)
    if count > PREVIEW:
        words(f"... and {count - PREVIEW} more")


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty() and of > selection.PAGE:
        end = "\n" if done >= of else ""
        print(
            f"\r{'█' * (30 * done // of):<30} {done} of {of}", end=end, file=sys.stderr, flush=True
        )
