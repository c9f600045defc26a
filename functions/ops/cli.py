"""The command line: `python -m functions COMMAND`. stdout is data, stderr is words."""

import argparse
import importlib
from collections.abc import Sequence

from functions.errors import PolicyError, StoreError
from functions.ops.commands import NAMES
from functions.ops.out import ERROR, INTERRUPTED, UNREACHABLE, USAGE, words


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 1 error, 2 usage, 3 found, 4 not reachable, 130 interrupted."""
    options = parser().parse_args(argv)
    try:
        return int(options.run(options))
    except PolicyError as error:
        return words(str(error), USAGE)
    except StoreError as error:
        return words(str(error), UNREACHABLE if error.retryable else ERROR)
    except KeyboardInterrupt:
        return words("interrupted", INTERRUPTED)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m functions", description="Unstuck: no task stays stuck.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name in NAMES:
        module = importlib.import_module(f"functions.ops.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return made
