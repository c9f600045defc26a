"""The command line: `python -m functions COMMAND`. stdout is data, stderr is words."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import cast

from functions.errors import PolicyError, StoreError
from functions.ops.cli.google import CloudError
from functions.ops.cli.out import ERROR, FINE, INTERRUPTED, UNREACHABLE, USAGE, words
from functions.ops.commands import NAMES


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 1 error, 2 usage, 3 found, 4 not reachable, 130 interrupted."""
    options = parser().parse_args(argv)
    try:
        with contextlib.ExitStack() as options.closing:  # what the command opens, such as a store
            code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except PolicyError as error:
        return words(str(error), USAGE)
    except StoreError as error:
        return words(*_told(error))
    except CloudError as error:
        return words(str(error), error.code)
    except KeyboardInterrupt:
        return words("interrupted", INTERRUPTED)
    return code


def _told(error: StoreError) -> tuple[str, int]:
    """What the database said, with the next step, and the exit code."""
    if error.retryable:
        return (
            f"{error}\nThe database does not answer. See that it runs and that --dsn leads to it; then try again.",
            UNREACHABLE,
        )
    if error.code in _NO_KEY:
        return f"{error}. Give the task's key as `list` shows it.", USAGE
    return str(error), ERROR


_NO_KEY = {"22P02", "22003"}
"""The codes of a text that is no uuid or no number, and of a number that is too large."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m functions", description="Unstuck: no task stays stuck."
    )
    added = made.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name in NAMES:
        module = importlib.import_module(f"functions.ops.commands.{name}")
        command = added.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return made


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, for what is made from them: completion and the reference."""
    found = next(one for one in parser()._actions if one.dest == "command")  # noqa: SLF001 - argparse has no other way
    return dict(cast("dict[str, argparse.ArgumentParser]", found.choices))
