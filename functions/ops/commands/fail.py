"""fail: end open tasks as failed. Shown first; writes with --apply or a yes at the terminal."""

import argparse

from functions.ops.cli import many_tasks

HELP = "end open tasks as failed"
JSON = many_tasks.JSON
arguments = many_tasks.arguments


def run(options: argparse.Namespace) -> int:
    return many_tasks.run("fail", options)
