"""sql: the SQL of the policy, for review or for supabase/migrations/."""

import argparse

from functions.errors import PolicyError
from functions.install.supabase_api import SCHEMAS
from functions.ops.cli.out import FINE, print_json

HELP = "print the SQL of the policy, for review or for supabase/migrations/"
JSON = {"steps": ("name", "sha256", "sql")}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--supabase",
        action="store_true",
        help="one file for supabase/migrations/, which may be run again",
    )
    parser.add_argument(
        "--schema",
        choices=SCHEMAS,
        default=SCHEMAS[0],
        help="with --supabase: where its REST API finds the verbs (default: public)",
    )
    parser.add_argument(
        "--cron",
        action="store_true",
        help="also the sweep in SQL alone, and its schedule: needs pg_cron",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from functions.core.policy import load
    from functions.install import pg_cron
    from functions.install.migrate import file, script, steps

    policy = load()
    schema = options.schema if options.supabase else None
    if options.schema != SCHEMAS[0] and not schema:
        raise PolicyError("--schema is for the REST API of Supabase. Give --supabase too.")
    if options.json:
        print_json(
            {
                "steps": [
                    {"name": step.name, "sha256": step.sha256, "sql": step.text}
                    for step in steps(policy, schema)
                ]
            }
        )
    else:
        more = pg_cron.procedures(policy) + pg_cron.schedule(policy) if options.cron else ""
        print(file(policy, schema, more) if schema else script(policy, more))
    return FINE
