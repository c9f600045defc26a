"""retry: start failed and cancelled tasks again. Shown first; writes with --apply or a yes at the
terminal."""

import argparse

from functions.ops.cli import many_tasks

HELP = "start failed and cancelled tasks again"
JSON = many_tasks.JSON


def arguments(parser: argparse.ArgumentParser) -> None:
    many_tasks.arguments(parser)
    parser.add_argument(
        "--all", action="store_true", help="with --apply and no filter: all that ever failed"
    )


def run(options: argparse.Namespace) -> int:
    return many_tasks.run("retry", options)
