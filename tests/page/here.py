"""The page in this process, over a database of its own: for what needs no browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT, parse
from functions.entry.app import App
from functions.install.migrate import migrate
from functions.page.app import create
from functions.page.current import Page
from tests.conftest import copied

SAME = {"Sec-Fetch-Site": "same-origin"}


class Here:
    """`db` sets up; `get` and `post` ask the page."""

    def __init__(self, dsn: str, policy: Path) -> None:
        environment = {"DATABASE_URL": dsn, "USERS": "none", "UNSTUCK_POLICY": str(policy)}
        self.app = App(environment)
        self.policy, self.store = self.app.policy, self.app.store
        self.watch = self.policy.watch()
        self.db: psycopg.Connection[dict[str, Any]] = psycopg.connect(
            dsn, autocommit=True, row_factory=dict_row
        )
        self.client = create(Page(self.app, lambda _: "ann", write=True)).test_client()

    def get(self, path: str = "/", **query: str) -> str:
        return self.client.get(path, query_string=query).text

    def post(self, path: str, **form: str) -> Any:
        return self.client.post(path, data=form, headers=SAME)

    def insert(self, table: str = "tasks", **values: Any) -> str:
        """A row of a table of ours; returns its key."""
        columns, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        query = f"insert into public.{table} ({columns}) values ({marks}) returning id::text"
        row = self.db.execute(query.encode(), tuple(values.values())).fetchone()
        assert row is not None
        return str(row["id"])

    def failed(self, error: str, kind: str = "image", **values: Any) -> str:
        """A task that its handler failed."""
        task = self.insert(kind=kind, **values)
        claimed: Any = self.store.claim(self.watch, task, "worker-1")
        self.store.settle(
            self.watch, task, claimed.token, "fail", reason="handler_error", error=error
        )
        return task


def read(text: str) -> str:
    """As a person reads it: without markup, one space between words."""
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def row_ids(text: str) -> list[str]:
    return re.findall(r'<tr id="t-([^"]+)"', text)


@contextmanager
def served(
    postgres: Any, folder: Path, change: Any = lambda text: text, before: str = "select"
) -> Iterator[Here]:
    """With the default policy, changed by a function of its text. `before` is run before anything
    of ours is installed."""
    policy = folder / "policy.yaml"
    policy.write_text(change(DEFAULT.read_text(encoding="utf-8")), encoding="utf-8")
    with copied(postgres, None) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute(before.encode())
        migrate(dsn, parse(policy.read_text(encoding="utf-8"), str(policy)))
        here = Here(dsn, policy)
        yield here
        here.db.close()
        here.store.close()
