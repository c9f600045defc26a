"""watch: the open tasks and the counts, again and again, until Ctrl-C. A live view on a terminal,
plain text otherwise."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from functions.ops.cli import selection, target
from functions.ops.cli.out import FINE, console, print_json, print_table, rich_table
from functions.ops.commands import list as listing
from functions.ops.commands import stats

HELP = "watch the open tasks and the counts until Ctrl-C"
JSON = {"at": ()} | listing.JSON | {"stats": tuple(stats.JSON)}
Look = dict[str, Any]


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
    found = selection.seconds(text)
    if not 0 < found <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not between 0 and a day. Give a time such as 2s"
        )
    return found


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    wanted, looks = selection.filter_of(options), 0
    with _screen(options) as show:
        while True:
            tasks = list(selection.tasks(store, watch, wanted, options.limit))
            show(
                {
                    "at": datetime.now(UTC).isoformat(),
                    "tasks": tasks,
                    "stats": store.overview(watch),
                }
            )
            looks += 1
            if looks == options.times:
                return FINE
            time.sleep(options.every)


@contextlib.contextmanager
def _screen(options: argparse.Namespace) -> Iterator[Callable[[Look], None]]:
    """What shows a look: JSON lines, text below text, or a picture that is drawn anew in its place."""
    if options.json:
        yield print_json
    elif not sys.stdout.isatty():
        yield _print
    else:
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            yield lambda look: live.update(_picture(look), refresh=True)


def _tables(look: Look) -> list[tuple[tuple[str, ...], list[list[Any]]]]:
    return [(listing.COLUMNS, listing.rows(look["tasks"])), *stats.tables(look["stats"])]


def _print(look: Look) -> None:
    print(f"at {look['at'][:19]} UTC")
    for columns, rows in _tables(look):
        print_table(columns, rows)
    print(f"{stats.pulse(look['stats'])}\n", flush=True)


def _picture(look: Look) -> Any:
    from rich.console import Group
    from rich.text import Text

    last = f"{stats.pulse(look['stats'])}\nat {look['at'][:19]} UTC; Ctrl-C ends"
    return Group(*(rich_table(columns, rows) for columns, rows in _tables(look)), Text(last))
