"""Reads YAML and remembers the line of each value, so that an error can name it."""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from functions.core import durations
from functions.errors import PolicyError

_SIZES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}


class Value:
    """A value of a YAML file with the line and the path at which it stands."""

    def __init__(
        self, node: yaml.Node, file: str, path: str = "", key: yaml.Node | None = None
    ) -> None:
        self._node, self._file, self._path = node, file, path
        self._line = (key or node).start_mark.line + 1

    def fail(self, problem: str) -> NoReturn:
        """Raises PolicyError, which names the file, the line and the path of this value."""
        raise PolicyError(f"{self._file}:{self._line}: {self._path or 'the file'}: {problem}")

    def __getitem__(self, name: str) -> "Value":
        value = self.get(name)
        return value if value is not None else self.lacks(name)

    def lacks(self, name: str) -> NoReturn:
        self.fail(f"lacks `{name}`. Add it.")

    def get(self, name: str) -> "Value | None":
        return dict(self.items()).get(name)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def items(self) -> Iterator[tuple[str, "Value"]]:
        if not isinstance(self._node, yaml.MappingNode):
            self.fail("must be a mapping. Write lines of `name: value` below it.")
        seen: set[str] = set()
        for key, node in self._node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                Value(key, self._file, self._path).fail(
                    "has a name that is not a plain text. Write `name: value`."
                )
            value = Value(node, self._file, f"{self._path}.{key.value}".lstrip("."), key)
            if key.value in seen:
                value.fail("stands twice. Remove one.")
            seen.add(key.value)
            yield key.value, value

    def only(self, *names: str) -> dict[str, "Value"]:
        """The values of a mapping that may have these names and no other."""
        values = dict(self.items())
        for name, value in values.items():
            if name not in names:
                value.fail(f"is not known here. Known are: {', '.join(names)}.")
        return values

    def plain(self) -> Any:
        try:
            return yaml.constructor.SafeConstructor().construct_document(self._node)
        except Exception as error:  # noqa: BLE001 - ValueError for a date, KeyError for a tag, ..
            problem = getattr(error, "problem", None) or error
            self.fail(f"cannot be read: {problem}. Write a plain value, or quote it.")

    def text(self) -> str:
        value: str = self.plain()
        return value if _is_name(value) else self.fail("must be a text such as a name")

    def names(self) -> tuple[str, ...]:
        values = self.texts()
        return (
            values if all(map(_is_name, values)) else self.fail("must be a name or a list of names")
        )

    def texts(self) -> tuple[Any, ...]:
        value = self.plain()
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(word, str | int | float) for word in values):
            self.fail("must be a value or a list of values such as [pending, queued]")
        return tuple(values)

    def some_of(self, *choices: str) -> tuple[str, ...]:
        values = self.names()
        if not set(values) <= set(choices):
            self.fail(f"must be some of: {', '.join(choices)}")
        return values

    def flag(self) -> bool:
        value = self.plain()
        return value if isinstance(value, bool) else self.fail("must be true or false")

    def integer(self, least: int, most: int) -> int:
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fail(f"must be a whole number from {least} to {most}")
        return int(value)

    def number(self, least: float, most: float) -> float:
        value = self.plain()
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not least <= value <= most
        ):
            self.fail(f"must be a number from {least:g} to {most:g}")
        return float(value)

    def seconds(self) -> float:
        """A time above 0: `30s`, `5m`, `2h`, `7d`, or a number of seconds."""
        try:
            return durations.seconds(self._written())
        except ValueError as error:
            self.fail(str(error))

    def size(self) -> int:
        """A size in bytes: `400MB`, `1GiB`, or a number of bytes."""
        match = re.fullmatch(r"([0-9]{1,12})\s*([KMG]?I?B?)", self._written().upper())
        size = int(match[1]) * _SIZES.get(match[2], 0) if match else 0
        if not 10**6 <= size <= 10**12:
            self.fail("must be a size from 1MB to 1000GB such as 400MB or 1GiB")
        return size

    def choice(self, *choices: str) -> str:
        value: str = self.plain()
        return value if value in choices else self.fail(f"must be one of: {', '.join(choices)}")

    def _written(self) -> str:
        """As it stands in the file: YAML itself reads 1:30 as 90 and 010 as 8."""
        return self._node.value.strip() if isinstance(self._node, yaml.ScalarNode) else ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def read(text: str, file: str) -> Value:
    """Raises PolicyError, with the line, when `text` is not one YAML document."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{file}:{line}: is not YAML: {error.problem}. Mend that line.") from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise PolicyError(f"{file}:{line}: is not YAML: {error.reason}. Mend that line.") from None
    finally:
        loader.dispose()
    if node is None:
        raise PolicyError(f"{file}:1: is empty. Start from functions/policy.yaml of the bundle.")
    return Value(node, file)
