"""Sessions on a database that is not ours: UTC, a limit on each statement, read-only unless a write
is meant, and nothing that outlives its transaction, so that a pooler in between is safe (through it
a plain SET reaches other clients too)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from functions.core.sqlstates import Meaning, meaning_of
from functions.errors import StoreError
from functions.ops.cli.patience import said_when_slow
from functions.store import dsn as dsn_of

STATEMENT_TIMEOUT_SECONDS = 60
"""A look that takes longer costs more than it tells. Without an index, 5 million rows take 0.7
seconds."""
ADVICE = {
    "": ". The connection is gone: try again.",
    "42501": ". Grant it to the role of the DSN, or use another role.",
    "55P03": ". Somebody holds the table: try again.",
    "57014": (
        f" after {STATEMENT_TIMEOUT_SECONDS} s. Create the index that the answer names, "
        "or look at a quieter time."
    ),
}
"""The next step after an error, by its SQLSTATE."""

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(dsn: str) -> Connection:
    """Raises StoreError: retryable, when the database can't be reached; with the next step."""
    with said_when_slow():
        return dsn_of.connect(
            dsn, autocommit=True, prepare_threshold=None, application_name="unstuck check"
        )


@contextmanager
def read_only(connection: Connection) -> Iterator[None]:
    """A read-only transaction."""
    with _transaction(connection, "set transaction read only"):
        yield


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """A transaction that says it is the service role, since a trigger of the table may let nobody
    else touch its time columns, and that meets its deferred constraints at once."""
    claims = (
        "select set_config('request.jwt.claim.role', 'service_role', true), "
        "set_config('request.jwt.claims', '{\"role\": \"service_role\"}', true)"
    )
    with _transaction(connection, "set constraints all immediate", claims):
        yield


@contextmanager
def _transaction(connection: Connection, *settings: str) -> Iterator[None]:
    try:
        with connection.transaction():
            for statement in (
                *settings,
                "set local time zone 'UTC'",
                f"set local statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'",
            ):
                connection.execute(statement.encode())
            yield
    except psycopg.Error as error:
        raise store_error(error) from None


def store_error(error: psycopg.Error) -> StoreError:
    """A refusal of the database as a sentence with the next step."""
    code = error.sqlstate or ""
    text = f"{_sentence(error)}{ADVICE[code]}" if code in ADVICE else one_line(error)
    passing = not code or meaning_of(code) is Meaning.WEATHER
    return StoreError(text, retryable=passing, code=code)


def one_line(error: psycopg.Error) -> str:
    """What the database itself says, on one line."""
    return " ".join((error.diag.message_primary or str(error)).split())


def _sentence(error: psycopg.Error) -> str:
    return one_line(error).rstrip(".")
