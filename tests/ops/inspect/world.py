"""What the tests of check share: a table made from DDL, and check as a person runs it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.ops.command_line import main


@dataclass
class Answer:
    """What a run of check said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    def words(self, state: str) -> list[Any]:
        return self.json["inferred"]["words"][state]

    def ids(self) -> list[str]:
        return [task["id"] for task in self.json["stuck"]]

    def names(self, text: str) -> bool:
        """Whether something unsure mentions it."""
        return any(text in sentence for sentence in self.json["unsure"])


@dataclass
class World:
    """One database, and check on it."""

    dsn: str
    capsys: pytest.CaptureFixture[str]
    folder: Path

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:
        return self.rows(query)[0][0]

    def check(self, *options: str, table: str | None = "jobs", as_json: bool = True) -> Answer:
        self.capsys.readouterr()
        named = [] if table is None else ["--table", table]
        try:
            code = main(
                ["check", "--dsn", self.dsn, *named, *(["--json"] if as_json else []), *options]
            )
        except SystemExit as left:
            code = int(left.code or 0)
        output = self.capsys.readouterr()
        return Answer(code, output.out, output.err)

    def fix(self, *options: str, table: str = "jobs") -> Answer:
        return self.check("--fix", "--yes", *options, table=table)

    def map(self, **mapping: Any) -> str:
        """A --map file with these keys."""
        file = self.folder / "map.json"
        file.write_text(json.dumps(mapping), encoding="utf-8")
        return str(file)


WORDS = {
    "pending": ["pending"],
    "running": ["running"],
    "completed": ["completed"],
    "failed": ["failed"],
}
"""The words of a map for a table that keeps to the usual ones."""


def jobs(
    *columns: str, name: str = "jobs", statuses: str = "'pending', 'running', 'completed', 'failed'"
) -> str:
    """A table of tasks with a closed list of words, to which a test adds what it is about."""
    usual = [
        "id bigint generated always as identity primary key",
        f"status text not null default 'pending' check (status in ({statuses}))",
        "error text",
        "created_at timestamptz not null default now()",
    ]
    return f"create table {name} ({', '.join([*usual, *columns])})"
