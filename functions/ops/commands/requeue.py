"""requeue: put running tasks back, without burning a try. Shows them first; writes with --apply, or when a person at the terminal says yes."""

import argparse

from functions.ops import operate

HELP = "put running tasks back, without burning a try"
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("requeue", options)
