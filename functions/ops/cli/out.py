"""What commands print: data on stdout, sentences on stderr; tables are drawn on a terminal, tabs
otherwise; NO_COLOR is respected."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from functions.core import explain
from functions.core.record import plain
from functions.core.redact import redacted_text
from functions.core.visible import visible
from functions.ops.cli.table import BOLD, NOTHING, PLAIN, block, drawn

PROGRAM = "unstuck"
"""What a person types before a command: the console script, or the package of a checkout."""
FINE, ERROR, USAGE, FOUND, UNREACHABLE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
"""The exit codes of every command."""


def print_json(value: Any) -> None:
    """Prints one JSON object on stdout; records in it become objects."""
    print(json.dumps(plain(value), default=str, ensure_ascii=False))


def print_message(text: str, code: int = FINE) -> int:
    """Prints a sentence on stderr. Returns `code`, so that a command can end with it."""
    print(_for_people(text), file=sys.stderr, flush=True)
    return code


def print_line(text: str) -> None:
    """Prints a line for people on stdout."""
    print(_for_people(text), flush=True)


def _for_people(text: str) -> str:
    return visible(redacted_text(text), keep="\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table on stdout: drawn on a terminal, tab-separated otherwise (for cut and awk)."""
    if sys.stdout.isatty():
        print("\n".join(table_lines(columns, rows)))
        return
    print("\t".join(columns))
    for row in rows:
        print("\t".join(_flat(cell) for cell in row))


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The table as the terminal shows it; with NO_COLOR without any escape, bold ones included."""
    cells = [list(map(_cell, row)) for row in rows]
    is_bold = not os.environ.get("NO_COLOR")
    return drawn(columns, cells, terminal_width(), bold=is_bold)


def print_block(text: str, *, bold: bool = False) -> None:
    """Prints a text on a terminal, wrapped below its own indent."""
    for line in block(_for_people(text), terminal_width()):
        is_bold = bold and not os.environ.get("NO_COLOR")
        print(f"{BOLD}{line}{PLAIN}" if is_bold else line)


def terminal_width() -> int:
    return shutil.get_terminal_size().columns


def confirmed(question: str, *, yes: bool) -> bool:
    """True when `yes` was given, or a person at a terminal says so. Without a terminal the answer
    is no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    print(f"{visible(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def counted(count: int, noun: str) -> str:
    """A number and what it counts: 0 tasks, 1 task, 2 tasks."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def span(seconds: float | None) -> str:
    """A time as a person says it: 45s, 12m, 3h 20m, 46d 4h; - for None."""
    if seconds is None:
        return "-"
    return explain.span(seconds)


def _flat(cell: Any) -> str:
    return " ".join(_cell(cell).split())


def _cell(cell: Any) -> str:
    """With its lines, if it has several."""
    if cell is None:
        return NOTHING
    return visible(redacted_text(str(cell)).expandtabs(4).strip(), keep="\n")
