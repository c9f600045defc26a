"""adopt: the watch for a table that you have, to be put into policy.yaml. Nothing is written to the
database."""

import argparse
import os
from pathlib import Path

from functions.core.policy import DEFAULT
from functions.ops.cli import target
from functions.ops.cli.out import FINE, print_json, print_message

HELP = "print the watch for a table that you have"
JSON = {"watch": (), "unsure": (), "not_mapped": ()}


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
    from functions.ops.inspect import check
    from functions.ops.inspect.session import connect

    with connect(target.dsn(options)) as connection:
        inferred = check.infer_table(connection, options.table, options.map, options.word)
    watches = adopt.watch(inferred, options.name)
    for doubt in inferred.unsure:
        print_message(f"unsure: {doubt}")
    for sentence in adopt.missing(inferred):
        print_message(f"not mapped: {sentence}")
    for sentence in adopt.missing_handlers(inferred, watches):
        print_message(f"not here: {sentence}")
    if options.json:
        print_json(
            {"watch": watches, "unsure": inferred.unsure, "not_mapped": adopt.missing(inferred)}
        )
    else:
        print(adopt.text(watches), end="")
    if not options.write:
        return print_message(
            "Put it under `watches:` in policy.yaml (--write does), then: "
            "python -m functions migrate --apply"
        )
    besides = adopt.write(watches, Path(os.environ.get("UNSTUCK_POLICY") or DEFAULT))
    return print_message(f"written. {besides}Next: python -m functions migrate --apply", FINE)
