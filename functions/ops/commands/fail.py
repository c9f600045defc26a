"""fail: end open tasks as failed. Shown first; writes with --apply or a yes at the terminal."""

import argparse

from functions.ops import operate

HELP = "end open tasks as failed"
JSON = operate.JSON
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("fail", options)
