"""completion: what makes the TAB key know the commands and options. It defines `unstuck` for
`python -m functions`.

bash: eval "$(python -m functions completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, after
compinit; fish: python -m functions completion fish | source, in ~/.config/fish/config.fish."""

import argparse
from collections.abc import Callable

from functions.ops.cli.out import FINE, data

HELP = "print the completion script of a shell"
JSON = {"shell": (), "script": ()}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell that will read it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from functions.ops.commands.parser import commands

    script = SHELLS[options.shell](commands())
    if options.json:
        data({"shell": options.shell, "script": script})
    else:
        print(script, end="")
    return FINE


Commands = dict[str, argparse.ArgumentParser]


def flags(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in command._actions if action.option_strings]  # noqa: SLF001 - argparse has no other way


def _words(command: argparse.ArgumentParser) -> str:
    """What may follow the command: its options, and what its argument may be."""
    told = [name for action in flags(command) for name in action.option_strings]
    told += [
        str(one)
        for action in command._actions  # noqa: SLF001 - argparse has no other way
        if not action.option_strings
        for one in action.choices or ()
    ]
    return " ".join(told)


def _values(command: argparse.ArgumentParser) -> dict[str, str]:
    """What may follow an option that has a closed list."""
    return {
        name: " ".join(map(str, action.choices))
        for action in flags(command)
        if action.choices
        for name in action.option_strings
    }


def _bash(all_of_them: Commands) -> str:
    cases = ""
    for name, command in all_of_them.items():
        values = "".join(
            f'      "{name} {flag}") words="{given}" ;;\n'
            for flag, given in _values(command).items()
        )
        cases += f'{values}      "{name} "*) words="{_words(command)}" ;;\n'
    return f"""unstuck() {{ python -m functions "$@"; }}
_unstuck() {{
  local words
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{" ".join(all_of_them)}"
  else
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
{cases}    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _unstuck unstuck
"""


def _zsh(all_of_them: Commands) -> str:
    cases = ""
    for name, command in all_of_them.items():
        values = "".join(
            f'    "{name} {flag}") compadd -- {given} ;;\n'
            for flag, given in _values(command).items()
        )
        cases += f'{values}    "{name} "*) compadd -- {_words(command)}; _files ;;\n'
    names = "\n".join(f"    {_quoted(f'{name}:{_help(name)}')}" for name in all_of_them)
    return f"""unstuck() {{ python -m functions "$@" }}
_unstuck() {{
  local -a commands=(
{names}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "$words[2] $words[CURRENT-1]" in
{cases}  esac
}}
compdef _unstuck unstuck
"""


def _fish(all_of_them: Commands) -> str:
    lines = ["function unstuck; python -m functions $argv; end"]
    for name, command in all_of_them.items():
        lines.append(
            f"complete -c unstuck -n __fish_use_subcommand -f -a {name} -d {_quoted(_help(name))}"
        )
        here = f"complete -c unstuck -n '__fish_seen_subcommand_from {name}'"
        for action in flags(command):
            spelt = " ".join(
                f"{'-l' if one.startswith('--') else '-s'} {one.lstrip('-')}"
                for one in action.option_strings
            )
            given = (
                f" -x -a {_quoted(' '.join(map(str, action.choices)))}" if action.choices else ""
            )
            needs = " -r" if action.nargs != 0 and not action.choices else ""
            lines.append(f"{here} {spelt}{given}{needs} -d {_quoted(action.help or '')}")
        lines += [
            f"{here} -f -a {_quoted(' '.join(map(str, action.choices)))}"
            for action in command._actions  # noqa: SLF001
            if not action.option_strings and action.choices
        ]
    return "\n".join(lines) + "\n"


def _help(name: str) -> str:
    import importlib

    told: str = importlib.import_module(f"functions.ops.commands.{name}").HELP
    return told


def _quoted(text: str) -> str:
    """In single quotes, for zsh and fish alike; those in it go."""
    return "'" + text.replace("\\", "\\\\").replace("'", "") + "'"


SHELLS: dict[str, Callable[[Commands], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
