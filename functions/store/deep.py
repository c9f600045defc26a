"""JSON that PostgreSQL keeps and Python does not read: nested deeper than its parser goes, or with
a whole number of more digits than it converts. Such a value is replaced by a text, so that one row
stops neither a worker nor a page."""

import json
import re
from typing import Any

MOST_LEVELS = 200
MOST_DIGITS = 4000
UNREADABLE = "(nested too deeply, or a number with too many digits)"
"""Stands for the value."""
_TOKEN = re.compile(
    rf'"(?:[^"\\]|\\.)*"|[\[\]{{}}]|-?\d{{{MOST_DIGITS},}}(?:\.\d+)?(?:[eE][+-]?\d+)?'
)


class CutAnswer(dict[str, Any]):
    """An answer in which a value was replaced."""


def loads(text: str) -> Any:
    """The JSON that json.loads does not read. Raises ValueError for what is none."""
    try:
        answer = json.loads(_cut(text))
    except RecursionError:  # nothing ends what it begins
        raise ValueError("not JSON") from None
    return CutAnswer(answer) if isinstance(answer, dict) else answer


def _cut(text: str) -> str:
    parts: list[str] = []
    levels = 0
    taken = 0  # so much of the text is in `parts`, or replaced
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in "[{":
            if levels == MOST_LEVELS:
                parts.append(text[taken : token.start()])
            levels += 1
        elif mark in "]}":
            levels -= 1
            if levels == MOST_LEVELS:
                parts.append(json.dumps(UNREADABLE))
                taken = token.end()
        elif mark[0] != '"' and levels <= MOST_LEVELS:
            parts += text[taken : token.start()], json.dumps(UNREADABLE)
            taken = token.end()
    return "".join([*parts, text[taken:]])
