"""cancel: end open tasks as cancelled. Shown first; writes with --apply or a yes at the
terminal."""

import argparse

from functions.ops.cli import many_tasks

HELP = "end open tasks as cancelled"
JSON = many_tasks.JSON
arguments = many_tasks.arguments


def run(options: argparse.Namespace) -> int:
    return many_tasks.run("cancel", options)
