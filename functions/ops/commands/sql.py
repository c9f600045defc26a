"""sql: the SQL of the policy, for review or for supabase/migrations/."""

import argparse
import json

from functions.core.policy import Policy
from functions.errors import PolicyError
from functions.install.supabase_api import SCHEMAS
from functions.ops.cli import target
from functions.ops.cli.out import FINE, print_json, print_message

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
    target.add_dsn(parser)
    parser.add_argument(
        "--table",
        metavar="SCHEMA.NAME",
        help="for this table alone, without a policy: our own new one (public.tasks), or one that "
        "the database of --dsn has, which is only read",
    )
    target.add_word(parser)
    parser.add_argument(
        "--rules",
        action="store_true",
        help="instead the rules of each watch, as the SQL functions take them, in one JSON object",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from functions.core.policy import load
    from functions.install import pg_cron
    from functions.install.migrate import file, script, steps

    policy = _policy_of(options) if options.table else load()
    schema = options.schema if options.supabase else None
    if options.schema != SCHEMAS[0] and not schema:
        raise PolicyError("--schema is for the REST API of Supabase. Give --supabase too.")
    if options.rules:
        print_json({name: json.loads(each.rules_json) for name, each in policy.watches.items()})
    elif options.json:
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
        if options.cron and schema:
            more = pg_cron.EXTENSION + more + pg_cron.NEXT
        print(file(policy, schema, more) if schema else script(policy, more))
    return FINE


def _policy_of(options: argparse.Namespace) -> Policy:
    """The bundle's policy with the table alone: as our own where the bundle's is meant and the
    database has none that is somebody else's, else as it is found."""
    from functions.core.policy import DEFAULT, load
    from functions.ops import adopt

    bundle = load(str(DEFAULT))
    is_bundles = options.table == bundle.watch().table
    if is_bundles and not (options.dsn and _is_theirs(options)):
        return bundle
    from functions.ops.inspect import check
    from functions.ops.inspect.session import connect

    with connect(target.dsn(options)) as connection:
        inferred = check.infer_table(connection, options.table, None, options.word)
    for doubt in inferred.unsure:
        print_message(f"unsure: {doubt}")
    return adopt.policy(adopt.watch(inferred))


def _is_theirs(options: argparse.Namespace) -> bool:
    """Whether the table is there, and we did not make it."""
    from functions.ops.inspect.session import connect

    with connect(target.dsn(options)) as connection:
        row = connection.execute(
            "select to_regclass(%s) is not null and to_regclass('unstuck.migrations') is null",
            (options.table,),
        ).fetchone()
    return bool(row and row[0])
