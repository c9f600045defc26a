"""What a column needs to be read as a time, or to be written: pure functions from the facts of a
column to SQL.

Real tables keep times as `timestamptz`, without a zone, or as epoch numbers, and errors as text,
`varchar(64)`, JSON or a list. A script that named the columns alone failed on 8 of 85 real tables;
with these rules it worked on all. The functions take and return SQL text; `row` is the alias of the
table. Who runs it: `check --fix`, and the verbs of an adopted table."""

import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql

TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
TIMES = frozenset({"timestamptz", "timestamp", "date"})
WHOLE = frozenset({"int2", "int4", "int8"})
NUMBERS = WHOLE | {"numeric", "float4", "float8"}
JSONS = frozenset({"json", "jsonb"})
TEXT_LISTS = frozenset({"_text", "_varchar"})

ISO_TIME = (
    r"^[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?\s*(Z|[+-]\d\d(:?\d\d)?)?$"
)
"""A text that is a time, as JavaScript and SQLite write it. Without a zone it is UTC."""
SECONDS, MILLIS, MICROS, NANOS = 1, 1_000, 1_000_000, 1_000_000_000
"""How many of an epoch column's units a second has."""


@dataclass(frozen=True)
class Column:
    """A column as the catalogue tells it. `type` is pg_type.typname, of the base type where it is a
    domain. `width` is how many characters a text takes, and how many digits of a second a time
    keeps; None: as many as there are."""

    name: str
    type: str
    width: int | None = None
    not_null: bool = False
    default: str | None = None
    generated: bool = False
    labels: tuple[str, ...] = ()
    comment: str = ""
    zone: str = "UTC"
    """Of a time without a zone: in which zone its writers are."""
    epoch: bool | None = None
    """Whether its numbers are times; None where no row tells."""
    full: bool = False
    """Whether no row has it empty, although rows wait."""
    keys: tuple[tuple[str, str], ...] = ()
    """Of an error in JSON: the keys that its application reads, and what each holds: message, code
    or time. The key "" is of a JSON string; `a.b` is b in the object a."""
    iso: bool = False
    """Whether its texts are times in ISO form."""

    @property
    def born_now(self) -> bool:
        """Whether a new row gets the time of its birth here."""
        now = r"\b(now|(current|clock|statement|transaction)_timestamp|localtimestamp)\b"
        return bool(re.search(now, (self.default or "").lower()))


def identifier(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def table_identifier(table: str) -> str:
    """Of `schema.name`, as the policy names a table. A dot in the name is part of it."""
    schema, dot, name = table.partition(".")
    return identifier(schema, name) if dot else identifier(table)


def bare_name(table: str) -> str:
    """The name without the schema."""
    return table.partition(".")[2] or table


def literal(value: Any) -> str:
    return sql.Literal(value).as_string(None)


def qualified(column: Column, row: str = "t") -> str:
    """`row."name"`."""
    return f"{row}.{identifier(column.name)}"


def moment(column: Column, row: str = "t") -> str:
    """The column as timestamptz. Times without a zone are read in the column's own, mostly UTC,
    and never in that of the session (one in New York saw a 2-hour-old row as fresh, one in Tokyo a
    fresh row as stale)."""
    name = qualified(column, row)
    if column.type == "timestamp":
        return f"({name} at time zone {literal(column.zone)})"
    if column.type == "date":  # over when it ends: a row of today must not be old since midnight
        return f"(({name} + 1)::timestamp at time zone {literal(column.zone)})"
    if column.type in TEXTS:
        return _iso_moment(name)
    if column.type in NUMBERS:
        per_second = (
            f"case when abs({name}) > 1e17 then 1e9 when abs({name}) > 1e14 then 1e6 "
            f"when abs({name}) > 1e11 then 1e3 else 1 end"
        )
        # 0 is what such columns say for "never"; NaN and numbers that are no time are unknown too
        time = f"to_timestamp((nullif({name}, 0) / ({per_second}))::float8)"
        return f"case when {name} > -1e11 and {name} < 9e18 then {time} end"
    return name


def earliest(column: Column, row: str = "t") -> str:
    """The earliest time for which the value may stand: a column of whole seconds rounds half of
    what is written up, and a day begins at midnight. By it a task that is due now is due."""
    time = moment(column, row)
    if column.type == "date":
        return f"({time} - interval '1 day')"
    if column.type in TIMES and column.width is not None:
        return f"({time} - {_half_digit(column.width)})"
    if column.type in NUMBERS:
        name = qualified(column, row)
        whole = f"abs({name}) < 1e11 and {name} = trunc({name})"
        return f"({time} - case when {whole} then interval '0.5 s' else '0' end)"
    return time


def _half_digit(digits: int) -> str:
    """Half of the last of so many digits of a second: so much may be rounded up."""
    return f"interval '{0.5 / 10**digits:.7f} s'"


def _iso_moment(name: str) -> str:
    """A text as timestamptz; NULL where it is none. The day is added apart, since the 30th of
    February must be no error."""
    rest = f"substr({name}, 11)"
    zone = f"case when {rest} ~ '(Z|[+-]\\d\\d(:?\\d\\d)?)$' then '' else 'Z' end"
    first = f"(left({name}, 8) || '01' || {rest} || {zone})::timestamptz"
    days = f"(substr({name}, 9, 2)::int - 1) * interval '24 hours'"
    return f"case when {name} ~ {literal(ISO_TIME)} then {first} + {days} end"


def bound(column: Column, time: str) -> str | None:
    """The timestamptz `time` as a value to compare the bare column with, so that an index on it can
    be used."""
    if column.type == "timestamptz":
        return time
    in_zone = f"({time} at time zone {literal(column.zone)})"
    return in_zone if column.type == "timestamp" else None


def stamp(column: Column, like: tuple[Column, ...] = (), row: str = "t") -> str | None:
    """Now, in the column's own terms. `like` are the other clocks of the row: an epoch column goes
    by their unit. What the column cannot hold is cut off and not rounded: a time that lies ahead
    would say that the task may not start yet."""
    if column.type in {"timestamptz", "timestamp"}:
        now = "now()" if column.width is None else f"(now() - {_half_digit(column.width)})"
        in_zone = f"({now} at time zone {literal(column.zone)})"
        return in_zone if column.type == "timestamp" else now
    if column.type == "date":
        return f"(now() at time zone {literal(column.zone)})::date"
    if column.type in TEXTS:
        return "to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    if column.type in NUMBERS:
        number = f"extract(epoch from now()) * {_per_second(column, like, row)}"
        cut = "floor" if column.type in WHOLE else ""
        return f"{cut}({number})::{column.type}"
    return None


def _per_second(column: Column, like: tuple[Column, ...], row: str) -> str:
    """An epoch column's unit: by its default or name, else as the row's other epoch columns have
    it, else by its size."""
    hints = f"{column.name} {column.default or ''}".lower()
    for unit, signs in (
        (NANOS, r"_ns\b|nano|1e0?9\b|1000000000"),
        (MICROS, r"_us\b|micro|1000000"),
        (MILLIS, r"_ms\b|milli|\b1000\b"),
        (SECONDS, r"_s\b|_secs?\b|epoch from"),
    ):
        if re.search(signs, hints):
            return str(unit)
    usual = MILLIS if column.type in {"int8", "numeric", "float8"} else SECONDS
    others = [f"abs({qualified(other, row)})" for other in (column, *like) if other.type in NUMBERS]
    seen = f"greatest({', '.join(others)})" if others else "null"
    sizes = {"1e17": NANOS, "1e14": MICROS, "1e11": MILLIS, "0": SECONDS}
    by_size = " ".join(f"when {seen} > {size} then {unit}" for size, unit in sizes.items())
    return f"(case {by_size} else {usual} end)"


def note(column: Column, text: str, code: str, row: str = "t") -> str | None:
    """The SQL text `text`, with the reason `code` (SQL), as this column takes an error: cut to its
    width; merged into JSON, which may hold the prompt and a counter of attempts, never written over
    it; a log gets one more line. None where no text fits."""
    if column.generated or column.labels:
        return None
    before = qualified(column, row)
    if column.type in TEXTS and column.keys:
        return f"({_entry(column, text, code)})::text"
    if column.type in TEXTS and column.width:
        return f"left({text}, {column.width})"
    if column.type in TEXTS and re.search(r"logs?$", column.name.lower()):
        return f"concat_ws(E'\\n', nullif({before}, ''), {text})"
    if column.type in TEXTS:
        return text
    if column.type in TEXT_LISTS:
        return f"coalesce({before}, '{{}}') || array[{text}]::{column.type.lstrip('_')}[]"
    if column.type in JSONS:
        return f"({_merged(column, text, code, row)})::{column.type}"
    return None


def _merged(column: Column, text: str, code: str, row: str) -> str:
    """Objects are merged, lists get one more, anything else is wrapped. A list of strings, such as
    the lines of a log, gets a string. An absent value takes the shape of the default."""
    entry = _entry(column, text, code)
    value = f"{qualified(column, row)}::jsonb"
    lines = bool(re.search(r"log|message|line|warning", column.name.lower()))
    empty = f"to_jsonb({text})" if lines else entry
    listed = "[]" in (column.default or "").replace(" ", "")
    return (
        f"case jsonb_typeof({value}) "
        f"when 'object' then {value} || {entry} "
        f"when 'array' then {value} || jsonb_build_array(case jsonb_typeof({value} -> 0) "
        f"when 'string' then to_jsonb({text}) when 'object' then {entry} else {empty} end) "
        f"when 'null' then {entry} "
        f"else case when {value} is null then {f'jsonb_build_array({empty})' if listed else entry} "
        f"else {entry} || jsonb_build_object('before', {value}) end end"
    )


def _entry(column: Column, text: str, code: str) -> str:
    """The error itself, with the keys that the application reads."""
    contents = {
        "message": text,
        "code": code,
        "time": "to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
    }
    keys = column.keys or (("error", "message"), ("reason", "code"), ("at", "time"))
    if keys[0][0] == "":
        return f"to_jsonb({text})"
    nested: dict[str, dict[str, str]] = {}
    for key, role in keys:
        outer, _, inner = key.partition(".")
        nested.setdefault(outer, {})[inner] = contents[role]
    return _object(
        {outer: held[""] if "" in held else _object(held) for outer, held in nested.items()}
    )


def _object(values: dict[str, str]) -> str:
    pairs = (f"{literal(key)}, {value}" for key, value in values.items())
    return f"jsonb_build_object({', '.join(pairs)})"


def nothing(column: Column) -> str | None:
    """What stands for "not set": NULL where the column may have it, else its own nothing; false for
    a flag, since readers ask `not locked`. None: leave it as it is."""
    if column.generated or (column.full and column.type not in TEXTS):
        return None
    if column.type == "bool":
        return "false"
    if not column.not_null:
        return "''" if column.type in TEXTS and (column.default or "").startswith("''") else "null"
    return "''" if column.type in TEXTS and not column.labels else None


def is_set(column: Column, value: str) -> str:
    """Whether a flag, or a column that says by its presence that something is so, says so."""
    if column.type == "bool":
        return f"({value} is true)"
    if column.type in NUMBERS:
        return f"(coalesce({value}, 0) <> 0)"
    return f"(coalesce({value}, '') <> '')" if column.type in TEXTS else f"({value} is not null)"


def raised(column: Column, row: str = "t") -> str:
    """One more: a version that optimistic writers compare, a count of tries."""
    return f"coalesce({qualified(column, row)}, 0) + 1"


def interval(column: Column, unit: float, row: str = "t") -> str:
    """A length of time that a row states for itself, in units of `unit` seconds."""
    if column.type == "interval":
        return qualified(column, row)
    return f"make_interval(secs => (nullif({qualified(column, row)}, 0) * {unit:g})::float8)"
