"""migrate: brings a database up to date with the policy."""

import argparse
import contextlib
from collections.abc import Iterator

from functions.errors import StoreError
from functions.install.supabase_api import SCHEMAS
from functions.ops.cli import target
from functions.ops.cli.out import (
    FINE,
    FOUND,
    PROGRAM,
    counted,
    print_json,
    print_line,
    print_message,
)

HELP = "bring a database up to date with the policy"
JSON = {"missing": (), "applied": ()}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.add_dsn(parser)
    parser.add_argument(
        "--apply", action="store_true", help="write; without it, only say what is missing"
    )
    parser.add_argument(
        "--check", action="store_true", help="only say what is missing, as without it"
    )
    parser.add_argument(
        "--supabase",
        nargs="?",
        const=SCHEMAS[0],
        choices=SCHEMAS,
        metavar="SCHEMA",
        help="also what Supabase's REST API needs, in the schema public (or unstuck)",
    )
    parser.add_argument(
        "--role",
        metavar="ROLE",
        help="also give this role what deployed code needs, and no more; it keeps that in upgrades",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


@contextlib.contextmanager
def as_store_errors(name: str) -> Iterator[None]:
    """Turns what the database refuses while it is migrated into a StoreError with the next step.
    `name`: of the command."""
    import psycopg

    try:
        yield
    except psycopg.OperationalError as error:
        reason = error.diag.message_primary or "the connection broke"
        raise StoreError(f"{name}: {reason}", retryable=True, code=error.sqlstate or "") from None
    except psycopg.Error as error:
        reason = error.diag.message_primary or type(error).__name__
        advice = "Mend that, or connect as the tables' owner; then run it again."
        raise StoreError(
            f"{name}: {reason}. Nothing was written. {advice}",
            retryable=False,
            code=error.sqlstate or "",
        ) from None


def run(options: argparse.Namespace) -> int:
    from functions.install.migrate import check, migrate
    from functions.ops.inspect.session import connect

    dsn = target.dsn(options)
    connect(dsn).close()  # it says when nobody answers; an index may take minutes without a word
    with as_store_errors("migrate"):
        if options.apply:
            steps = migrate(dsn, supabase=options.supabase, tell=print_message, role=options.role)
        else:
            steps = check(dsn, supabase=options.supabase)
    if options.json:
        done, not_done = ("applied", "missing") if options.apply else ("missing", "applied")
        print_json({done: steps, not_done: []})
    else:
        for step in steps:
            print_line(step)
        for watch in (step.removeprefix("gone.") for step in steps if step.startswith("gone.")):
            print_message(
                f"{watch} is not in the policy any more: "
                "its functions and triggers go, its table and attempts stay"
            )
    if not steps:
        return print_message("up to date", FINE)
    if options.apply:
        return print_message(f"{counted(len(steps), 'step')} applied", FINE)
    return print_message(
        f"{counted(len(steps), 'step')} missing. Next: {PROGRAM} migrate --apply", FOUND
    )
