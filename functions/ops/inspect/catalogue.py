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

from functions.errors import StoreError
from functions.install.column_sql import TEXTS, WHOLE, Column, identifier
from functions.install.names import fill_in
from functions.ops.inspect.session import Connection

HERE = Path(__file__).parent
SYSTEM_SCHEMAS = [
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
"""Where no task table of an application is: PostgreSQL's, Supabase's and our own."""
SMALL_TABLE_PAGES = 1000
"""A table of so many pages is read to see which values occur: 8 MB, about 2 ms from memory."""
MOST_VALUES = 50
"""A column with more different values than this is no status."""


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
    """A table as the catalogue describes it. `reads` are the tables below a view, `points_to` the
    oids to which foreign keys lead, `shown` the types as PostgreSQL writes them; the last three go
    by column."""

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
    """What the catalogue says of a table. Raises StoreError when it was dropped meanwhile."""
    row = connection.execute((HERE / "catalogue.sql").read_bytes(), {"oid": oid}).fetchone()
    if row is None:
        raise StoreError(f"the table with oid {oid} is gone. Look again.", retryable=True)
    columns = row[0]["columns"] or []
    points_to = {column["name"]: column["points_to"] for column in columns}
    checks = {column["name"]: tuple(column["checks"]) for column in columns}
    converted = {
        "zone": row[0]["zone"] or "UTC",
        "key": tuple(row[0]["key"]),
        "columns": {column["name"]: _column(column) for column in columns},
        "checks": tuple(Check(**_with_tuple(check)) for check in row[0]["checks"]),
        "indexes": tuple(Index(**_with_tuple(index)) for index in row[0]["indexes"]),
        "triggers": tuple(Trigger(**trigger) for trigger in row[0]["triggers"]),
        "reads": tuple(row[0]["reads"]),
        "points_to": {name: oid for name, oid in points_to.items() if oid},
        "domain_checks": {name: texts for name, texts in checks.items() if texts},
        "shown": {column["name"]: column["shown"] for column in columns},
    }
    return Facts(**row[0] | converted)


def _with_tuple(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"columns": tuple(record["columns"])}


def _column(record: dict[str, Any]) -> Column:
    names = ("name", "type", "width", "not_null", "default", "generated", "comment")
    return Column(**{name: record[name] for name in names}, labels=tuple(record["labels"]))


def table_oid(connection: Connection, name: str) -> int:
    """The oid of the table that a person calls `name`: schema.name or name, quoted or not, in any
    case.

    Raises StoreError, which names what is like it, when there is none or more than one.
    """
    rows = connection.execute((HERE / "tables.sql").read_bytes()).fetchall()
    for same in (str.__eq__, _same_in_any_case):
        for schema, table in _readings(name):
            named = [
                row for row in rows if same(row[2], table) and (not schema or same(row[1], schema))
            ]
            nearest = [row for row in named if row[3]] or named
            if len(nearest) == 1:
                return int(nearest[0][0])
            if nearest:
                titles = ", ".join(f"{row[1]}.{row[2]}" for row in nearest)
                raise StoreError(
                    f"there are several tables {name}: {titles}. Say which with --table.",
                    retryable=False,
                )
    raise StoreError(f"there is no table {name}.{_suggestion(name, rows)}", retryable=False)


def _suggestion(name: str, rows: Sequence[Any]) -> str:
    titles = {row[2]: f"{row[1]}.{row[2]}" for row in rows}
    titles |= {title: title for title in titles.values()}
    near = dict.fromkeys(titles[like] for like in difflib.get_close_matches(name, titles, 3, 0.6))
    question = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"{question} Leave --table out to list those that look like task tables."


def _same_in_any_case(name: str, other_name: str) -> bool:
    return name.lower() == other_name.lower()


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """The schema, or nothing, and the name that `a.b`, `"A b"."C"` or `c` may mean: as it is,
    quoted, split at a dot."""
    yield "", name
    part = r'(?:"((?:[^"]|"")+)"|([^".]+))'
    if quoted := re.fullmatch(rf"{part}(?:\.{part})?", name):
        parts = [text.replace('""', '"') for text in quoted.groups() if text]
        yield ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    for dot in re.finditer(r"\.", name):
        yield name[: dot.start()], name[dot.end() :]


def candidates(connection: Connection) -> list[tuple[int, str]]:
    """The tables that may be task tables, with their names."""
    query = (HERE / "candidates.sql").read_bytes()
    rows = connection.execute(query, {"system_schemas": SYSTEM_SCHEMAS}).fetchall()
    return [(int(oid), f"{schema}.{name}") for oid, schema, name in rows]


def occurring(connection: Connection, table: Facts, status: str) -> tuple[Any, ...] | None:
    """The values in the status column: all of a small table or where an index leads to them, else
    the common ones as the last ANALYZE saw them. None when there are too many for a status."""
    if pages(connection, table) <= SMALL_TABLE_PAGES:
        query = "distinct"
    elif any(_leads(index, status) for index in table.indexes):
        query = "loose"
    else:
        return _common(connection, table, status)
    names = {"column": identifier(status), "table": table.quoted, "most": str(MOST_VALUES + 1)}
    rows = connection.execute(sql_of(query, names)).fetchall()
    values = [unpadded(table.columns[status], row[0]) for row in rows if row[0] is not None]
    return None if len(values) > MOST_VALUES else tuple(sorted(values, key=str))


def pages(connection: Connection, table: Facts) -> int:
    """Of a partitioned table, those of all its parts."""
    row = connection.execute(
        "select sum(pg_relation_size(coalesce(p.relid, %(oid)s::oid))) / 8192 "
        "from (select) t left join pg_partition_tree(%(oid)s::oid) p on true",
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
    if row[1] < 0 or row[1] > MOST_VALUES:
        return None
    return tuple(_typed(word, table.columns[status].type) for word in row[0] or ())


def unpadded(column: Column, value: Any) -> Any:
    """A value as a person writes it: char(12) has blanks behind."""
    return value.rstrip() if column.type == "bpchar" else value


def _typed(word: str, type_name: str) -> Any:
    if type_name == "bool":
        return word == "t"
    return int(word) if type_name in WHOLE else word


def labels_behind(connection: Connection, oid: int) -> dict[Any, str]:
    """What a status that points to a small table of states means there: its key and its first text
    column."""
    table = facts(connection, oid)
    texts = [column.name for column in table.columns.values() if column.type in TEXTS]
    if len(table.key) != 1 or not texts or not table.may_read:
        return {}
    usual = ("name", "code", "label", "slug", "status", "title", "key")
    names = {
        "key": identifier(table.key[0]),
        "label": identifier(next((name for name in usual if name in texts), texts[0])),
        "table": table.quoted,
        "most": str(MOST_VALUES + 1),
    }
    rows = connection.execute(sql_of("states", names)).fetchall()
    if len(rows) > MOST_VALUES:
        return {}
    return {key: str(label) for key, label in rows if label is not None}


def sql_of(name: str, names: Mapping[str, str]) -> bytes:
    """The statement of a file beside this one, with the names that it asks for."""
    return fill_in((HERE / f"{name}.sql").read_text(encoding="utf-8"), names).encode()
