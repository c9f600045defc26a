"""The corpus: 49 real task tables, each as DDL and as a JSON that says what its columns and words
mean.

UNSTUCK_CORPUS names the folder; else it is looked for beside the repository."""

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.install.column_sql import TEXTS, Column, identifier, literal
from functions.ops.inspect.catalogue import Connection, Facts, facts, table_oid
from functions.ops.inspect.word_lists import closed_lists

BESIDE = Path(__file__).parents[4] / "shared" / "corpus"
FOLDER = Path(os.environ.get("UNSTUCK_CORPUS") or BESIDE)
UUID_OSSP = (
    "create function uuid_generate_v4() returns uuid language sql as 'select gen_random_uuid()'"
)
"""The embedded build has no extension; two tables of the corpus use this function of one."""

STATES = {
    "pending": "pending",
    "running": "running",
    "completed": "terminal_ok",
    "failed": "terminal_failed",
}


@dataclass(frozen=True)
class Real:
    """A table of the corpus."""

    name: str
    ddl: str
    description: dict[str, Any]

    @property
    def table(self) -> str:
        return self.description["table"]

    @property
    def closed(self) -> bool:
        """Whether the database lists its words."""
        return self.description["status"]["kind"] in {"enum", "text+check", "varchar+check"}

    @property
    def adoptable(self) -> bool:
        return self.description["adoption_test"]["adopt"] == "tested"

    @property
    def has_known_words(self) -> bool:
        """Whether its words are known at all."""
        return self.adoptable or self.description["adoption_test"]["adopt"] == "not adoptable"

    @cached_property
    def words(self) -> dict[str, list[Any]]:
        """A trailing ? marks a guess; a remark in brackets explains."""
        words = {state: self._listed(key) for state, key in STATES.items()}
        others = [_bare(word) for word in self.description["other"]]
        words["cancelled"] = [word for word in others if "cancel" in word.lower()]
        words["resting"] = [word for word in others if "cancel" not in word.lower()]
        return words

    def _listed(self, key: str) -> list[Any]:
        return [_bare(word) for word in self.description[key] if word != "?"]

    def column(self, role: str) -> str | None:
        """The column of a role, where it is a plain column of the table."""
        entry = self.description["columns"][role]
        if isinstance(entry, list):
            entry = entry[0] if entry else None
        name = entry["column"] if isinstance(entry, dict) else entry
        bare = re.split(r"[ ,]", name)[0] if name else None
        return bare if bare in self.description["all_columns"] else None

    @property
    def mapping(self) -> dict[str, Any]:
        """What a person would write into a --map file."""
        clocks = {"queued": "created", "started": "started", "finished": "completed"}
        return {
            "key": self.description["id"]["column"][0],
            "status": self.description["status"]["column"],
            "words": self.words,
            "clocks": {name: self.column(role) for name, role in clocks.items()}
            | {"alive": self.column("heartbeat") or self.column("updated")},
            "error": self.column("error"),
            "kind": self.column("type"),
            "attempts": self.column("attempts"),
        }


def _bare(word: Any) -> Any:
    return word.rstrip("?").split(" (")[0] if isinstance(word, str) else word


def tables() -> list[Real]:
    files = sorted(FOLDER.glob("[0-9]*.json")) if FOLDER.is_dir() else []
    return [
        Real(
            file.stem, _ddl(file.with_suffix(".sql")), json.loads(file.read_text(encoding="utf-8"))
        )
        for file in files
    ]


needs_corpus = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="the real task tables are not here: set UNSTUCK_CORPUS to their folder",
)


def _ddl(file: Path) -> str:
    return re.sub(r"create extension[^;]*;", "", file.read_text(encoding="utf-8"))


def load(dsn: str, real: Real) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(UUID_OSSP)
        connection.execute(real.ddl.encode())


OLD_CLOCKS = ("created", "updated", "started", "heartbeat", "lock_at", "lock_until", "schedule")
"""What a task of three hours ago has behind it."""


def insert(connection: Connection, real: Real, word: Any, age: str, state: str) -> str:
    """A row as an application would have written it `age` ago. Returns its key."""
    table = facts(connection, table_oid(connection, real.table))
    clocks = {name for role in OLD_CLOCKS if (name := real.column(role))}
    if state == "pending":
        clocks -= {
            real.column("started"),
            real.column("heartbeat"),
            real.column("lock_at"),
            real.column("lock_until"),
        }
        clocks |= {
            name
            for name, column in table.columns.items()
            if column.not_null and name == real.column("started")
        }
    values = {name: _time(table.columns[name], age) for name in clocks if name}
    values[real.description["status"]["column"]] = literal(word)
    for column in table.columns.values():
        if (
            column.not_null
            and not column.generated
            and column.default is None
            and column.name not in values
        ):
            values[column.name] = _value(connection, table, column)
    if (limit := real.column("max_attempts")) in values:
        values[limit] = "3"  # as its application would, since it tries again
    key = table.key[0]
    names, sql_values = ", ".join(map(identifier, values)), ", ".join(values.values())
    statement = (
        f"insert into {table.quoted} ({names}) values ({sql_values}) returning "
        f"{identifier(key)}::text"
    )
    row = connection.execute(statement.encode()).fetchone()
    assert row
    return row[0]


def _time(column: Column, age: str) -> str:
    moment = f"(now() - interval '{age}')"
    if column.type == "timestamptz":
        return moment
    return (
        f"({moment} at time zone 'UTC')"
        if column.type == "timestamp"
        else f"(extract(epoch from {moment}) * 1000)::bigint"
    )


def _value(connection: Connection, table: Facts, column: Column) -> str:
    if column.name in table.points_to:
        parent = facts(connection, table.points_to[column.name])
        return f"(select {identifier(parent.key[0])} from {parent.quoted} limit 1)"
    if column.labels:
        return literal(column.labels[0])
    if lists := closed_lists(table, column.name):
        return literal(lists[0][0])
    if column.type in TEXTS:
        return "left(md5(random()::text), 12)"
    plain = {
        "uuid": "gen_random_uuid()",
        "json": '\'{"prompt": "a cat"}\'',
        "jsonb": '\'{"prompt": "a cat"}\'',
        "bool": "false",
    }
    return plain.get(column.type, "now()" if column.type.startswith("timestamp") else "1")
