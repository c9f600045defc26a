"""The database and the watch that a command works on."""

import argparse
import os
import sys
from getpass import getpass
from pathlib import Path
from typing import NamedTuple

from functions.core.policy import Policy, Watch, load
from functions.errors import PolicyError, StoreError
from functions.ops.cli.out import print_message
from functions.ops.cli.patience import TalkingStore
from functions.ops.dev import DATA, POLICY_FILE
from functions.store import Store
from functions.store.dsn import readable
from functions.store.postgres import PostgresStore

_BESIDE_THE_API = " This command reads the catalog, which the REST API of SUPABASE_URL lacks."


class Target(NamedTuple):
    store: Store
    policy: Policy
    watch: Watch


def arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """`several`: without --in the command works on all watches."""
    add_dsn(parser)
    default = "all of them" if several else "its first"
    parser.add_argument(
        "--in", dest="name", metavar="WATCH", help=f"the watch of policy.yaml (default: {default})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_dsn(parser: argparse.ArgumentParser) -> None:
    """Adds --dsn, which `dsn()` reads."""
    parser.add_argument(
        "--dsn",
        type=named,
        default=os.environ.get("DATABASE_URL"),
        help="PostgreSQL URL, @FILE that holds it, or - to be asked (default: DATABASE_URL)",
    )


def named(text: str) -> str:
    """The DSN that an argument names. Each login of the machine sees the arguments of a program: a
    password goes into a file or a variable, or is typed."""
    if text == "-":
        return getpass("PostgreSQL URL: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise argparse.ArgumentTypeError(f"{text[1:]}: {reason}") from None
    return text


def add_word(parser: argparse.ArgumentParser) -> None:
    """Adds --word, for words that nothing in the table shows."""
    parser.add_argument(
        "--word",
        action="append",
        metavar="STATE=WORD",
        help="a word that nothing in the table shows yet: failed=error",
    )


def target(options: argparse.Namespace) -> Target:
    """Opens the store that the options name; it is closed when the command ends. Raises
    PolicyError, since what is wrong stands in the options."""
    policy, store = load(_policy_of_dev(options)), _store(options)
    options.closing.callback(store.close)
    store = TalkingStore(store, goes_on=options.command == "work" and not options.once)
    try:
        watch = policy.watch(options.name)
    except KeyError:
        names = ", ".join(policy.watches)
        raise PolicyError(
            f"No watch is called {options.name!r}. There are: {names}. Give one with --in."
        ) from None
    return Target(store, policy, watch)


def _policy_of_dev(options: argparse.Namespace) -> str | None:
    """The file by which `dev` runs, where this is its database: its clocks are shorter. None for
    that of the environment."""
    try:
        is_its = options.dsn == (DATA / "dsn").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    if not is_its or options.app.settings.policy:
        return None
    return str(DATA / POLICY_FILE)


def again(options: argparse.Namespace) -> str:
    """What the next command needs besides its own words, to be about the same watch."""
    return f" --in {options.name}" if options.name else ""


def watches(options: argparse.Namespace, policy: Policy) -> list[Watch]:
    """The watch that --in names, else all of them."""
    return [policy.watch(options.name)] if options.name else list(policy.watches.values())


def _store(options: argparse.Namespace) -> Store:
    """The database of --dsn; without it Supabase's REST API, where the environment names one."""
    environment = options.app.settings
    if options.dsn or not environment.supabase_url:
        return PostgresStore(dsn(options), _source(options))
    from functions.store.supabase import SupabaseStore

    return SupabaseStore(environment.supabase_url, environment.supabase_key or "")


def dsn(options: argparse.Namespace) -> str:
    """The DSN of the options, as PostgreSQL's library takes it. Raises PolicyError when none is
    named, or when it is none."""
    if not options.dsn:
        why = "" if not options.app.settings.supabase_url else _BESIDE_THE_API
        raise PolicyError(f"No database is named.{why} Give --dsn, or set DATABASE_URL.")
    source = _source(options)
    try:
        text, ignored = readable(options.dsn, source)
    except StoreError as error:
        raise PolicyError(str(error)) from None
    if ignored:
        print_message(
            f"{source}: ignored, since PostgreSQL has no such option: {', '.join(ignored)}"
        )
    return text


def _source(options: argparse.Namespace) -> str:
    return "DATABASE_URL" if options.dsn == os.environ.get("DATABASE_URL") else "--dsn"
