"""The Logging query language, as far as our filters use it: does an entry match? What it does not
know it refuses.

The rules are Cloud Logging's: NOT binds first, then OR, then AND; two comparisons side by side are
an AND; strings compare without regard to case, regular expressions (RE2, found anywhere) with;
every comparison with a field that a payload or a label does not have fails, `!=` too, and `NOT` of
it holds; severities compare by their rank."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Entry = Mapping[str, Any]
Test = Callable[[Entry], bool]
SEVERITIES = (
    "DEFAULT",
    "DEBUG",
    "INFO",
    "NOTICE",
    "WARNING",
    "ERROR",
    "CRITICAL",
    "ALERT",
    "EMERGENCY",
)
LONGEST = 20_000
"""Characters of a filter."""
ROOTS = frozenset(
    {
        "httpRequest",
        "insertId",
        "jsonPayload",
        "labels",
        "logName",
        "operation",
        "protoPayload",
        "resource",
        "severity",
        "sourceLocation",
        "spanId",
        "textPayload",
        "timestamp",
        "trace",
        "traceSampled",
    }
)
"""Fields of a LogEntry. Any other first name is a slip: Cloud Logging takes it, and it never
matches."""
MISSING = object()
_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<op>!=|=~|!~|>=|<=|=|>|<|:)
  | (?P<mark>[()])
  | (?P<word>[A-Za-z_][\w/@-]*(?:\.(?:[\w/@-]+|"(?:[^"\\]|\\.)*"))*)
  | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
""",
    re.VERBOSE,
)
_NOT_RE2 = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9]")


class QueryError(ValueError):
    """The filter is wrong, or uses what this evaluator does not know."""


@dataclass(frozen=True)
class Token:
    sort: str
    text: str


def matches(text: str, entry: Entry) -> bool:
    return compiled(text)(entry)


def compiled(text: str) -> Test:
    """The filter as a test of entries. Raises QueryError."""
    if len(text) > LONGEST:
        raise QueryError(f"{len(text)} characters, and {LONGEST} are the most")
    parser = _Parser(_tokens(text))
    test = parser.every()
    if parser.here:
        raise QueryError(f"what is {parser.here.text!r} doing here?")
    return test


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(f"unknown: {text[at : at + 20]!r}")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match[0]))
        at = match.end()
    return found


class _Parser:
    """every: some {[AND] some}; some: one {OR one}; one: [NOT] comparison or (every)."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens

    @property
    def here(self) -> Token | None:
        return self._tokens[0] if self._tokens else None

    def every(self) -> Test:
        tests = [self._some()]
        while self.here and self.here.text != ")":
            self._took("AND")
            tests.append(self._some())
        return lambda entry: all(test(entry) for test in tests)

    def _some(self) -> Test:
        tests = [self._one()]
        while self._took("OR"):
            tests.append(self._one())
        return lambda entry: any(test(entry) for test in tests)

    def _one(self) -> Test:
        if self._took("NOT"):
            inner = self._one()
            return lambda entry: not inner(entry)
        if self._took("("):
            inner = self.every()
            self._must(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        name = self._next()
        if name.sort != "word" or name.text in {"AND", "OR", "NOT"}:
            raise QueryError(
                f"a field should stand where {name.text!r} does: searches of all fields are not "
                f"known here"
            )
        path = _path(name.text)
        sign = self._next()
        if sign.sort != "op":
            raise QueryError(f"an operator should follow {name.text}, not {sign.text!r}")
        if self._took("("):
            return self._choice(path, sign.text)
        return _compare(path, sign.text, self._next())

    def _choice(self, path: tuple[str, ...], sign: str) -> Test:
        """field = ("a" OR "b")"""
        tests = [_compare(path, sign, self._next())]
        while self._took("OR"):
            tests.append(_compare(path, sign, self._next()))
        self._must(")")
        return lambda entry: any(test(entry) for test in tests)

    def _next(self) -> Token:
        if not self._tokens:
            raise QueryError("it ends too soon")
        return self._tokens.pop(0)

    def _took(self, text: str) -> bool:
        if self.here and self.here.sort in {"word", "mark"} and self.here.text == text:
            self._tokens.pop(0)
            return True
        return False

    def _must(self, text: str) -> None:
        if not self._took(text):
            raise QueryError(
                f"{text!r} should come before {self.here.text if self.here else 'the end'!r}"
            )


def _path(text: str) -> tuple[str, ...]:
    parts = re.findall(r'"(?:[^"\\]|\\.)*"|[^."]+', text)
    path = tuple(_unquoted(part) if part.startswith('"') else part for part in parts)
    if path[0] not in ROOTS:
        raise QueryError(f"a LogEntry has no field {path[0]!r}")
    return path


def _unquoted(text: str) -> str:
    """A backslash before anything but a quote or another one stays: it is part of a regular
    expression."""
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])


def find(entry: Entry, path: tuple[str, ...]) -> Any:
    """The value there, or MISSING."""
    value: Any = entry
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def _compare(path: tuple[str, ...], sign: str, wanted: Token) -> Test:
    if wanted.sort not in {"string", "number", "word"} or (
        wanted.sort == "word" and "." in wanted.text
    ):
        raise QueryError(f"{wanted.text!r} is no value")
    value = _unquoted(wanted.text) if wanted.sort == "string" else wanted.text
    judge = _judge(path, sign, value)
    return lambda entry: (
        (found := find(entry, path)) is not MISSING and found is not None and judge(found)
    )


def _judge(path: tuple[str, ...], sign: str, wanted: str) -> Callable[[Any], bool]:
    if path == ("severity",):
        return _ranked(sign, wanted)
    if path == ("timestamp",):
        return _dated(sign, wanted)
    if sign in {"=~", "!~"}:
        return _regular(wanted, found=sign == "=~")
    if sign == ":":
        return lambda found: wanted.lower() in _plain(found)
    return lambda found: _ordered(sign, found, wanted)


_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _ordered(sign: str, found: Any, wanted: str) -> bool:
    """A number compares with numbers, anything else as text."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return _SIGNS[sign](float(found), float(wanted))
        except ValueError:
            return sign == "!="
    return _SIGNS[sign](_plain(found), wanted.lower())


def _ranked(sign: str, wanted: str) -> Callable[[Any], bool]:
    if sign not in _SIGNS or wanted not in SEVERITIES:
        raise QueryError(f"severity {sign} {wanted}: that is none of {', '.join(SEVERITIES)}")
    rank = SEVERITIES.index(wanted)
    return lambda found: _SIGNS[sign](SEVERITIES.index(found), rank)


def _dated(sign: str, wanted: str) -> Callable[[Any], bool]:
    try:
        moment = datetime.fromisoformat(wanted)
    except ValueError:
        raise QueryError(f"{wanted} is no RFC 3339 time") from None
    if sign not in _SIGNS or moment.tzinfo is None:
        raise QueryError(
            f"timestamp {sign} {wanted}: it needs a zone, and one of {' '.join(_SIGNS)}"
        )
    return lambda found: _SIGNS[sign](datetime.fromisoformat(found), moment)


def _regular(wanted: str, *, found: bool) -> Callable[[Any], bool]:
    if _NOT_RE2.search(wanted):
        raise QueryError(f"RE2 knows neither look-around nor back references: {wanted}")
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        raise QueryError(f"{wanted}: {error}") from None
    return lambda value: bool(pattern.search(_said(value))) is found


def _plain(value: Any) -> str:
    return _said(value).lower()


def _said(value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise QueryError("a whole object or list is compared: name a field in it")
    return str(value).lower() if isinstance(value, bool) else str(value)
