"""What a person does to many tasks: chosen by a filter in the database, shown first, then moved
page by page."""

import argparse
import shlex
import sys
from typing import Any

from functions.core.policy import Watch
from functions.core.states import ACTIONS, State
from functions.ops.cli import selection, target
from functions.ops.cli.out import (
    ERROR,
    FINE,
    PROGRAM,
    USAGE,
    confirmed,
    counted,
    print_json,
    print_message,
    print_table,
    span,
)
from functions.store import Store
from functions.store.operate import operate

PREVIEW_TASKS = 20
REFUSED_TASKS = 3
"""So many are named of those that the database refuses for the same reason."""
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
    states = " or ".join(ACTIONS[action])
    chosen = selection.filter_of(options, watch)
    task_filter = {"states": ACTIONS[action]} | chosen
    if not set(task_filter["states"]) <= set(ACTIONS[action]):
        return print_message(
            f"{action} applies to tasks that are {states}. Leave --state out.", USAGE
        )
    if action == "retry" and options.apply and not (chosen or options.all):
        return print_message(
            "retry --apply wants a filter, such as --reason or --id, or --all: without one it "
            "starts every task again that has ever failed or was cancelled.",
            USAGE,
        )
    tasks = selection.tasks(store, watch, task_filter, options.limit)
    task_ids = [task.task_id for task in tasks]
    count = len(task_ids)
    if task_ids and not options.json:
        _print_preview(store, watch, task_filter, count)
    if action == "cancel" and count and not watch.words[State.CANCELLED]:
        word = watch.words[State.FAILED][0]
        print_message(f"{watch.table} has no word for cancelled: such a task becomes {word!r}")
    question = f"{action} {counted(count, 'task')} of {watch.table}?"
    applied = bool(task_ids) and confirmed(question, yes=options.apply)
    to_move = task_ids if applied else []
    moved, refused = move(store, watch, action, to_move, options.because)
    if options.json:
        print_json(
            {
                "action": action,
                "found": count,
                "moved": moved,
                "refused": refused,
                "applied": applied,
            }
        )
    if not task_ids:
        next_command = f"{PROGRAM} list{target.again(options)}"
        return print_message(f"{action}: no task matches that is {states}. Next: {next_command}")
    if not applied:
        return print_message(
            f"{action} would move {counted(count, 'task')}. Nothing was written; --apply writes."
        )
    return print_result(action, count, moved, refused, target.again(options))


def move(
    store: Store, watch: Watch, action: str, task_ids: list[str], because: str | None = None
) -> tuple[list[str], list[dict[str, str]]]:
    """Moves the tasks page by page. Returns the ids that moved, and {task_id, error} for each that
    the database refused; the others were not in the state any more."""
    moved: list[str] = []
    refused: list[dict[str, str]] = []
    for start in range(0, len(task_ids), selection.PAGE):
        page = task_ids[start : start + selection.PAGE]
        page_moved, refusals = operate(store, watch, action, page, because)
        moved += page_moved
        refused += [
            {"task_id": refusal.task_id, "error": str(refusal.error)} for refusal in refusals
        ]
        _print_progress(start + len(page), len(task_ids))
    return moved, refused


def print_result(
    action: str, count: int, moved: list[str], refused: list[dict[str, str]], same_watch: str
) -> int:
    """Says what became of `count` tasks, and how to look at one of them. Returns the exit code."""
    ids_by_error: dict[str, list[str]] = {}
    for refusal in refused:
        ids_by_error.setdefault(refusal["error"], []).append(refusal["task_id"])
    for error, task_ids in ids_by_error.items():
        print_message(f"{_some(task_ids)}: {error}")
    next_step = ""
    if refused:
        next_step = "Mend what it says and run the same again."
        print_message(f"{len(refused)} were refused by the database.")
    elif moved:
        next_step = f"Next: {PROGRAM} explain {shlex.quote(moved[0])}{same_watch}"
    else:  # somebody else was sooner
        next_step = f"Next: {PROGRAM} list{same_watch}"
    result = f"{action}: {len(moved)} of {counted(count, 'task')} moved."
    return print_message(f"{result} {next_step}".rstrip(), ERROR if refused else FINE)


def _some(task_ids: list[str]) -> str:
    first, more = task_ids[:REFUSED_TASKS], len(task_ids) - REFUSED_TASKS
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def _print_preview(store: Store, watch: Watch, task_filter: dict[str, Any], count: int) -> None:
    rows = [
        [task.task_id, task.kind, task.word, span(task.age), task.reason]
        for task in selection.tasks(store, watch, task_filter, min(count, PREVIEW_TASKS))
    ]
    print_table(("task", "kind", "status", "for", "reason"), rows)
    if count > PREVIEW_TASKS:
        print_message(f"... and {count - PREVIEW_TASKS} more")


def _print_progress(done: int, of: int) -> None:
    if sys.stderr.isatty() and of > selection.PAGE:
        end = "\n" if done >= of else ""
        print(
            f"\r{'█' * (30 * done // of):<30} {done} of {of}", end=end, file=sys.stderr, flush=True
        )
