"""Which tasks a command is about: a filter that the database evaluates, read page by page."""

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

from functions.core import durations
from functions.core.answers import TaskRow
from functions.core.policy import Watch
from functions.core.states import State
from functions.errors import PolicyError
from functions.ops.cli.parser import meant
from functions.store import Store

PAGE = 500
"""Tasks that are read or moved at once."""
PAGE_FILTERS = ("kind", "owner", "reason")
"""What the operators' list filters by, besides the state."""
_MAX_COUNT = 10**9


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--id", dest="ids", action="append", metavar="ID", help="this task; can be given again"
    )
    parser.add_argument(
        "--state",
        dest="states",
        action="append",
        metavar="STATE",
        help=f"{', '.join(State)}, or a word of the table's status; can be given again",
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


def seconds(text: str, *, or_zero: bool = True) -> float:
    """A time such as 90, 30s, 5m, 2h or 7d, in seconds. Raises argparse.ArgumentTypeError."""
    try:
        return durations.seconds(text, or_zero=or_zero)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def length(text: str) -> float:
    """The same, above 0."""
    return seconds(text, or_zero=False)


def positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:19]) <= _MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MAX_COUNT}")
    return int(text)


def filter_of(options: argparse.Namespace, watch: Watch) -> dict[str, Any]:
    """The filter that the options ask for. Raises PolicyError for a state that is none."""
    names = ("ids", "kind", "owner", "reason", "older_than")
    task_filter = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.states:
        task_filter |= _state_filter(options.states, watch)
    return task_filter


def _state_filter(texts: list[str], watch: Watch) -> dict[str, list[str]]:
    """The states of the texts, each a state or a word of the table's status; `words` too where a
    state has words that were not asked for."""
    names = list(dict.fromkeys([*State, *(text for state in State for text in watch.texts(state))]))
    for text in texts:
        if text not in names:
            raise PolicyError(
                f"--state: there is no {text!r}.{meant(text, names)} Choose from: "
                f"{', '.join(names)}."
            )
    states = {state for text in texts for state in watch.states_named(text)}
    task_filter = {"states": [str(state) for state in State if state in states]}
    if set(texts) - set(State):
        whole_states = set(State) & set(texts)
        task_filter["words"] = texts + [
            word for state in whole_states for word in watch.texts(state)
        ]
    return task_filter


def stuck_first(
    store: Store, watch: Watch, task_filter: dict[str, Any], *, only_stuck: bool = False
) -> Iterator[tuple[TaskRow, bool]]:
    """The open tasks of the filter, and whether they are stuck: first those that are, then the
    others, each the oldest first."""
    filters: dict[str, Any] = {"state": "stuck" if only_stuck else "open"}
    filters |= {name: task_filter[name] for name in PAGE_FILTERS if name in task_filter}
    after, is_last = None, False
    while not is_last:
        page = store.page(watch, filters, PAGE, after)
        after, is_last = page.next, page.next is None
        chosen_ids = task_filter.get("ids")
        is_stuck = {task.task_id: task.late is not None for task in page.tasks}
        task_ids = list(is_stuck)
        if chosen_ids is not None:
            task_ids = [task_id for task_id in task_ids if task_id in chosen_ids]
        row_pages = pages(store, watch, task_filter | {"ids": task_ids}) if task_ids else ()
        task_of = {task.task_id: task for row_page in row_pages for task in row_page}
        for task_id in task_ids:
            if task_id in task_of:
                yield task_of[task_id], is_stuck[task_id]


def tasks(store: Store, watch: Watch, task_filter: dict[str, Any], limit: int) -> Iterator[TaskRow]:
    """The tasks of the filter, `limit` at most, ordered by key."""
    return itertools.islice(itertools.chain.from_iterable(pages(store, watch, task_filter)), limit)


def pages(store: Store, watch: Watch, task_filter: dict[str, Any]) -> Iterator[list[TaskRow]]:
    """The database filters all but `words`."""
    after, words = None, task_filter.get("words")
    asked = {name: value for name, value in task_filter.items() if name != "words"}
    while page := store.find(watch, asked, PAGE, after):
        yield [task for task in page if words is None or task.word in words]
        if len(page) < PAGE:
            return
        after = page[-1].task_id
