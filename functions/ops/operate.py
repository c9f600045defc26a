"""What a person does to many tasks: chosen by a filter in the database, shown first, then moved page by page."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from functions.errors import StoreError
from functions.ops import selection, target
from functions.ops.out import ERROR, FINE, USAGE, confirmed, data, span, table, words
from functions.policy import Watch
from functions.states import State
from functions.store import Store

OPEN = [State.PENDING.value, State.RUNNING.value]
STATES = {
    "cancel": [*OPEN, State.RESTING.value],
    "fail": OPEN,
    "requeue": [State.RUNNING.value],
    "retry": [State.FAILED.value, State.CANCELLED.value],
}
"""The states in which an action applies."""
PREVIEW = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    selection.arguments(parser)
    parser.add_argument("--limit", type=int, default=10_000, help="so many at most (default 10000)")
    parser.add_argument("--because", metavar="TEXT", help="the sentence for the user")
    parser.add_argument("--apply", action="store_true", help="write; without it, ask at a terminal, else only show")


def run(action: str, options: argparse.Namespace) -> int:
    """Shows what would move, asks, and moves it. Exit code 1 when some could not be moved."""
    store, _, watch = target.target(options)
    wanted = {"states": STATES[action]} | selection.chosen(options)
    if not set(wanted["states"]) <= set(STATES[action]):
        return words(f"{action} applies to tasks that are {' or '.join(STATES[action])}. Leave --state out.", USAGE)
    found = [one["task_id"] for one in selection.tasks(store, watch, wanted, options.limit)]
    if not options.json:
        _show(store, watch, wanted, len(found))
    if not found or not confirmed(f"{action} {len(found)} tasks of {watch.table}?", yes=options.apply):
        if options.json:
            data({"action": action, "found": len(found), "moved": [], "refused": [], "applied": False})
        return words(f"{len(found)} tasks would {action}. Nothing was written; --apply writes.")
    moved, refused = [], []
    for page in paged(found):
        done, bad = _move(store, watch, action, page, options.because)
        moved, refused = moved + done, refused + bad
        _progress(len(moved) + len(refused), len(found))
    if options.json:
        data({"action": action, "found": len(found), "moved": moved, "refused": refused, "applied": True})
    for one in refused:
        words(f"{one['task_id']}: {one['error']}")
    return words(f"{action}: {len(moved)} of {len(found)} tasks moved.", ERROR if refused else FINE)


def paged(found: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(found), selection.PAGE):
        yield found[start : start + selection.PAGE]


def _move(
    store: Store, watch: Watch, action: str, page: list[str], because: str | None
) -> tuple[list[str], list[dict[str, str]]]:
    """Where the page fails, row by row: one bad row is reported and never stops the rest."""
    try:
        return store.operate(watch, action, page, because), []
    except StoreError as error:
        if error.retryable or len(page) == 1:
            return [], [{"task_id": one, "error": str(error)} for one in page]
    moved, refused = [], []
    for one in page:
        done, bad = _move(store, watch, action, [one], because)
        moved, refused = moved + done, refused + bad
    return moved, refused


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
        print(f"\r{'█' * (30 * done // of):<30} {done} of {of}", end=end, file=sys.stderr, flush=True)
