"""A parser whose errors say what was probably meant, and end with the next command."""

import argparse
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from functions.ops.cli.out import USAGE, print_message

LEAST_LIKENESS = 0.7
"""Of two words, from 0 to 1, for one to be named in place of the other."""


class CommandParser(argparse.ArgumentParser):
    """Options are not abbreviated: a new option would change what an old script means."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named, allow_abbrev=False)

    def parse_args(  # type: ignore[override]  # a namespace is never given
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Ends the process with exit code 2 for words that it does not know."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command: CommandParser = options.commands[options.command]
            name = unknown[0].partition("=")[0]
            if self.has(name):
                command.error(f"{name} stands before the command: `{self.prog} {name}`.")
            owners = [other for other, its in options.commands.items() if its.has(name)]
            if owners:
                command.error(f"`{options.command}` has no {name}. {_all(owners)} it.")
            options_by_name = command._option_string_actions
            command.error(f"{unknown[0]} is not known.{meant(name, options_by_name)}")
        return options

    def has(self, option: str) -> bool:
        return option in self._option_string_actions

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        raise argparse.ArgumentError(
            action,
            f"there is no {value!r}.{meant(str(value), names)} Choose from: {', '.join(names)}",
        )

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ")
        end = "" if text.endswith((".", "?")) else "."
        self.exit(print_message(f"{text}{end}\n`{self.prog} --help` shows all.", USAGE))


def _all(commands: Sequence[str]) -> str:
    if len(commands) == 1:
        return f"`{commands[0]}` has"
    return f"{', '.join(commands[:-1])} and {commands[-1]} have"


def meant(word: str, names: Iterable[str]) -> str:
    """A question that names the one that is closest to the word, after a space; empty when none is
    close."""
    closest = get_close_matches(word, names, n=1, cutoff=LEAST_LIKENESS)
    return f" Did you mean {closest[0]}?" if closest else ""
