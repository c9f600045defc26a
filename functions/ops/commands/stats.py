"""stats: open tasks by state and kind, what ended in the last hour and why, and when the last sweep
ran."""

import argparse
from typing import Any

from functions.ops.cli import target
from functions.ops.cli.out import FINE, print_json, print_table, span
from functions.store import Answer

HELP = "count tasks by state and kind, and endings by reason"
JSON = {
    "open": ("state", "kind", "count", "oldest"),
    "live": (),
    "live_by_kind": (),
    "overdue": ("count", "oldest"),
    "ended": ("kind", "outcome", "reason", "count"),
    "refused": (),
    "last_sweep": ("started_at", "ago", "ok", "counts"),
}
arguments = target.arguments


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    found = store.overview(watch)
    if options.json:
        print_json(found)
        return FINE
    for columns, rows in tables(found):
        print_table(columns, rows)
    print(pulse(found))
    return FINE


def tables(found: Answer) -> list[tuple[tuple[str, ...], list[list[Any]]]]:
    """What is open and what has ended: the columns and rows of each."""
    waiting = [
        [one["state"], one["kind"], one["count"], span(one["oldest"])] for one in found["open"]
    ]
    ended = [[one["kind"], one["outcome"], one["reason"], one["count"]] for one in found["ended"]]
    return [
        (("state", "kind", "open", "oldest"), waiting),
        (("kind", "ended in the last hour", "reason", "attempts"), ended),
    ]


def pulse(found: Answer) -> str:
    """Whether the sweep lives, and what it has to do."""
    swept = found["last_sweep"]
    return (
        f"overdue: {found['overdue']['count']}, live attempts: {found['live']}, writes refused: {found['refused']}\n"
        f"last sweep: {span(swept['ago']) + ' ago' if swept else 'never'}"
    )
