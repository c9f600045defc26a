"""What a column needs to be read as a time, or to be written: pure functions from the facts of a
column to SQL.

Real tables keep times as `timestamptz`, without a zone, or as epoch numbers, and errors as text,
`varchar(64)`, JSON or a list. Naming the columns alone broke 8 of 85 tables in the field (facts:
section 4); these rules mended all of them. The functions take and return SQL text; `row` is the
alias of the table. Who runs it: `check --fix`, and the verbs of an adopted table."""

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

SECONDS, MILLIS, MICROS = 1, 1_000, 1_000_000
"""How many of an epoch column's units a second has."""


@dataclass(frozen=True)
class Column:
    """A column as the catalogue tells it. `type` is pg_type.typname, of the base type where it is a
    domain."""

    name: str
    type: str
    width: int | None = None
    not_null: bool = False
    default: str | None = None
    generated: bool = False
    labels: tuple[str, ...] = ()
    comment: str = ""

    @property
    def born_now(self) -> bool:
        """Whether a new row gets the time of its birth here."""
        now = r"\b(now|current_timestamp|clock_timestamp|statement_timestamp|transaction_timestamp|localtimestamp)\b"
        return bool(re.search(now, (self.default or "").lower()))


def identifier(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def literal(value: Any) -> str:
    return sql.Literal(value).as_string(None)


def column(one: Column, row: str = "t") -> str:
    return f"{row}.{identifier(one.name)}"


def moment(one: Column, row: str = "t") -> str:
    """The column as timestamptz. Times without a zone are UTC: the only reading that does not
    depend on the session (a session in New York saw a 2-hour-old row as fresh, one in Tokyo a fresh
    row as stale)."""
    name = column(one, row)
    if one.type == "timestamp":
        return f"({name} at time zone 'UTC')"
    if one.type == "date":  # over when it ends: a row of today must not be old since midnight
        return f"(({name} + 1)::timestamp at time zone 'UTC')"
    if one.type in NUMBERS:
        per_second = (
            f"case when abs({name}) > 1e14 then 1e6 when abs({name}) > 1e11 then 1e3 else 1 end"
        )
        # 0 is what such columns say for "never"
        return f"to_timestamp((nullif({name}, 0) / ({per_second}))::float8)"
    return name


def bound(one: Column, time: str) -> str | None:
    """The timestamptz `time` as a value to compare the bare column with, so that an index on it can
    be used."""
    if one.type == "timestamptz":
        return time
    return f"({time} at time zone 'UTC')" if one.type == "timestamp" else None


def stamp(one: Column, like: tuple[Column, ...] = (), row: str = "t") -> str | None:
    """Now, in the column's own terms. `like` are the other clocks of the row: an epoch column goes
    by their unit."""
    if one.type == "timestamptz":
        return "now()"
    if one.type == "timestamp":
        return "(now() at time zone 'UTC')"
    if one.type == "date":
        return "(now() at time zone 'UTC')::date"
    if one.type in NUMBERS:
        return f"(extract(epoch from now()) * {_per_second(one, like, row)})::{one.type}"
    return None


def _per_second(one: Column, like: tuple[Column, ...], row: str) -> str:
    """An epoch column's unit: by its default or name, else as the row's other epoch columns have
    it, else by its size."""
    said = f"{one.name} {one.default or ''}".lower()
    for unit, signs in (
        (MICROS, r"_us\b|micro|1000000"),
        (MILLIS, r"_ms\b|milli|\b1000\b"),
        (SECONDS, r"_s\b|_secs?\b|epoch from"),
    ):
        if re.search(signs, said):
            return str(unit)
    usual = MILLIS if one.type in {"int8", "numeric", "float8"} else SECONDS
    others = [f"abs({column(other, row)})" for other in (one, *like) if other.type in NUMBERS]
    seen = f"greatest({', '.join(others)})" if others else "null"
    by_size = f"when {seen} > 1e14 then {MICROS} when {seen} > 1e11 then {MILLIS} when {seen} > 0 then {SECONDS}"
    return f"(case {by_size} else {usual} end)"


def note(one: Column, text: str, code: str, row: str = "t") -> str | None:
    """The SQL text `text` as this column takes an error: cut to its width; merged into JSON, never
    in its place (seed 002's script lost the prompt and the attempt counter by that); a log gets one
    more line. None where no text fits."""
    if one.generated or one.labels:
        return None
    if one.type in TEXTS and one.width:
        return f"left({text}, {one.width})"
    if one.type in TEXTS:
        return (
            f"concat_ws(E'\\n', nullif({column(one, row)}, ''), {text})"
            if re.search(r"logs?$", one.name.lower())
            else text
        )
    if one.type in TEXT_LISTS:
        return f"coalesce({column(one, row)}, '{{}}') || array[{text}]::{one.type.lstrip('_')}[]"
    if one.type in JSONS:
        return f"({_merged(one, text, code, row)})::{one.type}"
    return None


def _merged(one: Column, text: str, code: str, row: str) -> str:
    """Objects are merged, lists get one more, anything else is wrapped. A list of strings gets a
    string: OpenDLP's log_messages is one. An absent value takes the shape of the default."""
    now = "to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    entry = f"jsonb_build_object('error', {text}, 'reason', {literal(code)}, 'at', {now})"
    value = f"{column(one, row)}::jsonb"
    lines = bool(re.search(r"log|message|line|warning", one.name.lower()))
    empty = f"to_jsonb({text})" if lines else entry
    listed = "[]" in (one.default or "").replace(" ", "")
    return (
        f"case jsonb_typeof({value}) "
        f"when 'object' then {value} || {entry} "
        f"when 'array' then {value} || jsonb_build_array(case jsonb_typeof({value} -> 0) "
        f"when 'string' then to_jsonb({text}) when 'object' then {entry} else {empty} end) "
        f"when 'null' then {entry} "
        f"else case when {value} is null then {f'jsonb_build_array({empty})' if listed else entry} "
        f"else {entry} || jsonb_build_object('before', {value}) end end"
    )


def nothing(one: Column) -> str | None:
    """What stands for "not set": NULL where the column may have it, else its own nothing; false for
    a flag, since readers ask `not locked`. None: leave it as it is."""
    if one.generated:
        return None
    if one.type == "bool":
        return "false"
    if not one.not_null:
        return "''" if one.type in TEXTS and (one.default or "").startswith("''") else "null"
    return "''" if one.type in TEXTS and not one.labels else None


def raised(one: Column, row: str = "t") -> str:
    """One more: a version that optimistic writers compare, a count of tries."""
    return f"coalesce({column(one, row)}, 0) + 1"


def interval(one: Column, unit: float, row: str = "t") -> str:
    """A length of time that a row states for itself, in units of `unit` seconds."""
    if one.type == "interval":
        return column(one, row)
    return f"make_interval(secs => (nullif({column(one, row)}, 0) * {unit:g})::float8)"
