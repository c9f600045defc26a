"""The page as it is deployed, in a process of its own under functions-framework, and a database to
look at with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import load
from functions.ops.local.servers import Server
from functions.store.postgres import PostgresStore
from tests.conftest import copied


class Deployed:
    """`url` may write, `readonly` may not; `db` sets up, `log` is what the one that may write has
    logged."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self.watch, self.store = dsn, load().watch(), PostgresStore(dsn)
        self.db: psycopg.Connection[dict[str, Any]] = psycopg.connect(
            dsn, autocommit=True, row_factory=dict_row
        )
        self._log = folder / "page.log"
        env = {"DATABASE_URL": dsn, "WORKER_URL": "", "PAGE_REDACT": "ssn"}
        self.servers = [
            Server("page", env | {"PAGE_WRITE": "on"}, log=self._log),
            Server("page", env, log=folder / "readonly.log"),
        ]
        self.url, self.readonly = (server.start().url for server in self.servers)

    def close(self) -> None:
        for server in self.servers:
            server.kill()
        self.db.close()
        self.store.close()

    def log(self, name: str) -> list[dict[str, Any]]:
        lines = (
            line
            for line in self._log.read_text(encoding="utf-8").splitlines()
            if f'"event": "{name}"' in line
        )
        return [json.loads(line) for line in lines]

    def tasks(
        self, count: int, kind: str = "image", owner: str | None = None, **task_input: Any
    ) -> list[str]:
        rows = self.db.execute(
            "insert into public.tasks (kind, owner, input) "
            "select %s, %s, %s from generate_series(1, %s) returning id::text",
            (kind, owner, json.dumps(task_input), count),
        ).fetchall()
        return [row["id"] for row in rows]

    def failed(self, count: int, kind: str = "image") -> list[str]:
        """As a person failed them."""
        task_ids = self.tasks(count, kind)
        for start in range(0, count, 500):
            self.store.operate(self.watch, "fail", task_ids[start : start + 500])
        return task_ids

    def old(self, count: int, kind: str = "image") -> list[str]:
        """Pending for two days: the next sweep fails them."""
        task_ids = self.tasks(count, kind)
        self.db.execute(
            "update public.tasks set scheduled_at = now() - interval '2 days' "
            "where id = any (%s::uuid[])",
            (task_ids,),
        )
        return task_ids

    def states(self, tasks: list[str]) -> dict[str, int]:
        query = "select status, count(*) from public.tasks where id = any (%s::uuid[]) group by 1"
        return {row["status"]: row["count"] for row in self.db.execute(query, (tasks,)).fetchall()}


@pytest.fixture(scope="module")
def deployed(
    postgres: Any, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    with copied(postgres, template) as dsn:
        page = Deployed(dsn, tmp_path_factory.mktemp("page"))
        yield page
        page.close()
