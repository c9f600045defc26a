"""watch: the open tasks and the counts, again and again, until Ctrl-C. A live view on a terminal,
plain text otherwise."""

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from functions.ops.cli import selection, target
from functions.ops.cli.out import FINE, console, print_json, print_line, print_table, rich_table
from functions.ops.commands import list as listing
from functions.ops.commands import stats

HELP = "watch the open tasks and the counts until Ctrl-C"
JSON = {"at": ()} | listing.JSON | {"stats": tuple(stats.OVERVIEW)}
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
    task_filter = selection.filter_of(options)
    with _screen(options) as show:
        for number in itertools.count(1):
            tasks = list(selection.tasks(store, watch, task_filter, options.limit))
            show(
                {
                    "at": datetime.now(UTC).isoformat(),
                    "tasks": tasks,
                    "stats": store.overview(watch),
                }
            )
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
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            yield lambda view: live.update(_picture(view), refresh=True)


def _tables(view: View) -> list[tuple[tuple[str, ...], list[list[Any]]]]:
    return [(listing.COLUMNS, listing.rows(view["tasks"])), *stats.tables(view["stats"])]


def _print(view: View) -> None:
    print(f"at {view['at'][:19]} UTC")
    for columns, rows in _tables(view):
        print_table(columns, rows)
    print_line(f"{stats.summary(view['stats'])}\n")


def _picture(view: View) -> Any:
    from rich.console import Group
    from rich.text import Text

    last = f"{stats.summary(view['stats'])}\nat {view['at'][:19]} UTC; Ctrl-C ends"
    return Group(*(rich_table(columns, rows) for columns, rows in _tables(view)), Text(last))
