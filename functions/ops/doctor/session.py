"""Transactions that leave nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from functions.ops.look.session import STATEMENT_TIMEOUT_SECONDS

Connection = psycopg.Connection[tuple[Any, ...]]
SETTINGS = (
    "set local time zone 'UTC'",
    f"set local statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'",
    # nobody's work waits for a check, and no check for somebody's work
    "set local lock_timeout = '2s'",
    "set constraints all immediate",  # what would fail at the commit fails here
)


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        for statement in SETTINGS:
            connection.execute(statement.encode())
        yield
