"""stats: open tasks by state and kind, what ended in the last hour and why, and when the last sweep ran."""

import argparse

from functions.ops import target
from functions.ops.out import FINE, data, span, table

HELP = "count tasks by state and kind, and endings by reason"
arguments = target.arguments


def run(options: argparse.Namespace) -> int:
    store, _, watch = target.target(options)
    found = store.overview(watch)
    if options.json:
        data(found)
        return FINE
    table(
        ("state", "kind", "open", "oldest"),
        [[o["state"], o["kind"], o["count"], span(o["oldest"])] for o in found["open"]],
    )
    rows = [[one["kind"], one["outcome"], one["reason"], one["count"]] for one in found["ended"]]
    table(("kind", "ended in the last hour", "reason", "attempts"), rows)
    swept = found["last_sweep"]
    print(f"overdue: {found['overdue']['count']}, live attempts: {found['live']}, writes refused: {found['refused']}")
    print(f"last sweep: {span(swept['ago']) + ' ago' if swept else 'never'}")
    return FINE
