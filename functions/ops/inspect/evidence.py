"""What the rows of a table show: of each word of its status, which columns are filled, with what,
and which times lie ahead. Reads; `Evidence` itself is pure.

Names alone deceive: `wait_till` is known as a due time by the future times of rows that wait,
`is_settled` as a part of the end because each ended row has it and no open part."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from functions.core.states import ENDED, OPEN, State
from functions.install.column_sql import (
    ISO_TIME,
    JSONS,
    NUMBERS,
    TEXTS,
    TIMES,
    Column,
    identifier,
    literal,
    moment,
    qualified,
)
from functions.ops.inspect.catalogue import Facts, pages
from functions.ops.inspect.session import Connection

SAMPLE_PAGES = 300
"""A larger table is sampled: so many pages, and ROWS_OF_A_WORD of each word that an index finds."""
ROWS_OF_A_WORD = 200
SHOWN_CHARACTERS = 60
"""So much of a text is compared, to see whether all rows have the same."""
EMPTY_BYTES = {"json": 8, "jsonb": 12}
"""So many bytes {}, [] and null have at most."""
FIRST_EPOCH = 600_000_000
"""Seconds: a smaller number (before 1989) is no time of a task."""


@dataclass(frozen=True)
class Shown:
    """What the rows of one word show of one column: how many have it, its least and its greatest
    value as text, how many are times ahead of now, and how many are times in ISO form."""

    filled: int
    least: str | None
    greatest: str | None
    ahead: int
    iso: int

    @property
    def constant(self) -> str | None:
        return self.least if self.least == self.greatest else None


@dataclass(frozen=True)
class Evidence:
    """`rows` counts those that were read, by word; `shown` goes by word and column. `newest` is by
    how many seconds the newest time of a column is ahead of now, read as UTC."""

    rows: dict[str, int] = field(default_factory=dict)
    shown: dict[str, dict[str, Shown]] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)

    def count(self, words: Iterable[Any]) -> int:
        return sum(self.rows.get(text_of(word), 0) for word in words)

    def filled(self, column: str, words: Iterable[Any]) -> int:
        return sum(part.filled for part in self._of(column, words))

    def ahead(self, column: str, words: Iterable[Any]) -> int:
        return sum(part.ahead for part in self._of(column, words))

    def iso(self, column: str) -> tuple[int, int]:
        """How many texts there are, and how many of them are times in ISO form."""
        shown = self._of(column, self.rows)
        return sum(part.filled for part in shown), sum(part.iso for part in shown)

    def constant(self, column: str, words: Iterable[Any]) -> str | None:
        """The one value that all rows of these words have, if two rows at least have it."""
        words = list(words)
        count = self.count(words)
        values = {part.constant for part in self._of(column, words) if part.filled}
        if count < 2 or self.filled(column, words) < count or len(values) != 1:
            return None
        return values.pop()

    def has(self, column: str, value: str, words: Iterable[Any]) -> bool:
        """Whether any of these rows may have the value."""
        return any(
            part.filled and (part.least or "") <= value <= (part.greatest or "")
            for part in self._of(column, words)
        )

    def is_later(self, column: str, other: str) -> bool:
        """Whether rows of a word show a later time here than in the other column, and none shows an
        earlier one."""
        pairs = [
            (shown[column], shown[other])
            for shown in self.shown.values()
            if column in shown and other in shown
        ]
        ends = [
            (_of_text(a), _of_text(b))
            for mine, theirs in pairs
            for a, b in ((mine.least, theirs.least), (mine.greatest, theirs.greatest))
            if a and b
        ]
        return all(a >= b for a, b in ends) and any(a > b for a, b in ends)

    def values(self, column: str) -> list[str]:
        """Values of a text that rows show: the least and the greatest of each word."""
        shown = self._of(column, self.rows)
        return sorted({text for part in shown for text in (part.least, part.greatest) if text})

    def extremes(self, column: str) -> list[float]:
        """The least and greatest numbers, without zeros."""
        texts = [
            text for part in self._of(column, self.rows) for text in (part.least, part.greatest)
        ]
        numbers = [float(text) for text in texts if text not in {None, "", "NaN"}]
        return [number for number in numbers if number]

    def _of(self, column: str, words: Iterable[Any]) -> list[Shown]:
        named = [self.shown.get(text_of(word), {}).get(column) for word in words]
        return [part for part in named if part is not None]


NOTHING = Evidence()


def _of_text(value: str) -> tuple[float, str]:
    """Numbers by their size, times as PostgreSQL writes them."""
    return (float(value), "") if re.fullmatch(r"-?[\d.]+", value) else (0, value)


def text_of(word: Any) -> str:
    """A word as PostgreSQL writes it as text."""
    return str(word).lower() if isinstance(word, bool) else str(word).rstrip()


def read(connection: Connection, table: Facts, status: str, words: Iterable[Any]) -> Evidence:
    """Reads a small table whole; of a large one a sample, and some rows of each word where an index
    leads to them."""
    unread = {status, *(table.key if len(table.key) == 1 else ())}
    columns = [column for column in table.columns.values() if _is_telling(column, unread)]
    parts = [part for column in columns for part in _parts(column)]
    name = qualified(table.columns[status])
    statement = (
        f"select {name}::text, count(*)::int{''.join(', ' + part for part in parts)} "
        f"from ({sampled(connection, table, status, words)}) t where {name} is not null group by 1"
    )
    evidence = Evidence()
    for word, count, *values in connection.execute(statement.encode()):
        evidence.rows[word.rstrip()] = count
        shown = evidence.shown.setdefault(word.rstrip(), {})
        for at, column in enumerate(columns):
            filled, least, greatest, ahead, iso, newest = values[at * 6 : at * 6 + 6]
            shown[column.name] = Shown(filled, least, greatest, ahead, iso)
            if newest is not None:
                before = evidence.newest.get(column.name, newest)
                evidence.newest[column.name] = max(before, newest)
    return evidence


def _is_telling(column: Column, unread: set[str]) -> bool:
    types = TIMES | NUMBERS | TEXTS | JSONS | {"bool", "uuid"}
    return column.name not in unread and (column.type in types or bool(column.labels))


def _parts(column: Column) -> list[str]:
    name = qualified(column)
    if column.type in JSONS:
        # an empty document is none; its size is known without reading it
        filled = f"count(*) filter (where pg_column_size({name}) > {EMPTY_BYTES[column.type]})::int"
        return [filled, "null", "null", "0", "0", "null::float8"]
    text = f'left({name}::text, {SHOWN_CHARACTERS}) collate "C"'
    if column.type in NUMBERS | TIMES:
        least, greatest = f"min({name})::text", f"max({name})::text"
    else:
        least, greatest = f"min({text})", f"max({text})"
    dashed = f"substr({name}, 5, 1) = '-'"  # told much sooner than by the pattern
    iso = f"count(*) filter (where {dashed} and {name}::text ~ {literal(ISO_TIME)})"
    time = moment(column) if column.type in TIMES | NUMBERS else "null::timestamptz"
    if column.type in TEXTS:
        time = f"case when {dashed} then {moment(column)} end"
    seconds = f"extract(epoch from {time} - now())"
    finite = f"{time} < '9999-01-01' and {time} > '1000-01-01'"
    return [
        f"count({name})::int",
        least,
        greatest,
        f"count(*) filter (where {time} > now() + interval '1 minute')::int",
        f"{iso}::int" if column.type in TEXTS else "0",
        f"(max({seconds}) filter (where {finite}))::float8"
        if column.type == "timestamp"
        else "null::float8",
    ]


def sampled(connection: Connection, table: Facts, status: str, words: Iterable[Any]) -> str:
    size = pages(connection, table)
    if size <= SAMPLE_PAGES or table.kind == "p":
        limit = "" if size <= SAMPLE_PAGES else f" limit {SAMPLE_PAGES * 50}"
        return f"select * from {table.quoted}{limit}"
    percent = 100 * SAMPLE_PAGES / size
    sources = [f"(select * from {table.quoted} tablesample system ({percent:.4f}) repeatable (1))"]
    name = identifier(status)
    if any(index.columns[:1] == (status,) and not index.where for index in table.indexes):
        sources += [
            f"(select * from {table.quoted} where {name} = {literal(word)} limit {ROWS_OF_A_WORD})"
            for word in words
        ]
    return " union all ".join(sources)


def is_epoch(evidence: Evidence, column: str) -> bool | None:
    """Whether the numbers of a column are times; None where no row tells."""
    numbers = evidence.extremes(column)
    return all(number >= FIRST_EPOCH for number in numbers) if numbers else None


@dataclass(frozen=True)
class Learned:
    """What the rows show that a failure writes beside the status: constants (a flag, an outcome),
    and times; and what an open row has in its place."""

    constants: dict[str, str]
    times: tuple[str, ...]
    open_constants: dict[str, str]


def of_an_end(
    evidence: Evidence, columns: Iterable[Column], words: dict[State, tuple[Any, ...]], end: State
) -> Learned:
    """The columns that all rows of this end have set alike, two at least, and no open row has."""
    opened = [word for state in OPEN for word in words.get(state, ())]
    ended = words.get(end, ())
    constants, times, open_constants = {}, [], {}
    if not evidence.count(opened) or evidence.count(ended) < 2:
        return Learned({}, (), {})
    for column in columns:
        name = column.name
        if column.generated or evidence.filled(name, ended) < evidence.count(ended):
            continue
        if column.type in TIMES:
            if not evidence.filled(name, opened):
                times.append(name)
            continue
        value = _constant_of_an_end(evidence, column, ended, opened)
        if value is None:
            continue
        constants[name] = value
        before = evidence.constant(name, opened)
        if before is None and column.type == "bool":
            before = "false" if value == "true" else "true"
        if before is not None:
            open_constants[name] = before
    return Learned(constants, tuple(times), open_constants)


def _constant_of_an_end(
    evidence: Evidence, column: Column, ended: Iterable[Any], opened: list[Any]
) -> str | None:
    """The one value that all rows of an end have and no open row. A text must be an outcome, and
    not what a few tasks have in common by chance: a word, where open rows have none, or all one."""
    name = column.name
    value = evidence.constant(name, ended)
    if value is None or evidence.has(name, value, opened):
        return None
    if column.type in NUMBERS and is_epoch(evidence, name):
        return None
    if column.type in TEXTS and not column.labels:
        is_word = re.fullmatch(r"[^\W\d]+([ _-][^\W\d]+)*", value)
        varies = evidence.filled(name, opened) and evidence.constant(name, opened) is None
        return value if is_word and not varies else None
    return value


def is_ended(evidence: Evidence, finished: str, word: Any) -> bool:
    """Whether most rows of a word have the time of their end."""
    count = evidence.count([word])
    return bool(count) and 2 * evidence.filled(finished, [word]) > count


def empties(
    evidence: Evidence, columns: Iterable[Column], words: dict[State, tuple[Any, ...]]
) -> set[str]:
    """The columns that no row has empty, though rows wait: they get no NULL."""
    waiting = words.get(State.PENDING, ())
    every = [*waiting, *(word for state in ENDED for word in words.get(state, ()))]
    count = evidence.count(every)
    if not evidence.count(waiting):
        return set()
    return {column.name for column in columns if evidence.filled(column.name, every) == count}
