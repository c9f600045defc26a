"""adopt: the watch for a table that you have, to be put into policy.yaml. Nothing is written to the
database."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from functions.core.policy import DEFAULT, parse
from functions.ops.cli import target
from functions.ops.cli.out import FINE, print_json, print_message

if TYPE_CHECKING:
    from functions.ops.inspect.session import Connection

HELP = "print the watch for a table that you have"
JSON = {
    "watch": (),
    "unsure": (),
    "not_mapped": (),
    "not_here": (),
    "finished": ("count", "p99_seconds", "longest_seconds"),
}
"""`finished`: the runs from which `run_for` and `silent_for` come, where enough have ended."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.add_dsn(parser)
    parser.add_argument("--table", required=True, help="schema.name")
    parser.add_argument("--name", help="the name of the watch (default: the table's)")
    parser.add_argument(
        "--map", metavar="FILE", help="YAML or JSON that says what was inferred wrongly"
    )
    target.add_word(parser)
    parser.add_argument(
        "--write",
        action="store_true",
        help="put it into policy.yaml (UNSTUCK_POLICY, or the bundle's)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from functions.ops import adopt
    from functions.ops.inspect import check, history
    from functions.ops.inspect.session import connect

    path = Path(os.environ.get("UNSTUCK_POLICY") or DEFAULT)
    with connect(target.dsn(options)) as connection:
        inferred = check.infer_table(connection, options.table, options.map, options.word)
        past = history.read(connection, inferred) if inferred.mapping.status else history.History()
        watches = adopt.watch(inferred, options.name, past)
        others = _own_watches(connection, path)
    not_mapped, not_here = adopt.missing(inferred), adopt.missing_handlers(inferred, watches, past)
    for title, sentences in (
        ("unsure", inferred.unsure),
        ("not mapped", not_mapped),
        ("not here", not_here),
        ("times", adopt.durations(past, watches)),
    ):
        for sentence in sentences:
            print_message(f"{title}: {sentence}")
    if options.json:
        print_json(
            {
                "watch": watches,
                "unsure": inferred.unsure,
                "not_mapped": not_mapped,
                "not_here": not_here,
                "finished": past.as_json(),
            }
        )
    else:
        print(adopt.text(watches), end="")
    if not options.write:
        return print_message(
            "Put it under `watches:` in policy.yaml (--write does), then: unstuck migrate --apply"
        )
    besides = adopt.write(watches, path, others)
    return print_message(f"written. {besides}Next: unstuck migrate --apply", FINE)


def _own_watches(connection: "Connection", path: Path) -> dict[str, str]:
    """The bundle's own watches of a policy, and what their table is in this database: `ours`,
    `theirs` (`migrate` did not make it) or `absent`."""
    from functions.install.migrate import OWN_TABLE_STEP
    from functions.install.table import Table
    from functions.ops.inspect.session import read_only

    tables = {}
    with read_only(connection):
        ledger = connection.execute("select to_regclass('unstuck.migrations')").fetchone()
        for watch in parse(path.read_text(encoding="utf-8"), path.name).watches.values():
            if not watch.own:
                continue
            table = connection.execute("select to_regclass(%s)", (Table(watch).name,)).fetchone()
            steps = 0
            if ledger != (None,):
                query = "select from unstuck.migrations where name = %s"
                step = f"{OWN_TABLE_STEP}.{watch.name}"
                steps = connection.execute(query, (step,)).rowcount
            tables[watch.name] = "ours" if steps else "theirs"
            if table == (None,):
                tables[watch.name] = "absent"
    return tables
