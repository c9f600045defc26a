"""sql: the SQL of the policy, for review."""

import argparse

from functions.ops.out import FINE, data

HELP = "print the SQL of the policy, for review"
JSON = {"steps": ("name", "sha256", "sql")}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from functions.migrate import script, steps
    from functions.policy import load

    policy = load()
    if options.json:
        data({"steps": [{"name": one.name, "sha256": one.sha256, "sql": one.text} for one in steps(policy)]})
    else:
        print(script(policy))
    return FINE
