"""retry: start failed and cancelled tasks again. Shows them first; writes with --apply, or when a person at the terminal says yes."""

import argparse

from functions.ops import operate

HELP = "start failed and cancelled tasks again"
arguments = operate.arguments


def run(options: argparse.Namespace) -> int:
    return operate.run("retry", options)
