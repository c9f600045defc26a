"""Sessions on a database that is not ours: UTC, a limit on each statement, read-only unless a write
is meant, and nothing that outlives its transaction, so that a pooler in between is safe (a plain
SET leaks to its other clients: seen)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from functions.core.sqlstates import PASSING
from functions.errors import StoreError

STATEMENT_LIMIT = 60
"""Seconds: a look that takes longer costs more than it tells. Without an index, 5 million rows take
0.7 s."""

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(dsn: str) -> Connection:
    """Raises StoreError: retryable, when the database can't be reached; with the next step."""
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=10,
            application_name="unstuck check",
        )
    except psycopg.ProgrammingError as error:
        raise StoreError(
            f"--dsn is no PostgreSQL URL ({_plain(error)}). Write postgresql://user@host:5432/database.",
            retryable=False,
            code="dsn",
        ) from None
    except psycopg.Error as error:
        raise StoreError(
            f"the database can't be reached: {_plain(error)}. Check host, port, user and password of --dsn.",
            retryable=True,
        ) from None


@contextmanager
def looking(connection: Connection) -> Iterator[None]:
    """A read-only transaction."""
    with _transaction(connection, "set transaction read only"):
        yield


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """A transaction that says it is the service role, for triggers that let nobody else touch a
    column (Reigh's timing columns), and that meets its deferred constraints at once."""
    claims = (
        "select set_config('request.jwt.claim.role', 'service_role', true), "
        "set_config('request.jwt.claims', '{\"role\": \"service_role\"}', true)"
    )
    with _transaction(connection, f"set constraints all immediate; {claims}"):
        yield


@contextmanager
def _transaction(connection: Connection, settings: str) -> Iterator[None]:
    try:
        with connection.transaction():
            for statement in (
                *settings.split("; "),
                "set local time zone 'UTC'",
                f"set local statement_timeout = '{STATEMENT_LIMIT}s'",
            ):
                connection.execute(statement.encode())
            yield
    except psycopg.Error as error:
        raise explained(error) from None


def explained(error: psycopg.Error) -> StoreError:
    """A refusal of the database as a sentence with the next step."""
    code = error.sqlstate or ""
    text = (error.diag.message_primary if code else None) or _plain(error)
    if code == "42501":
        text += ". Grant it to the role of the DSN, or use another role."
    elif code == "57014":
        text += f" after {STATEMENT_LIMIT} s. Create the index that the answer names, or look at a quieter time."
    elif code == "55P03":
        text += ". Somebody holds the table: try again."
    elif not code:
        text += ". The connection is gone: try again."
    passing = not code or code[:2] in PASSING
    return StoreError(text, retryable=passing, code=code)


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
