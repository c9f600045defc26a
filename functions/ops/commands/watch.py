"""watch: the open tasks and the counts, again and again, until Ctrl-C; also where the database goes
away and comes back. A live view on a terminal, plain text otherwise."""

import argparse
import contextlib
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from functions.errors import StoreError
from functions.ops.cli import selection, target
from functions.ops.cli.out import (
    FINE,
    print_json,
    print_line,
    print_table,
    table_lines,
    terminal_width,
)
from functions.ops.cli.patience import STAYS
from functions.ops.cli.table import block
from functions.ops.commands import list as listing
from functions.ops.commands import stats

HELP = "watch the open tasks and the counts until Ctrl-C"
JSON = {"at": (), "tasks": listing.JSON["tasks"], "stats": tuple(stats.OVERVIEW)}
HOME, CLEAR, TO_END_OF_LINE, TO_END = "\x1b[H", "\x1b[H\x1b[2J", "\x1b[K", "\x1b[J"
"""What moves a terminal's cursor and clears it."""
View = dict[str, Any]
"""What is shown at one moment, with the keys of JSON."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    selection.arguments(parser)
    parser.add_argument(
        "--every", type=pause, metavar="TIME", default=2.0, help="how often to look (default 2s)"
    )
    parser.add_argument(
        "--times",
        type=selection.positive,
        metavar="N",
        help="so many looks (default: until Ctrl-C)",
    )
    parser.add_argument(
        "--limit",
        type=selection.positive,
        metavar="N",
        default=20,
        help="so many tasks at most (default 20)",
    )


def pause(text: str) -> float:
    """How long to wait between two views, in seconds. Raises argparse.ArgumentTypeError."""
    seconds = selection.seconds(text)
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not between 0 and a day. Give a time such as 2s"
        )
    return seconds


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    task_filter = selection.filter_of(options, watch)
    with _screen(options) as show:
        for number in itertools.count(1):
            try:
                tasks = list(selection.tasks(store, watch, task_filter, options.limit))
                overview = store.overview(watch)
                at = datetime.now(UTC).isoformat()
                show({"at": at, "tasks": tasks, "stats": overview})
            except StoreError as error:  # said by the store: who watches wants to see its end
                if number == 1 or not error.retryable or error.code in STAYS:
                    raise
            if number == options.times:
                break
            time.sleep(options.every)
    return FINE


@contextlib.contextmanager
def _screen(options: argparse.Namespace) -> Iterator[Callable[[View], None]]:
    """What shows a view: as a line of JSON, as text below the last one, or as a picture in place of
    the last one."""
    if options.json:
        yield print_json
    elif not sys.stdout.isatty():
        yield _print
    else:
        starts = itertools.chain([CLEAR], itertools.repeat(HOME))
        yield lambda view: _draw(view, next(starts))


def _tables(view: View) -> list[tuple[tuple[str, ...], list[list[Any]]]]:
    return [(listing.COLUMNS, listing.rows(view["tasks"])), *stats.tables(view["stats"])]


def _print(view: View) -> None:
    print(f"at {view['at'][:19]} UTC")
    for columns, rows in _tables(view):
        print_table(columns, rows)
    print_line(f"{stats.summary(view['stats'])}\n")


def _draw(view: View, start: str) -> None:
    """Writes over the view before: each line to its end, then all that is left below."""
    lines = [line for columns, rows in _tables(view) for line in [*table_lines(columns, rows), ""]]
    summary = f"{stats.summary(view['stats'])}\nat {view['at'][:19]} UTC; Ctrl-C ends"
    lines += [part for line in summary.splitlines() for part in block(line, terminal_width())]
    shown = lines[: shutil.get_terminal_size().lines - 1]
    sys.stdout.write(start + "".join(f"{line}{TO_END_OF_LINE}\n" for line in shown) + TO_END)
    sys.stdout.flush()
