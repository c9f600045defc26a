"""cancel: end open tasks as cancelled. Shows them first; writes with --apply, or when a person at the terminal says yes."""

import argparse

from functions.ops import operate

HELP = "end open tasks as cancelled"
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("cancel", options)
