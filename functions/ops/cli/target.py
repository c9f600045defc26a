"""The database and the watch that a command works on."""

import argparse
import os
from typing import NamedTuple

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from functions.core.policy import Policy, Watch, load
from functions.core.settings import settings
from functions.errors import PolicyError
from functions.store import Store
from functions.store.postgres import PostgresStore


class Target(NamedTuple):
    store: Store
    policy: Policy
    watch: Watch


def arguments(parser: argparse.ArgumentParser) -> None:
    add_dsn(parser)
    parser.add_argument(
        "--in", dest="name", metavar="WATCH", help="the watch of policy.yaml (default: its first)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_dsn(parser: argparse.ArgumentParser) -> None:
    """Adds --dsn, which `dsn()` reads."""
    parser.add_argument(
        "--dsn",
        default=os.environ.get("DATABASE_URL"),
        help="PostgreSQL URL (default: DATABASE_URL)",
    )


def target(options: argparse.Namespace) -> Target:
    """Raises PolicyError with the next step: what is wrong stands in the options."""
    policy, found = load(), _store(options)
    options.closing.callback(found.close)
    try:
        watch = policy.watch(options.name)
    except KeyError:
        names = ", ".join(policy.watches)
        raise PolicyError(
            f"No watch is called {options.name!r}. There are: {names}. Give one with --in."
        ) from None
    return Target(found, policy, watch)


def _store(options: argparse.Namespace) -> Store:
    """Of --dsn; without it by Supabase's REST API, where the environment names one."""
    given = settings()
    if options.dsn or not given.supabase_url:
        return PostgresStore(dsn(options))
    from functions.store.supabase import SupabaseStore

    return SupabaseStore(given.supabase_url, given.supabase_key or "")


def dsn(options: argparse.Namespace) -> str:
    """Raises PolicyError when it is missing, or no DSN at all."""
    if not options.dsn:
        raise PolicyError("No database is named. Give --dsn, or set DATABASE_URL.")
    try:
        conninfo_to_dict(options.dsn)
    except ProgrammingError as error:
        said = " ".join(str(error).split())
        raise PolicyError(
            f"--dsn is no PostgreSQL URL ({said}). Write postgresql://user@host:5432/database."
        ) from None
    return str(options.dsn)
