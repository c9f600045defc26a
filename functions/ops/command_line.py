"""The command line: `unstuck COMMAND`. Data goes to stdout, sentences to stderr."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Sequence

from functions import __version__
from functions.entry.app import App
from functions.errors import PolicyError, StoreError
from functions.ops.cli.google import CloudError
from functions.ops.cli.one_task import NOT_A_KEY
from functions.ops.cli.out import (
    ERROR,
    FINE,
    INTERRUPTED,
    PROGRAM,
    UNREACHABLE,
    USAGE,
    print_message,
)
from functions.ops.cli.parser import CommandParser
from functions.ops.cli.patience import READ_ONLY
from functions.ops.commands import NAMES
from functions.store.dsn import CODE_AWAY, CODE_REFUSED
from functions.store.verbs import CANCELLED

ABOUT_ALL = "completion"
"""The command that asks for the parsers of the others."""
_ADVICE = {
    CANCELLED: "The database ends a statement sooner than this one needs. Look at its load, or "
    "raise the limit: alter role ROLE set statement_timeout = '15s';",
    READ_ONLY: "This server, or this role, only reads: it is a replica, or "
    "default_transaction_read_only is on. Give the --dsn of one that writes.",
}
"""The next step, by the SQLSTATE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code: 0 fine, 1 error, 2 usage, 3 found, 4 not reachable,
    130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser().print_help()
        return FINE
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    options = _options(words)
    try:
        options.app = App()
        with contextlib.ExitStack() as options.closing:  # what the command opens, such as a store
            code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except PolicyError as error:
        return print_message(str(error), USAGE)
    except StoreError as error:
        return _print_store_error(error)
    except CloudError as error:
        return print_message(str(error), error.code)
    except KeyboardInterrupt:
        return print_message("interrupted", INTERRUPTED)
    return code


def _options(words: Sequence[str]) -> argparse.Namespace:
    """What the words mean. Only the module of their command is imported, unless they are wrong."""
    if words[0] in NAMES and words[0] != ABOUT_ALL:
        options, unknown = parser([words[0]]).parse_known_args(words)
        if not unknown:
            return options
    return parser().parse_args(words)


def _print_store_error(error: StoreError) -> int:
    """Prints what the database answered, with the next step. Returns the exit code."""
    if error.code in _ADVICE:
        return print_message(f"{error}\n{_ADVICE[error.code]}", UNREACHABLE)
    if error.code in {CODE_AWAY, CODE_REFUSED}:  # which say the next step
        return print_message(str(error), UNREACHABLE)
    if error.retryable:
        advice = "The database does not answer. See that it runs and that --dsn leads to it"
        return print_message(f"{error}\n{advice}; then try again.", UNREACHABLE)
    if error.code in NOT_A_KEY:
        return print_message(f"{error}. Give the task's key as `list` shows it.", USAGE)
    return print_message(str(error), ERROR)


def parser(names: Iterable[str] = NAMES) -> argparse.ArgumentParser:
    """The parser of these commands. Besides the options of its command, what it parses has `run`,
    the function of the command, and for `completion` this parser and those of the commands by
    name."""
    root = CommandParser(prog=PROGRAM, description="Unstuck: no task stays stuck.")
    root.add_argument("--version", action="version", version=f"Unstuck {__version__}")
    subparsers = root.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name in names:
        module = importlib.import_module(f"functions.ops.commands.{name}")
        command = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run, json_keys=module.JSON)
    root.set_defaults(parser=root, commands=subparsers.choices)
    return root


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command by its name, for the reference."""
    return dict(parser().get_default("commands"))
