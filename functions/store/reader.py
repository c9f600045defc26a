"""Makes answers from JSON: the one place where it is done.

A field that the database adds is ignored, so that SQL may be newer than this code. A field that it
lacks is a StoreError that names the field. No library does it: msgspec would cost a cold start as
much as `import yaml` does, pydantic 2.5 times that (measured); this reader costs nothing."""

from collections.abc import Callable
from enum import Enum
from functools import partial
from types import UnionType
from typing import Any, TypeVar, get_origin

from functions.core.record import Record
from functions.errors import StoreError

Some = TypeVar("Some", bound=Record)


def read(answer: type[Some], data: Any) -> Some:
    """Makes the record from JSON. Raises StoreError."""
    if not isinstance(data, dict):
        raise _unreadable(answer, f"is {data!r}")
    record = object.__new__(answer)
    fields = vars(record)
    converters = _converters(answer)
    if data.keys() == converters.keys():  # mostly: half of the time
        fields.update(data)
        converters = _needed[answer]
    for name, convert in converters.items():
        if name in data:
            fields[name] = convert(data[name]) if convert else data[name]
        elif hasattr(answer, name):
            fields[name] = getattr(answer, name)
        else:
            raise _unreadable(answer, f"lacks `{name}`")
    return record


def read_all(answer: type[Some], data: Any) -> list[Some]:
    """The same for a list; null is an empty one."""
    if not isinstance(data, list | None):
        raise _unreadable(answer, f"is {data!r}")
    return [read(answer, member) for member in data or ()]


def read_one_of(data: Any, *answers: type[Record]) -> Any:
    """The record whose class has the verdict of the answer. Raises StoreError."""
    for answer in answers:
        if isinstance(data, dict) and data.get("verdict") == getattr(answer, "verdict", None):
            return read(answer, data)
    raise _unreadable(answers[0], f"is {data!r}")


def _converters(answer: type[Record]) -> dict[str, Callable[[Any], Any] | None]:
    if answer not in _made:
        converters = {name: _converter(answer, kind) for name, kind in answer.field_types.items()}
        # first, since another thread that sees the class in _made looks here
        _needed[answer] = {name: convert for name, convert in converters.items() if convert}
        _made[answer] = converters
    return _made[answer]


_made: dict[type[Record], dict[str, Callable[[Any], Any] | None]] = {}
_needed: dict[type[Record], dict[str, Callable[[Any], Any] | None]] = {}
"""Those of the fields that JSON does not have already."""


def _converter(answer: type[Record], kind: Any) -> Callable[[Any], Any] | None:
    """What makes a value of that type from JSON; None where JSON has it already."""
    if isinstance(kind, UnionType):
        convert = _converter(answer, kind.__args__[0])
        return convert and partial(_unless_null, convert)
    if get_origin(kind) is list and issubclass(kind.__args__[0], Record):
        return partial(read_all, kind.__args__[0])
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Record):
        return partial(read, kind)
    if issubclass(kind, Enum):
        return partial(_member, answer, kind, {member.value: member for member in kind})
    return None


def _unless_null(convert: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else convert(value)


def _member(answer: type[Record], kind: type[Enum], members: dict[Any, Enum], value: Any) -> Enum:
    try:
        return members[value]
    except (KeyError, TypeError):
        raise _unreadable(answer, f"has {value!r}, which is no {kind.__name__}") from None


def _unreadable(answer: type[Record], problem: str) -> StoreError:
    return StoreError(
        f"The database's answer {answer.__name__} {problem}. Its functions are of another release: "
        "run `unstuck migrate --apply`.",
        retryable=False,
    )
