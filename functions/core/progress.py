"""What a handler or a remote worker says of how far it is. It may be any JSON, and every reader
shows it by this one module."""

import json
from typing import Any, NamedTuple

SHOWN_CHARACTERS = 300


class Progress(NamedTuple):
    """`fraction` is from 0 to 1, or None where none is told; `message` may be empty."""

    fraction: float | None
    message: str


def progress_of(value: Any) -> Progress:
    """From the column `progress` of an attempt, whatever is in it."""
    if not isinstance(value, dict):
        return Progress(None, _text(value))
    return Progress(_fraction(value.get("fraction")), _text(value.get("message")))


def _fraction(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(min(1, max(0, value))) if is_number else None


def _text(value: Any) -> str:
    """A text as it is, other JSON as JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
