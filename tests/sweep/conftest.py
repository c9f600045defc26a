"""A database of a module's own, with the outbox of its `policy` and a clock that tests can move."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import Policy
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.conftest import copied
from tests.sql import install_clock

Db = psycopg.Connection[dict[str, Any]]


@pytest.fixture(scope="module")
def dsn(postgres: Postgres, policy: Policy) -> Iterator[str]:
    with copied(postgres, None) as dsn:
        migrate(dsn, policy)
        with psycopg.connect(dsn, autocommit=True) as connection:
            install_clock(connection)
        yield dsn


@pytest.fixture
def db(dsn: str) -> Iterator[Db]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        for table in ("tasks", "unstuck.attempts", "unstuck.sweeps", "unstuck.outbox"):
            connection.execute(f"delete from {table}".encode())
        yield connection


@pytest.fixture
def store(dsn: str, db: Db) -> Iterator[Store]:
    store = PostgresStore(dsn)
    yield store
    store.close()
