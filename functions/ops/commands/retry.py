"""retry: start failed and cancelled tasks again. Shown first; writes with --apply or a yes at the
terminal."""

import argparse

from functions.ops.cli import many_tasks

HELP = "start failed and cancelled tasks again"
JSON = many_tasks.JSON
arguments = many_tasks.arguments


def run(options: argparse.Namespace) -> int:
    return many_tasks.run("retry", options)
