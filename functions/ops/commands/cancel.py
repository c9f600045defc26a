"""cancel: end open tasks as cancelled. Shown first; writes with --apply or a yes at the terminal."""

import argparse

from functions.ops import operate

HELP = "end open tasks as cancelled"
JSON = operate.JSON
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("cancel", options)
