"""completion: what makes the TAB key know the commands and options. Where no `unstuck` is on the
PATH it defines one, which works in a checkout.

bash: eval "$(unstuck completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit;
fish: unstuck completion fish | source, in ~/.config/fish/config.fish."""

import argparse
import shutil

from functions.core.states import State
from functions.ops.cli.out import FINE, PROGRAM, print_json

HELP = "print the completion script of a shell"
JSON = {"shell": (), "script": ()}
FUNCTIONS = {
    "bash": 'unstuck() { python -m functions "$@"; }',
    "zsh": 'unstuck() { python -m functions "$@" }',
    "fish": "function unstuck; python -m functions $argv; end",
}
"""The command `unstuck` in each shell, where it is not on the PATH."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(FUNCTIONS), help="the shell that will read it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    import shtab

    options.parser.prog = PROGRAM
    for command in options.commands.values():
        _complete_values(command)
    completion = shtab.complete(options.parser, options.shell)
    function = "" if shutil.which(PROGRAM) else f"{FUNCTIONS[options.shell]}\n"
    script = f"{completion}\n{function}"
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        print(script, end="")
    return FINE


def _complete_values(command: argparse.ArgumentParser) -> None:
    """Lets the TAB key offer files for a value that is a FILE, folders for a DIR, and our states,
    although the words of a table are taken too."""
    import shtab

    paths = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
    for action in command._actions:  # noqa: SLF001 - argparse has no other way
        if action.metavar == "STATE":
            action.choices = list(State)
        if action.metavar in paths:
            action.complete = paths[action.metavar]  # type: ignore[attr-defined]  # shtab reads it
