"""The store by psycopg: one connection for each thread that calls, never one that was opened
before a fork.

Safe behind a transaction pooler: autocommit, no prepared statements, no session state (measured
with PgBouncer: 39 of 240 queries failed with psycopg's default, none with prepare_threshold=None).
"""

import os
import time
from math import ceil
from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from functions.core.sqlstates import PASSING
from functions.errors import StoreError
from functions.store.dsn import readable, refused
from functions.store.verbs import Store


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose waits end at `until`: a silent server cannot hold up a deadline."""

    until = float("inf")

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        left = max(0.0, self.until - time.monotonic())
        return super().wait(gen, interval, left if timeout is None else min(left, timeout))


class PostgresStore(Store):
    def __init__(self, dsn: str, source: str = "DATABASE_URL") -> None:
        """`source` is where the DSN comes from, for errors. Raises StoreError for what is none."""
        self._dsn, self.ignored = readable(dsn, source)
        self._source, self._has_connected = source, False
        self._pid = os.getpid()
        self._idle: list[_Connection] = []
        self._inherited: list[_Connection] = []

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        named = ", ".join(f"{name} => %s" for name in arguments)
        until = time.monotonic() + timeout
        connection = None
        try:
            connection = self._take(until)
            connection.until = until
            row = connection.execute(
                f"select unstuck.{function}({named})", tuple(arguments.values())
            ).fetchone()
        except errors._WaitTimeout:  # noqa: SLF001 - its only name
            self._drop(connection)
            raise StoreError(
                f"{function}: no answer within {timeout:.1f} s", retryable=True
            ) from None
        except psycopg.Error as error:
            if (
                connection
                and not connection.closed
                and connection.info.transaction_status == TransactionStatus.IDLE
            ):
                self._idle.append(connection)  # the server said no; the connection is fine
            else:
                self._drop(connection)
                self.close()  # most likely the other idle connections broke with it
            raise _explain(function, error) from None
        except UnicodeEncodeError as error:
            self._drop(connection)
            raise StoreError(f"{function}: {error}", retryable=False) from None
        except BaseException:
            self._drop(connection)
            raise
        self._idle.append(connection)
        return row[0] if row else None

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self, until: float) -> _Connection:
        if self._pid != os.getpid():
            # Forked: what the parent opened is the parent's, to use and to close.
            self._inherited += self._idle
            self._pid, self._idle = os.getpid(), []
        try:
            return self._idle.pop()
        except IndexError:
            return self._open(until)

    def _open(self, until: float) -> _Connection:
        try:
            connection = _Connection.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=max(1, ceil(until - time.monotonic())),
                application_name="unstuck",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
        except psycopg.Error as error:
            refusal = refused(error, self._source)
            # a password that was good before may be on its way to the server: ask again
            refusal.retryable = refusal.retryable or self._has_connected
            raise refusal from None
        self._has_connected = True
        return connection

    @staticmethod
    def _drop(connection: _Connection | None) -> None:
        if connection is not None:
            connection.close()


def _explain(function: str, error: psycopg.Error) -> StoreError:
    code = error.sqlstate or ""
    text = (error.diag.message_primary if code else str(error)) or str(error)
    hint = ""
    if code in {"42883", "3F000", "42P01"}:
        hint = " Run `python -m functions migrate --apply` on this database first."
    unreachable = not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return StoreError(
        f"{function}: {text.strip()}{hint}", retryable=unreachable or code[:2] in PASSING, code=code
    )
