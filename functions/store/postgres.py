"""The store by psycopg: one connection for each thread that calls, never one that was opened
before a fork.

Safe behind a transaction pooler: autocommit, no prepared statements, no session state (measured
with PgBouncer: 39 of 240 queries failed with psycopg's default of prepared statements).
"""

import os
import time
from typing import Any

from psycopg.errors import Error

from functions.core.sqlstates import LOCKS_AND_LIMITS, Meaning, meaning_of
from functions.errors import StoreError
from functions.store.connection import Connection, RefusedError
from functions.store.dsn import readable, refused
from functions.store.verbs import Store

NO_TEXT = "22021"
"""PostgreSQL's code for a text that it cannot store, where the client finds it already."""
GRANT_HINT = (
    ". This role lacks that right. What is ours its owner grants by `unstuck migrate --apply "
    "--role ROLE`; what is yours (a hook, a table it writes) you grant."
)


class PostgresStore(Store):
    def __init__(self, dsn: str, source: str = "DATABASE_URL") -> None:
        """`source` is where the DSN comes from, for errors. Raises StoreError for what is none."""
        self._dsn, self.ignored = readable(dsn, source)
        self._source, self._has_connected = source, False
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        self._inherited: list[Connection] = []
        self._suspected_at = 0.0

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        until = time.monotonic() + timeout
        connection = self._take(until)
        try:
            answer = connection.call(function, arguments, until)
        except TimeoutError:
            self._suspect(connection)
            raise StoreError(
                f"{function}: no answer within {timeout:.1f} s", retryable=True
            ) from None
        except RefusedError as error:
            if connection.is_usable and _serves_on(error.code):
                self._give_back(connection)
            else:
                self._suspect(connection)
            raise _explain(function, error) from None
        except Error as error:
            self._suspect(connection)
            text = " ".join(str(error).split())
            raise StoreError(f"{function}: {text}", retryable=True) from None
        except UnicodeError as error:
            self._give_back(connection)
            raise StoreError(f"{function}: {error}", retryable=False, code=NO_TEXT) from None
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return answer

    def close(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread may have taken the last one
                return

    def _take(self, until: float) -> Connection:
        if self._pid != os.getpid():
            # Forked: what the parent opened is the parent's, to use and to close.
            self._inherited += self._idle
            self._pid, self._idle = os.getpid(), []
        try:
            return self._idle.pop()
        except IndexError:
            return self._open(until)

    def _give_back(self, connection: Connection) -> None:
        if connection.opened_at > self._suspected_at:
            self._idle.append(connection)
        else:
            connection.close()

    def _suspect(self, connection: Connection) -> None:
        """No connection that was opened before now is used again: most likely the others broke too,
        or lead to the same server, which only reads now. The next call opens a new one."""
        self._suspected_at = time.monotonic()
        connection.close()
        self.close()

    def _open(self, until: float) -> Connection:
        try:
            connection = Connection.open(self._dsn, until)
        except Error as error:
            refusal = refused(error, self._source)
            # a password that was good before may be on its way to the server: ask again
            refusal.retryable = refusal.retryable or self._has_connected
            raise refusal from None
        self._has_connected = True
        return connection


def _serves_on(code: str) -> bool:
    """The server refused the row, or ended the statement: the connection is as good as new."""
    return code in LOCKS_AND_LIMITS or meaning_of(code) is Meaning.ROW


def _explain(function: str, error: RefusedError) -> StoreError:
    text = f"{function}: {error}"
    if error.code == "3F000" and '"unstuck"' in text:
        text = 'this database has no schema "unstuck": nothing is installed in it'
    if error.code in {"42883", "3F000", "42P01"}:
        text += ". Run `unstuck migrate --apply` on this database first."
    if error.code == "42501":
        text += GRANT_HINT
    passing = not error.code or meaning_of(error.code) is Meaning.WEATHER
    return StoreError(text, retryable=passing, code=error.code)
