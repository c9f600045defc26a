"""requeue: put running tasks back, without burning a try. Shown first; writes with --apply or a yes
at the terminal."""

import argparse

from functions.ops.cli import many_tasks

HELP = "put running tasks back, without burning a try"
JSON = many_tasks.JSON
arguments = many_tasks.arguments


def run(options: argparse.Namespace) -> int:
    return many_tasks.run("requeue", options)
