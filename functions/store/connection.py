"""A connection to PostgreSQL that ends whatever it does at a given moment, and says the same moment
to the server.

It uses psycopg's layer below its cursors. Two statements travel together there, which costs no
second round trip and is one transaction, and a call takes half of the time that cursors need for it
in pipeline mode (186 against 410 microseconds; 222 without the first statement)."""

import json
import select
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from psycopg._conninfo_attempts import conninfo_attempts
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Error, OperationalError
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PollingStatus
from psycopg.pq import PGconn as Libpq
from psycopg.pq.abc import PGconn, PGresult

from functions.store.limit import within

OPTIONS: dict[str, str | int] = {
    "application_name": "unstuck",
    "client_encoding": "UTF8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
LONGEST_WAY_BACK_SECONDS = 0.25
"""The server gives a statement up so much before its caller does, so that the caller hears of it.
Of a short limit it is a tenth."""
_FIRST_LIMITS = b"""
with session as (
  select
    nullif(1000 * extract(epoch from current_setting('statement_timeout')::interval), 0) as run,
    nullif(1000 * extract(epoch from current_setting('lock_timeout')::interval), 0) as wait
)
select
  run,
  wait,
  set_config('statement_timeout', least(run, $1)::integer::text, true),
  set_config('lock_timeout', least(wait, $2)::integer::text, true)
from session
"""
"""Of the transaction, in milliseconds. Shorter ones of the role or the database stay, and are
answered: the next calls of the connection know them."""
_LIMITS = b"select set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)"


class RefusedError(Exception):
    """The server's error. `code` is its SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """Not for two threads at once."""

    def __init__(self, pgconn: PGconn) -> None:
        self.pgconn = pgconn
        self.opened_at = time.monotonic()
        self._session_limits: tuple[float, float] | None = None

    @classmethod
    def open(cls, dsn: str, until: float) -> "Connection":
        """Each address of each host gets an equal share of the time that is left, so that one that
        hangs neither takes all of it nor adds to it. Raises psycopg's Error."""
        find = partial(conninfo_attempts, conninfo_to_dict(dsn, **OPTIONS))
        try:
            addresses = within(until - time.monotonic(), find)
        except TimeoutError:
            raise OperationalError("timeout: no address of the host was found") from None
        failures: list[str] = []
        for position, address in enumerate(addresses):
            now = time.monotonic()
            share = (until - now) / (len(addresses) - position)
            try:
                return cls(_connected(make_conninfo("", **address), now + share))
            except Error as error:
                failures.append(str(error))
        raise OperationalError("\n".join(failures))

    @property
    def is_usable(self) -> bool:
        return self.pgconn.status == ConnStatus.OK

    def close(self) -> None:
        self.pgconn.finish()

    def call(self, function: str, arguments: dict[str, Any], until: float) -> Any:
        """The JSON that the function answers. The server ends the call, and each wait for a lock,
        shortly before `until`.

        Raises TimeoutError, RefusedError, UnicodeError for a text that cannot be sent, and
        psycopg's Error when the connection breaks. After TimeoutError it must be closed."""
        named = ", ".join(f"{name} => ${n}" for n, name in enumerate(arguments, 1))
        values = [_encoded(value) for value in arguments.values()]
        limits = self._limits(until - time.monotonic())
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        pgconn.send_query_params(_LIMITS if self._session_limits else _FIRST_LIMITS, limits)
        pgconn.send_query_params(f"select unstuck.{function}({named})".encode(), values)
        pgconn.pipeline_sync()
        limits_set, answer = self._results(until)
        if not self._session_limits:
            self._session_limits = _milliseconds(limits_set, 0), _milliseconds(limits_set, 1)
        text = answer.get_value(0, 0)
        return _decoded(text.decode()) if text else None

    def _limits(self, left: float) -> list[bytes]:
        """Of the statement and of a wait for a lock, which is shorter, so that the error tells of
        the lock."""
        seconds = max(0.0, left - min(LONGEST_WAY_BACK_SECONDS, left / 10))
        run, wait = self._session_limits or (float("inf"), float("inf"))
        run = max(1, min(run, 1000 * seconds))
        wait = max(1, min(wait, 980 * seconds))
        return [b"%d" % run, b"%d" % wait]

    def _results(self, until: float) -> list[PGresult]:
        """Of the statements up to the sync."""
        _flush(self.pgconn, until)
        results: list[PGresult] = []
        refusal: RefusedError | None = None
        while (result := _next_result(self.pgconn, until)) is None or (
            result.status != ExecStatus.PIPELINE_SYNC
        ):
            if result is None:  # the end of a statement
                if not self.is_usable:
                    raise refusal or OperationalError("the connection is closed")
            elif result.status == ExecStatus.TUPLES_OK:
                results.append(result)
            elif result.status == ExecStatus.FATAL_ERROR:
                refusal = refusal or _refusal(result)
        self.pgconn.exit_pipeline_mode()
        if refusal:
            raise refusal
        return results


def _flush(pgconn: PGconn, until: float) -> None:
    while pgconn.flush():
        if _wait(pgconn, select.POLLIN | select.POLLOUT, until) & select.POLLIN:
            pgconn.consume_input()


def _next_result(pgconn: PGconn, until: float) -> PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn, select.POLLIN, until)
        pgconn.consume_input()
    return pgconn.get_result()


def _connected(conninfo: str, until: float) -> PGconn:
    pgconn = Libpq.connect_start(conninfo.encode())
    while (status := pgconn.connect_poll()) != PollingStatus.OK:
        if status == PollingStatus.FAILED:
            raise OperationalError(pgconn.get_error_message())
        try:
            reads = status == PollingStatus.READING
            _wait(pgconn, select.POLLIN if reads else select.POLLOUT, until)
        except TimeoutError:
            pgconn.finish()
            raise OperationalError("connection timeout expired") from None
    pgconn.nonblocking = 1
    return pgconn


def _wait(pgconn: PGconn, event: int, until: float) -> int:
    """The events that came. Raises TimeoutError."""
    poll = select.poll()
    poll.register(pgconn.socket, event)
    events = poll.poll(1000 * max(0.0, until - time.monotonic()))
    if not events:
        raise TimeoutError
    return events[0][1]


def _milliseconds(result: PGresult, column: int) -> float:
    """Infinite where the session has no limit."""
    value = result.get_value(0, column)
    return float(value) if value else float("inf")


def _refusal(result: PGresult) -> RefusedError:
    code = result.error_field(DiagnosticField.SQLSTATE) or b""
    message = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return RefusedError(code.decode(), message.decode(errors="replace"))


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        from functions.store import deep

        return deep.loads(text)


def _encoded(value: Any) -> bytes | None:
    """As PostgreSQL reads it in text."""
    if value is None:
        return None
    if isinstance(value, list):
        value = _array(value)
    encoded = value.encode() if isinstance(value, str) else str(value).encode()
    if b"\0" in encoded:
        raise UnicodeError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return encoded


def _array(texts: Sequence[str]) -> str:
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
