"""stats: open tasks by state and kind, what ended in the last hour and why, and when the last sweep
ran."""

import argparse
from typing import Any

from functions.core.answers import Overview
from functions.core.record import plain, replace
from functions.core.watch import Watch
from functions.ops.cli import target
from functions.ops.cli.out import (
    FINE,
    PROGRAM,
    print_json,
    print_line,
    print_message,
    print_table,
    span,
)
from functions.store import Store

HELP = "count tasks by state and kind, and endings by reason"
OVERVIEW: dict[str, tuple[str, ...]] = {
    "open": ("state", "kind", "count", "oldest"),
    "live": (),
    "live_by_kind": (),
    "overdue": ("count", "oldest", "unjudged"),
    "ended": ("kind", "outcome", "reason", "count"),
    "refused": (),
    "last_sweep": ("started_at", "ago", "ok", "counts"),
    "estimated": (),
}
NOTHING = ("no task is open", "nothing ended in the last hour")
"""In the place of a table without rows."""
JSON = OVERVIEW | {"watches": (), "pauses": ()}
"""The overview of the first watch, or of the one that is named; and of each by its name."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser, several=True)
    parser.add_argument(
        "--prometheus", action="store_true", help="print the text that a Prometheus scrapes"
    )


def run(options: argparse.Namespace) -> int:
    store, policy, first = target.target(options)
    if options.prometheus:
        from functions.sweep import prometheus

        print(prometheus.text(store, policy, target.watches(options, policy)), end="")
        return FINE
    overviews = {watch.name: _overview(store, watch) for watch in target.watches(options, policy)}
    pauses = store.pauses(list(overviews))
    if options.json:
        print_json(plain(overviews[first.name]) | {"watches": overviews, "pauses": pauses})
        return FINE
    for pause in pauses:
        by = f" ({pause.why})" if pause.why else ""
        print_line(f"paused: {pause.watch} {pause.kind}, {span(pause.age)} ago by {pause.who}{by}")
    for name, overview in overviews.items():
        if len(overviews) > 1:
            print_line(f"{name}:")
        for (columns, rows), nothing in zip(tables(overview), NOTHING, strict=True):
            if rows:
                print_table(columns, rows)
            else:
                print_line(nothing)
        print_line(summary(overview))
    words, name = _next(overviews)
    where = f" --in {name}" if options.name or len(overviews) > 1 else ""
    return print_message(f"Next: {PROGRAM} {words}{where}")


def _overview(store: Store, watch: Watch) -> Overview:
    """With how many open tasks no clock dates, as the page has it: they are not overdue, and nobody
    can say that they are well."""
    overview = store.overview(watch)
    unjudged = store.pulse(watch).stuck.unjudged
    return replace(overview, overdue=replace(overview.overdue, unjudged=unjudged))


def _next(overviews: dict[str, Overview]) -> tuple[str, str]:
    """What leads to the tasks that need somebody, if there are any, and their watch."""
    for name, overview in overviews.items():
        if overview.overdue.count:
            return "list --stuck", name
    for name, overview in overviews.items():
        if any(group.outcome == "failed" for group in overview.ended):
            return "list --state failed", name
    return "list", next(iter(overviews))


def tables(overview: Overview) -> list[tuple[tuple[str, ...], list[list[Any]]]]:
    """What is open and what has ended: the columns and rows of each."""
    about = "about " if overview.estimated else ""
    open_rows = [
        [group.state, group.kind, f"{about}{group.count}", span(group.oldest)]
        for group in overview.open
    ]
    ended_rows = [
        [group.kind, group.outcome, group.reason, group.count] for group in overview.ended
    ]
    return [
        (("state", "kind", "open", "oldest"), open_rows),
        (("kind", "ended in the last hour", "reason", "attempts"), ended_rows),
    ]


def summary(overview: Overview) -> str:
    """Two lines: how much is overdue, live and refused, and when the last sweep ran."""
    last_sweep = overview.last_sweep
    ago = f"{span(last_sweep.ago)} ago" if last_sweep else "never"
    unjudged = overview.overdue.unjudged
    unknown = f" (cannot say of {unjudged}: no column tells since when)" if unjudged else ""
    return (
        f"overdue: {overview.overdue.count}{unknown}, live attempts: {overview.live}, "
        f"writes refused: {overview.refused}\nlast sweep: {ago}"
    )
