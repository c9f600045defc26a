"""retry: start failed and cancelled tasks again. Shown first; writes with --apply or a yes at the terminal."""

import argparse

from functions.ops import operate

HELP = "start failed and cancelled tasks again"
JSON = operate.JSON
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("retry", options)
