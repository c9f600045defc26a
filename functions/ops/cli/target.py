"""The database and the watch that a command works on."""

import argparse
import os
from typing import NamedTuple

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from functions.core.policy import Policy, Watch, load
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
    """Opens the store that the options name; it is closed when the command ends. Raises
    PolicyError, since what is wrong stands in the options."""
    policy, store = load(), _store(options)
    options.closing.callback(store.close)
    try:
        watch = policy.watch(options.name)
    except KeyError:
        names = ", ".join(policy.watches)
        raise PolicyError(
            f"No watch is called {options.name!r}. There are: {names}. Give one with --in."
        ) from None
    return Target(store, policy, watch)


def _store(options: argparse.Namespace) -> Store:
    """The database of --dsn; without it Supabase's REST API, where the environment names one."""
    environment = options.app.settings
    if options.dsn or not environment.supabase_url:
        return PostgresStore(dsn(options))
    from functions.store.supabase import SupabaseStore

    return SupabaseStore(environment.supabase_url, environment.supabase_key or "")


def dsn(options: argparse.Namespace) -> str:
    """The DSN of the options. Raises PolicyError when none is named, or when it is none."""
    if not options.dsn:
        raise PolicyError("No database is named. Give --dsn, or set DATABASE_URL.")
    try:
        conninfo_to_dict(options.dsn)
    except ProgrammingError as error:
        reason = " ".join(str(error).split())
        raise PolicyError(
            f"--dsn is no PostgreSQL URL ({reason}). Write postgresql://user@host:5432/database."
        ) from None
    return str(options.dsn)
