"""dev: all of Unstuck on this machine, on one port: PostgreSQL, every entry point, workers, the
tick, and the page.

With --dsn it shows your own database instead: sessions that cannot write, and nothing is installed.
Where Unstuck is installed there the page is shown, else what `check` finds. --apply lets it write
there: it migrates, serves and sweeps."""

import argparse
import os
from pathlib import Path

from functions.ops.cli import target
from functions.ops.cli.out import ERROR, print_message
from functions.ops.commands.migrate import as_store_errors

HELP = "serve everything on one port of this machine, with the page to look at"
JSON: dict[str, tuple[str, ...]] = {}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("PORT", "8080")),
        help="default: PORT, else 8080; 0 takes a free one",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="where the embedded PostgreSQL keeps its data (default: .cache/dev)",
    )
    parser.add_argument(
        "--sweep-every", type=float, default=5.0, metavar="SECONDS", help="the tick (default: 5)"
    )
    parser.add_argument(
        "--no-reload",
        dest="reload",
        action="store_false",
        help="do not load the code again when it changes",
    )
    parser.add_argument(
        "--no-samples",
        dest="samples",
        action="store_false",
        help="begin without tasks to play with",
    )
    parser.add_argument(
        "--dsn",
        type=target.named,
        help="watch this database instead, read-only: a URL, @FILE that holds it, or - to be asked",
    )
    parser.add_argument("--table", help="with --dsn: the table to look at, with nothing installed")
    parser.add_argument(
        "--apply",
        action="store_true",
        help="with --dsn: migrate it, serve the entry points, and sweep",
    )


def run(options: argparse.Namespace) -> int:
    from functions.ops.dev import DATA
    from functions.ops.dev.run import DevError, Options
    from functions.ops.dev.run import run as serve
    from functions.ops.inspect.session import connect
    from functions.ops.postgres.embedded import PostgresError

    dsn = target.dsn(options) if options.dsn else None
    if dsn:
        connect(dsn).close()  # it says when nobody answers
    names = ("port", "sweep_every", "table", "apply", "reload", "samples")
    try:
        with as_store_errors("dev"):
            return serve(
                Options(
                    data=(options.data or DATA).resolve(),
                    dsn=dsn,
                    **{name: getattr(options, name) for name in names},
                )
            )
    except (DevError, PostgresError) as error:
        return print_message(str(error), ERROR)
