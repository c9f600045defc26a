"""What PostgreSQL knows of a table: read from the catalogue over a read-only transaction, with
nothing installed.

`facts` costs one round trip whatever the table's size; `occurring` reads values only where the
catalogue does not list them, and never the whole of a large table."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from functions.errors import StoreError
from functions.install.column_sql import TEXTS, WHOLE, Column, identifier
from functions.install.names import render

HERE = Path(__file__).parent
OURS = [
    "information_schema",
    "unstuck",
    "auth",
    "storage",
    "realtime",
    "_realtime",
    "supabase_functions",
    "supabase_migrations",
    "vault",
    "graphql",
    "graphql_public",
    "extensions",
    "net",
    "cron",
    "pgsodium",
    "pgbouncer",
]
SMALL = 1000
"""Pages that a look may read to see which values occur: 8 MB, about 2 ms from memory."""
MANY = 50
"""A column with more different values than this is no status."""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Check:
    name: str
    text: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Index:
    name: str
    unique: bool
    columns: tuple[str, ...]
    method: str
    where: str


@dataclass(frozen=True)
class Trigger:
    name: str
    before_update: bool
    source: str


@dataclass(frozen=True)
class Facts:
    """A table as the catalogue tells it."""

    schema: str
    name: str
    kind: str
    oid: int
    owner: str
    may_read: bool
    may_write: bool
    row_security: bool
    zone: str
    comment: str
    key: tuple[str, ...]
    columns: dict[str, Column]
    checks: tuple[Check, ...]
    indexes: tuple[Index, ...]
    triggers: tuple[Trigger, ...]
    reads: tuple[str, ...]
    points_to: dict[str, int]
    domain_checks: dict[str, tuple[str, ...]]
    shown: dict[str, str]

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def quoted(self) -> str:
        return identifier(self.schema, self.name)


def facts(connection: Connection, oid: int) -> Facts:
    row = connection.execute((HERE / "catalogue.sql").read_bytes(), {"oid": oid}).fetchone()
    if row is None:
        raise StoreError(f"the table with oid {oid} is gone. Look again.", retryable=True)
    found = row[0]
    columns = found.pop("columns") or []
    plain = (
        "schema",
        "name",
        "kind",
        "oid",
        "owner",
        "may_read",
        "may_write",
        "row_security",
        "comment",
    )
    return Facts(
        **{name: found[name] for name in plain},
        zone=found["zone"] or "UTC",
        key=tuple(found["key"]),
        columns={one["name"]: _column(one) for one in columns},
        checks=tuple(
            Check(one["name"], one["text"], tuple(one["columns"])) for one in found["checks"]
        ),
        indexes=tuple(
            Index(**one | {"columns": tuple(one["columns"])}) for one in found["indexes"]
        ),
        triggers=tuple(Trigger(**one) for one in found["triggers"]),
        reads=tuple(found["reads"]),
        points_to={one["name"]: one["points_to"] for one in columns if one["points_to"]},
        domain_checks={one["name"]: tuple(one["checks"]) for one in columns if one["checks"]},
        shown={one["name"]: one["shown"] for one in columns},
    )


def _column(one: dict[str, Any]) -> Column:
    names = ("name", "type", "width", "not_null", "default", "generated", "comment")
    return Column(**{name: one[name] for name in names}, labels=tuple(one["labels"]))


def find(connection: Connection, name: str) -> int:
    """The oid of the table that a person calls `name`: schema.name or name, quoted or not, in any
    case.

    Raises StoreError, which names what is like it, when there is none or more than one.
    """
    rows = connection.execute((HERE / "tables.sql").read_bytes()).fetchall()
    for same in (str.__eq__, _alike):
        for schema, table in _readings(name):
            named = [
                row for row in rows if same(row[2], table) and (not schema or same(row[1], schema))
            ]
            nearer = [row for row in named if row[3]] or named
            if len(nearer) == 1:
                return int(nearer[0][0])
            if nearer:
                which = ", ".join(f"{row[1]}.{row[2]}" for row in nearer)
                raise StoreError(
                    f"there are several tables {name}: {which}. Say which with --table.",
                    retryable=False,
                )
    raise StoreError(f"there is no table {name}.{_like(name, rows)}", retryable=False)


def _like(name: str, rows: Sequence[Any]) -> str:
    known = {f"{row[1]}.{row[2]}": row for row in rows} | {row[2]: row for row in rows}
    near = dict.fromkeys(
        "{1}.{2}".format(*known[one]) for one in difflib.get_close_matches(name, known, 3, 0.6)
    )
    ask = "Leave --table out to list those that look like task tables."
    return f" Did you mean {' or '.join(near)}? {ask}" if near else f" {ask}"


def _alike(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """The schema, or nothing, and the name that `a.b`, `"A b"."C"` or `c` may mean: as it is,
    quoted, split at a dot."""
    yield "", name
    if quoted := re.fullmatch(
        r'(?:"((?:[^"]|"")+)"|([^".]+))(?:\.(?:"((?:[^"]|"")+)"|([^".]+)))?', name
    ):
        parts = [part.replace('""', '"') for part in quoted.groups() if part]
        yield ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    for at in [found.start() for found in re.finditer(r"\.", name)]:
        yield name[:at], name[at + 1 :]


def candidates(connection: Connection) -> list[tuple[int, str]]:
    """The tables that may be task tables, with their names."""
    rows = connection.execute((HERE / "candidates.sql").read_bytes(), {"ours": OURS}).fetchall()
    return [(int(oid), f"{schema}.{name}") for oid, schema, name in rows]


def occurring(connection: Connection, table: Facts, status: str) -> tuple[Any, ...] | None:
    """The values in the status column: all of a small table or where an index leads to them, else
    the common ones as the last ANALYZE saw them. None when there are too many for a status."""
    names = {"column": identifier(status), "table": table.quoted, "most": str(MANY + 1)}
    if _pages(connection, table) <= SMALL:
        query = "distinct"
    elif any(_leads(index, status) for index in table.indexes):
        query = "loose"
    else:
        return _common(connection, table, status)
    rows = connection.execute(sql_of(query, names)).fetchall()
    values = [told(table.columns[status], row[0]) for row in rows if row[0] is not None]
    return None if len(values) > MANY else tuple(sorted(values, key=str))


def _pages(connection: Connection, table: Facts) -> int:
    """Of a partitioned table, those of all its parts."""
    row = connection.execute(
        "select sum(pg_relation_size(coalesce(p.relid, %(oid)s::oid))) / 8192 "
        "from (select 1) one left join pg_partition_tree(%(oid)s::oid) p on true",
        {"oid": table.oid},
    ).fetchone()
    return int(row[0]) if row and row[0] else 0


def _leads(index: Index, column: str) -> bool:
    return index.method == "btree" and not index.where and index.columns[:1] == (column,)


def _common(connection: Connection, table: Facts, status: str) -> tuple[Any, ...] | None:
    row = connection.execute(
        "select most_common_vals::text::text[], n_distinct from pg_stats "
        "where schemaname = %s and tablename = %s and attname = %s order by inherited desc limit 1",
        (table.schema, table.name, status),
    ).fetchone()
    if row is None:
        return ()
    if row[1] < 0 or row[1] > MANY:
        return None
    return tuple(_typed(word, table.columns[status].type) for word in row[0] or ())


def told(one: Column, word: Any) -> Any:
    """A value as a person says it: char(12) has blanks behind."""
    return word.rstrip() if one.type == "bpchar" else word


def _typed(word: str, kind: str) -> Any:
    if kind == "bool":
        return word == "t"
    return int(word) if kind in WHOLE else word


def labels_behind(connection: Connection, oid: int) -> dict[Any, str]:
    """What a status that points to a small table of states means there: its key and its first text
    column."""
    table = facts(connection, oid)
    texts = [one.name for one in table.columns.values() if one.type in TEXTS]
    if len(table.key) != 1 or not texts or not table.may_read:
        return {}
    label = next(
        (
            one
            for one in ("name", "code", "label", "slug", "status", "title", "key")
            if one in texts
        ),
        texts[0],
    )
    names = {
        "key": identifier(table.key[0]),
        "label": identifier(label),
        "table": table.quoted,
        "most": str(MANY + 1),
    }
    rows = connection.execute(sql_of("states", names)).fetchall()
    return {} if len(rows) > MANY else {key: str(label) for key, label in rows if label is not None}


def sql_of(name: str, names: Mapping[str, str]) -> bytes:
    """The statement of a file beside this one, with the names that it asks for."""
    return render((HERE / f"{name}.sql").read_text(encoding="utf-8"), names).encode()
