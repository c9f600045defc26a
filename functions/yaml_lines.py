"""Reads YAML and remembers the line of each value, so that an error can name it."""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from functions.errors import PolicyError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_MISSING: Any = object()


class Value:
    """A value of a YAML file with the line and the path at which it stands."""

    def __init__(self, node: yaml.Node, file: str, path: str = "") -> None:
        self._node, self._file, self._path = node, file, path

    def fail(self, problem: str) -> NoReturn:
        line = self._node.start_mark.line + 1
        raise PolicyError(f"{self._file}:{line}: {self._path or 'the file'}: {problem}")

    def __getitem__(self, name: str) -> "Value":
        found = self.get(name)
        return found if found is not None else self.fail(f"lacks `{name}`. Add it.")

    def get(self, name: str) -> "Value | None":
        return dict(self.items()).get(name)

    def items(self) -> Iterator[tuple[str, "Value"]]:
        if not isinstance(self._node, yaml.MappingNode):
            self.fail("must be a mapping (name: value)")
        seen: set[str] = set()
        for key, node in self._node.value:
            value = Value(node, self._file, f"{self._path}.{key.value}".lstrip("."))
            if key.value in seen:
                value.fail("stands twice. Remove one.")
            seen.add(key.value)
            yield key.value, value

    def only(self, *names: str) -> None:
        for name, value in self.items():
            if name not in names:
                value.fail(f"is not known here. Known are: {', '.join(names)}.")

    def plain(self) -> Any:
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_document(self._node)
        except yaml.YAMLError as error:
            self.fail(f"cannot be read: {error}")

    def text(self) -> str:
        value = self.plain()
        return value if isinstance(value, str) and value else self.fail("must be a text")

    def texts(self) -> tuple[Any, ...]:
        value = self.plain()
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, dict | list) or one is None for one in values):
            self.fail("must be a value or a list of values")
        return tuple(values)

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
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.fail(f"must be a number from {least:g} to {most:g}")
        return float(value)

    def seconds(self) -> float:
        """A time above 0: `30s`, `5m`, `2h`, `7d`, or a number of seconds."""
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhd]?)\s*", str(self.plain()))
        if match is None or (value := float(match[1]) * _UNITS[match[2]]) <= 0:
            self.fail("must be a time above 0 such as 30s, 5m, 2h or 7d")
        return value

    def size(self) -> int:
        """A size in bytes: `400MB`, `1GiB`, or a number of bytes."""
        match = re.fullmatch(r"\s*([0-9]+)\s*([KMG]?I?B?)\s*", str(self.plain()).upper())
        if match is None or match[2] not in _SIZES or int(match[1]) <= 0:
            self.fail("must be a size such as 400MB or 1GiB")
        return int(match[1]) * _SIZES[match[2]]

    def choice(self, *choices: str) -> str:
        value: str = self.plain()
        return value if value in choices else self.fail(f"must be one of: {', '.join(choices)}")


def read(text: str, file: str) -> Value:
    """Raises PolicyError, with the line, when `text` is not one YAML document."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{file}:{line}: is not YAML: {error.problem}. Mend that line.") from None
    finally:
        loader.dispose()
    if node is None:
        raise PolicyError(f"{file}:1: is empty. Start from functions/policy.yaml of the bundle.")
    return Value(node, file)
