"""A table for a terminal of any width. Nothing is squeezed: a column for which there is no room
stands below its row, a text of several lines below the table, and a statement that people copy is
never broken."""

import unicodedata
from collections.abc import Sequence

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
GAP = 2
INDENT = " " * 4
LEAST_TEXT_WIDTH = 24
"""A long column is wrapped in its place when it has at least this room; a text that needs more is a
long one."""
NOTHING = "-"
Row = Sequence[str]


def drawn(columns: Row, rows: Sequence[Row], width: int, *, bold: bool = False) -> list[str]:
    """The lines of the table. `width`: of the terminal, in characters. Cells may have several
    lines; NOTHING stands for none."""
    cells = [list(map(_in_line, row)) for row in rows]
    widths = [
        max(width_of(cell) for cell in column) for column in zip(list(columns), *cells, strict=True)
    ]
    unbroken = {at for row in cells for at, cell in enumerate(row) if cell.endswith(";")}
    empty = {at for at in range(1, len(columns)) if all(row[at] == NOTHING for row in cells)}
    in_row, below = _arranged(widths, width, unbroken, empty if cells else set())
    lines = _row_lines([columns[at] for at in in_row], [widths[at] for at in in_row])
    if bold:
        lines = [f"{BOLD}{line}{PLAIN}" for line in lines]
    for texts in cells:
        lines += _row_lines([texts[at] for at in in_row], [widths[at] for at in in_row])
        labelled = [
            f"{columns[at]}: {texts[at]}"
            for at in below
            if texts[at] not in {NOTHING, _BELOW_THE_TABLE}
        ]
        for text in _joined(labelled, width - len(INDENT)):
            lines += _wrapped_line(INDENT + text, width)
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            if "\n" in cell:
                lines += ["", f"{name} of {row[0]}:", *block(cell, width)]
    return lines


def block(text: str, width: int) -> list[str]:
    """The lines of a text, indented by their own spaces; long ones are wrapped, except those that
    end with ";", which are statements."""
    return [part for line in text.splitlines() for part in _wrapped_line(line, width)]


_BELOW_THE_TABLE = "(below)"


def _joined(texts: list[str], width: int) -> list[str]:
    """The short ones side by side."""
    lines: list[str] = []
    for text in texts:
        if lines and width_of(lines[-1]) + GAP + width_of(text) <= width:
            lines[-1] += " " * GAP + text
        else:
            lines.append(text)
    return lines


def _in_line(cell: str) -> str:
    return _BELOW_THE_TABLE if "\n" in cell else cell


def _arranged(
    widths: list[int], width: int, unbroken: set[int], empty: set[int]
) -> tuple[list[int], list[int]]:
    """Which columns stand in the row, and which below it. Narrows in `widths` the one that is
    wrapped in its place. The first column, the key, stays; where there is little room, those
    without a value go first, then long texts, then the last ones."""
    in_row, below = list(range(len(widths))), list[int]()
    if _total(in_row, widths) > width:
        in_row = [at for at in in_row if at not in empty]
    while (excess := _total(in_row, widths) - width) > 0 and len(in_row) > 1:
        widest = max(in_row[1:], key=lambda at: widths[at])
        if widest not in unbroken and widths[widest] - excess >= LEAST_TEXT_WIDTH:
            widths[widest] -= excess
            continue
        leaves = widest if widths[widest] >= LEAST_TEXT_WIDTH else in_row[-1]
        in_row.remove(leaves)
        below.append(leaves)
    if (excess := _total(in_row, widths) - width) > 0:
        widths[in_row[0]] -= excess
    return in_row, sorted(below)


def _total(chosen: list[int], widths: list[int]) -> int:
    return sum(widths[at] for at in chosen) + GAP * (len(chosen) - 1)


def _row_lines(row: Row, widths: list[int]) -> list[str]:
    stacks = [_paragraph(cell, room) for cell, room in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, stacks))):
        parts = [
            _padded(stack[number] if number < len(stack) else "", room)
            for stack, room in zip(stacks, widths, strict=True)
        ]
        lines.append((" " * GAP).join(parts).rstrip())
    return lines


def _wrapped_line(line: str, width: int) -> list[str]:
    text = line.lstrip(" ")
    if text.endswith(";"):
        return [line]
    return _paragraph(text, width, indent=" " * (len(line) - len(text)))


def _paragraph(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a text, broken between its words; within one that is longer than a line."""
    if width_of(text) <= width - len(indent):
        return [indent + text]
    room = max(width - len(indent), 2)  # a wide character takes two
    lines = [""]
    for word in text.split():
        if lines[-1] and width_of(lines[-1]) + 1 + width_of(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines += _pieces(word, room)
    return [indent + line for line in lines[1:]] or [""]


def _pieces(word: str, room: int) -> list[str]:
    pieces = [""]
    for character in word:
        if width_of(pieces[-1] + character) > room:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _padded(text: str, room: int) -> str:
    return text + " " * (room - width_of(text))


def width_of(text: str) -> int:
    """How many places the text takes on a terminal: two for each wide character, none for those
    that stand on another."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
