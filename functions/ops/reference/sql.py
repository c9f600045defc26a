"""docs/sql.md, from the comments of the SQL of the default policy."""

import re
from collections.abc import Iterator

from functions.core.policy import DEFAULT, load
from functions.install.migrate import Step, steps

_HEAD = """# SQL functions and tables

*For you if you call or read the SQL. 1 minute.*

<!-- Made by `make docs` from the comments in functions/sql. Edit those instead. -->

A summary of what `unstuck sql` prints for the default policy. A *watch* is a table that
Unstuck looks after, and each has functions of its own that carry its name; those of the default
one, `tasks`, are shown. Each call carries the rules of policy.yaml as JSON. Every function that
writes answers with a `verdict`. Other words are in the [glossary](glossary.md).
"""
_TABLE = re.compile(r"^create table (?:if not exists )?(\S+) \(")
_FUNCTION = re.compile(r"^create or replace (?:function|procedure) ([^\s(]+)")
_COLUMN = re.compile(r"^  ([a-z_]+) +(\S+(?: precision)?)[^-]*(?:-- (.*))?$")
_NO_COLUMN = {"primary", "unique", "check", "foreign", "constraint", "or", "and"}
_BODY = re.compile(r"\s(?:language|stable|volatile|immutable)\s|\sas \$")


def text() -> str:
    installed = list(steps(load(str(DEFAULT))))
    tables = [part for step in installed for part in _tables(step)]
    functions = [part for step in installed for part in _functions(step)]
    return "\n".join([_HEAD, "## Tables\n", *tables, "## Functions\n", *functions])


def _statements(text: str, begin: re.Pattern[str]) -> Iterator[tuple[str, str, str]]:
    """The comment above each statement that begins so, its name, and the text from there on."""
    comment, at = "", 0
    for line in text.splitlines(keepends=True):
        if match := begin.match(line):
            yield comment, match[1].replace('"', ""), text[at:]
        comment = f"{comment}{line}" if line.startswith("--") else ""
        at += len(line)


def _tables(step: Step) -> Iterator[str]:
    for above, name, rest in _statements(step.text, _TABLE):
        body = rest.partition("\n)")[0].splitlines()[1:]
        columns = [
            match.groups()
            for line in body
            if (match := _COLUMN.match(line)) and match[1] not in _NO_COLUMN
        ]
        rows = [
            f"| `{column}` | {kind.rstrip(',')} | {_cell(comment or '')} |"
            for column, kind, comment in columns
        ]
        yield "\n".join(
            [
                f"### {name}\n",
                _prose(above),
                "| column | type | meaning |",
                "|---|---|---|",
                *rows,
                "",
            ]
        )


def _functions(step: Step) -> Iterator[str]:
    for comment, name, rest in _statements(step.text, _FUNCTION):
        declared = _BODY.split(rest.partition("(")[2], maxsplit=1)[0]
        arguments = " ".join(declared.split()).replace(" )", ")")
        prose = f"{_prose(comment)}\n" if comment else ""
        yield f"### {name.rpartition('.')[2]}\n\n{prose}```sql\n{name}({arguments}\n```\n"


def _prose(comment: str) -> str:
    lines = [line.removeprefix("--").strip() for line in comment.splitlines()]
    return "\n".join(line for line in lines if line) + "\n" if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
