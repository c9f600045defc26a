"""What commands print: data on stdout, sentences on stderr; rich on a terminal, plain otherwise;
NO_COLOR is respected."""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from functions.core import explain
from functions.core.record import plain
from functions.core.redact import redacted_text
from functions.core.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Prints a table on stdout: drawn on a terminal, tab-separated otherwise (for cut and awk)."""
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(_flat(cell) for cell in row))
        return
    console().print(rich_table(columns, rows, title))


def console() -> "Console":
    """The terminal; with NO_COLOR without any escape, bold ones included."""
    from rich.console import Console

    return Console(color_system=None if os.environ.get("NO_COLOR") else "auto")


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    drawing = Table(title=title or None, title_justify="left")
    for column in columns:
        drawing.add_column(column, overflow="fold")
    for row in rows:
        drawing.add_row(*(escape(_flat(cell)) for cell in row))
    return drawing


def confirmed(question: str, *, yes: bool) -> bool:
    """True when `yes` was given, or a person at a terminal says so. Without a terminal the answer
    is no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    print(f"{visible(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def span(seconds: float | None) -> str:
    """A time as a person says it: 45s, 12m, 3h 20m, 46d 4h; - for None."""
    if seconds is None:
        return "-"
    return explain.span(seconds)


def _flat(cell: Any) -> str:
    if cell is None:
        return "-"
    return visible(" ".join(redacted_text(str(cell)).split()))
