"""What a handler hands over, as JSON that PostgreSQL takes.

Dates, times, UUIDs, decimals and the numbers of numpy become what people expect. What is no JSON
ends the task, since it would be no JSON the next time either: the error names where it is."""

import json
import math
import re
import sys
from datetime import date, time
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID

from functions.errors import Fail

RESULT_BYTES = 16_000_000
"""The most of a result or of a checkpoint, as JSON text: the worker holds it five times."""
PROGRESS_BYTES = 64_000
"""It travels with each heartbeat."""
MOST_LEVELS = 500
"""So deep values may be nested: json itself gives up at about 900."""
_INSTEAD = {
    "model_dump": 'its .model_dump(mode="json")',  # pydantic
    "__dataclass_fields__": "dataclasses.asdict(it)",
    "tolist": "its .tolist()",  # arrays of numpy, tensors of torch
    "__members__": "its .value",  # an Enum
    "total_seconds": "its .total_seconds()",
    "__fspath__": "str(it)",
    "decode": "its text, or the address of a file",
    "__iter__": "list(it)",
}
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_PATH_CHARACTERS = 200


class DataError(Fail, ValueError, TypeError):
    """The data is no JSON."""


class UnstorableError(DataError):
    """The data is JSON, but too much of it, or of a kind that PostgreSQL does not take."""


def encode(data: Any, name: str, most_bytes: int) -> str:
    """The JSON text. Raises DataError, which calls the data by `name`."""
    try:
        text = json.dumps(data, default=_as_expected, allow_nan=False)
        certain = not _may_be_refused(text)
    except (TypeError, ValueError, RecursionError) as error:
        text, certain, reason = "", False, str(error)
    else:
        reason = ""
    mistake = None if certain else _mistake(data, name, frozenset()) or reason
    if mistake:
        kind = UnstorableError if text else DataError
        raise kind(f"The {name} could not be stored.", detail=mistake)
    if len(text) > most_bytes:
        raise UnstorableError(
            f"The {name} is too large.",
            detail=f"{name} has {len(text)} bytes as JSON, and may have {most_bytes}. Store it as "
            "a file, and hand over its address.",
        )
    return text


def plain(data: Any, name: str, most_bytes: int) -> Any:
    """The data as JSON has it: the worker must not need the handler's classes. Raises DataError."""
    return json.loads(encode(data, name, most_bytes))


def _as_expected(value: Any) -> Any:
    """A value that json does not know, as one that it knows. Raises TypeError."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, date | time) and value == value:  # noqa: PLR0124 - not pandas.NaT
        return value.isoformat()
    if isinstance(value, UUID | Decimal) or (numpy and isinstance(value, numpy.datetime64)):
        return str(value)
    if numpy and isinstance(value, numpy.generic):
        number = value.item()
        if isinstance(number, bool | int | float | str):
            return number
    raise TypeError


def _may_be_refused(text: str) -> bool:
    """Whether PostgreSQL or the worker may refuse it: a NUL, half of a surrogate pair (emojis and
    escaped backslashes look alike), or too many levels."""
    if "\\u0000" in text or "\\ud" in text:
        return True
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return False
    steps = {"[": 1, "{": 1, "]": -1, "}": -1}
    brackets = (steps[sign] for sign in _STRINGS.sub("", text) if sign in steps)
    return max(accumulate(brackets)) > MOST_LEVELS


def _mistake(value: Any, path: str, around: frozenset[int]) -> str | None:
    """Says what of the value is no JSON, and where; None when nothing is. `around` are the
    containers in which it stands."""
    if not isinstance(value, dict | list | tuple):
        return _mistake_of_leaf(value, path)
    if id(value) in around:
        return f"{_at(path)} contains itself."
    if len(around) >= MOST_LEVELS:
        return f"{_at(path)} is nested deeper than {MOST_LEVELS} levels."
    inside = around | {id(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            if mistake := _mistake_of_key(key, path) or _mistake(item, f"{path}.{key}", inside):
                return mistake
    else:
        for index, item in enumerate(value):
            if mistake := _mistake(item, f"{path}[{index}]", inside):
                return mistake
    return None


def _mistake_of_leaf(value: Any, path: str) -> str | None:
    if isinstance(value, str):
        return _mistake_of_text(value, path)
    if value is None or isinstance(value, int):
        return f"{_at(path)} has too many digits." if _is_endless(value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{_at(path)} is {value}, which JSON lacks."
    try:
        return _mistake_of_leaf(_as_expected(value), path)
    except TypeError:
        return f"{_at(path)} is a {type(value).__name__}, which JSON lacks.{_remedy(value)}"


def _remedy(value: Any) -> str:
    """What people hand over instead, by what the value has."""
    for member, instead in _INSTEAD.items():
        if hasattr(type(value), member):
            return f" Hand over {instead}."
    return ""


def _is_endless(value: int | None) -> bool:
    digits = sys.get_int_max_str_digits() or sys.maxsize
    return value is not None and value.bit_length() > digits * math.log2(10)


def _mistake_of_text(text: str, path: str) -> str | None:
    if "\0" in text:
        return f"{_at(path)} has a NUL character, which PostgreSQL does not store."
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{_at(path)} has half of a surrogate pair, which is no character."
    return None


def _mistake_of_key(key: Any, path: str) -> str | None:
    if isinstance(key, str):
        return _mistake_of_text(key, f"a key of {path}")
    if key is None or isinstance(key, int) or (isinstance(key, float) and math.isfinite(key)):
        return None
    return f"{_at(path)} has the key {_at(repr(key))}; in JSON a key is a text."


def _at(path: str) -> str:
    return path if len(path) <= _PATH_CHARACTERS else f"{path[:_PATH_CHARACTERS]}..."
