"""Which tasks a command is about: a filter that the database evaluates, read page by page."""

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

from functions.core import durations
from functions.core.answers import TaskRow
from functions.core.policy import Watch
from functions.core.states import State
from functions.store import Store

PAGE = 500
"""Tasks that are read or moved at once."""
_MAX_COUNT = 10**9


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--id", dest="ids", action="append", metavar="ID", help="this task; can be given again"
    )
    parser.add_argument(
        "--state",
        dest="states",
        action="append",
        choices=list(State),
        help="tasks in this state; can be given again",
    )
    parser.add_argument("--kind", help="tasks of this kind")
    parser.add_argument("--owner", help="tasks of this owner")
    parser.add_argument("--reason", help="tasks whose last attempt ended for this reason")
    parser.add_argument(
        "--older-than",
        type=seconds,
        metavar="TIME",
        help="waiting or silent for longer than 10m, 2h, ...",
    )


def seconds(text: str) -> float:
    """A time such as 90, 30s, 5m, 2h or 7d, in seconds. Raises argparse.ArgumentTypeError."""
    try:
        return durations.seconds(text, or_zero=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:19]) <= _MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MAX_COUNT}")
    return int(text)


def filter_of(options: argparse.Namespace) -> dict[str, Any]:
    """The filter that the options ask for."""
    names = ("ids", "states", "kind", "owner", "reason", "older_than")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def tasks(store: Store, watch: Watch, task_filter: dict[str, Any], limit: int) -> Iterator[TaskRow]:
    """The tasks of the filter, `limit` at most, ordered by key."""
    return itertools.islice(itertools.chain.from_iterable(pages(store, watch, task_filter)), limit)


def pages(store: Store, watch: Watch, task_filter: dict[str, Any]) -> Iterator[list[TaskRow]]:
    after = None
    while page := store.find(watch, task_filter, PAGE, after):
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].task_id
