"""sql: the SQL of the policy, for review."""

import argparse

from functions.ops.out import FINE

HELP = "print the SQL of the policy, for review"


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:  # noqa: ARG001
    from functions.migrate import script
    from functions.policy import load

    print(script(load()))
    return FINE
