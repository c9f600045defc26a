"""The database and the watch that a command works on."""

import argparse
import os
from typing import NamedTuple

from functions.errors import StoreError
from functions.policy import Policy, Watch, load
from functions.store import Store
from functions.store.postgres import PostgresStore


class Target(NamedTuple):
    store: Store
    policy: Policy
    watch: Watch


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", default=os.environ.get("DATABASE_URL"), help="PostgreSQL URL (default: DATABASE_URL)")
    parser.add_argument("--in", dest="name", metavar="WATCH", help="the watch of policy.yaml (default: its first)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def target(options: argparse.Namespace) -> Target:
    """Raises StoreError or PolicyError with the next step."""
    policy = load()
    if not options.dsn:
        raise StoreError("No database is named. Give --dsn, or set DATABASE_URL.", retryable=False)
    try:
        return Target(PostgresStore(options.dsn), policy, policy.watch(options.name))
    except KeyError:
        names = ", ".join(policy.watches)
        raise StoreError(f"No watch is called {options.name!r}. There are: {names}.", retryable=False) from None
