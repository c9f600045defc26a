"""docs/commands.md, from the parser of the command line."""

import argparse

from functions.ops.command_line import commands

CODES = (
    (0, "fine"),
    (1, "error: the request could not be carried out, or only in part"),
    (2, "usage: an option, the policy or the DSN is wrong"),
    (3, "found: stuck tasks (`check`), missing steps (`migrate`), what breaks (`doctor`)"),
    (4, "the database, or Google Cloud, cannot be reached"),
    (5, "unknown: `check` cannot say whether something is stuck"),
    (130, "interrupted by Ctrl-C"),
)


def text() -> str:
    parts = [_HEAD, *(_command(name, command) for name, command in commands().items())]
    return "\n".join(parts)


_HEAD = """# Commands

*For you if you look up a command, its options, its exit code or its JSON. 1 minute.*

<!-- Made by `make docs` from the commands' own help. Edit that instead. -->

`unstuck COMMAND`: in a checkout `.venv/bin/unstuck` after `make install`, anywhere after
`pipx install .` there. Data goes to stdout, messages to stderr. A command that writes first shows
what it would do; it writes with `--apply`, or when a person at the terminal says yes. Tables are
drawn on a terminal, as wide as it is, and separated by tabs otherwise; `NO_COLOR` is respected.
Options are not abbreviated. An error ends with the next step. The words are in the
[glossary](glossary.md); a *watch* is a table of [policy.yaml](policy.md).

`eval "$(unstuck completion bash)"` makes the TAB key complete commands and options (zsh
and fish too).

## Exit codes

| code | meaning |
|---|---|
""" + "".join(f"| {code} | {means} |\n" for code, means in CODES)


def _command(name: str, command: argparse.ArgumentParser) -> str:
    actions = command._actions  # noqa: SLF001 - argparse has no other way
    arguments = [_value_name(action) for action in actions if not action.option_strings]
    usage = " ".join(["unstuck", name, *arguments, "[OPTIONS]"])
    lines = [
        f"## {name}\n",
        f"{command.description}\n",
        f"```\n{usage}\n```\n",
        "| option | what it does |",
        "|---|---|",
    ]
    lines += [_option(action) for action in actions if action.dest != "help"]
    return "\n".join([*lines, "", *_keys(command)])


def _option(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value_name(action)}"
    spellings = [f"`{spelling}{value}`" for spelling in action.option_strings]
    name = ", ".join(spellings) or f"`{_value_name(action)}`"
    required = " (required)" if action.required and action.option_strings else ""
    return f"| {_cell(name)} | {_cell((action.help or '') + required)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _value_name(action: argparse.Action) -> str:
    """What stands for the value of an option or argument."""
    if action.choices:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


def _keys(command: argparse.ArgumentParser) -> list[str]:
    """The keys of --json, and those of the objects in them."""
    keys: dict[str, tuple[str, ...]] = command.get_default("json_keys")
    if not keys:
        return []
    rows = [f"| `{key}` | {_code(inner_keys) or '-'} |" for key, inner_keys in keys.items()]
    return ["| key of `--json` | keys in it |", "|---|---|", *rows, ""]


def _code(names: tuple[str, ...]) -> str:
    return " ".join(f"`{name}`" for name in names)
