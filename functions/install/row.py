"""A row of a watched table, as SQL: its columns with their types, and the state that it is in.

Mostly a word stands for one state. A flag has two words for all of them, and some tables say `done`
of what failed as well: there the columns that the watch names as `marks` tell the states of one
word apart."""

import re
from collections.abc import Iterator
from typing import Any

from psycopg import sql

from functions.core.policy import Watch
from functions.core.states import State
from functions.install.column_sql import TEXTS, Column, literal

ALIASES = {
    "character varying": "varchar",
    "character": "bpchar",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "text[]": "_text",
    "varchar[]": "_varchar",
}
"""How people write a type, and how the catalogue does."""


def identifier(name: str) -> str:
    """`schema.name`, each part quoted."""
    return sql.Identifier(*name.split(".")).as_string(None)


def column(watch: Watch, name: str, usual: str) -> Column:
    """The column with the type that the watch states for it, else the usual one."""
    match = re.fullmatch(r"(.+?)(?:\((\d+)\))?(\s+not null)?", watch.types.get(name, usual))
    assert match is not None, "any text matches"
    return Column(
        name,
        ALIASES.get(match[1], match[1]),
        int(match[2]) if match[2] else None,
        not_null=bool(match[3]),
    )


def is_in(watch: Watch, row: str, *states: State) -> str:
    """Whether the row, by its alias, is in one of the states."""
    status = _named(watch.status, row)
    plain = [
        literal(word)
        for state in states
        for word in watch.words[state]
        if len(watch.sharers(word)) == 1
    ]
    parts = (
        [f"{status} = {plain[0]}" if len(plain) == 1 else f"{status} in ({', '.join(plain)})"]
        if plain
        else []
    )
    shared = [
        (state, word)
        for state in states
        for word in watch.words[state]
        if len(watch.sharers(word)) > 1
    ]
    parts += [
        " and ".join([f"{status} = {literal(word)}", *_told_apart(watch, row, state, word)])
        for state, word in shared
    ]
    if len(parts) == 1 and plain:
        return parts[0]
    return f"({' or '.join(dict.fromkeys(parts))})" if parts else "false"


def _told_apart(watch: Watch, row: str, state: State, word: Any) -> Iterator[str]:
    """By the marks: that of the state is set, those of the others that share its word are not. Of
    two that are set the first state counts."""
    for other in watch.sharers(word):
        if other == state and state in watch.marks:
            yield f"{is_set(watch, watch.marks[state], row)}"
            return
        if other in watch.marks:
            yield f"not {is_set(watch, watch.marks[other], row)}"


def is_set(watch: Watch, name: str, row: str) -> str:
    """Whether a mark is set: a flag that is true, a text that says something, anything else that is
    not NULL."""
    one, named = column(watch, name, usual_type(watch, name)), _named(name, row)
    if one.type == "bool":
        return f"({named} is true)"
    return f"(coalesce({named}, '') <> '')" if one.type in TEXTS else f"({named} is not null)"


def usual_type(watch: Watch, name: str) -> str:
    """The type of a column of which the watch does not say it."""
    return "timestamptz" if any(name in names for names in watch.clocks.values()) else "text"


def state_of(watch: Watch, row: str) -> str:
    """The state of the row; NULL for a word that the watch does not know."""
    cases = (
        f"when {is_in(watch, row, state)} then {literal(str(state))}"
        for state in State
        if watch.words[state]
    )
    return f"case {' '.join(cases)} end"


def _named(name: str, row: str) -> str:
    return f"{row}.{identifier(name)}" if row else identifier(name)
