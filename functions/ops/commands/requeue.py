"""requeue: put running tasks back, without burning a try. Shown first; writes with --apply or a yes at the terminal."""

import argparse

from functions.ops import operate

HELP = "put running tasks back, without burning a try"
JSON = operate.JSON
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("requeue", options)
