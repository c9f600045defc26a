"""Transactions that leave nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager

from functions.ops.inspect.session import STATEMENT_TIMEOUT_SECONDS, Connection

SETTINGS = (
    "set local time zone 'UTC'",
    f"set local statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'",
    # no worker waits long for a check, and no check for a worker
    "set local lock_timeout = '2s'",
    "set constraints all immediate",  # what would fail at the commit fails here
    # the plans that a check forbids look so dear that, up to PostgreSQL 17, they are compiled
    "set local jit = off",
)


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        for statement in SETTINGS:
            connection.execute(statement.encode())
        yield
