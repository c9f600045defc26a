"""The body of a request is received before anything else is done for it: within a size and a time,
whoever sends it and to whatever path. So a body that does not come keeps no thread of the function
for long, and one that does not end fills no memory."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from threading import Event, Timer
from typing import Any

from functions.errors import BadRequestError

MAX_BODY_BYTES = 1_000_000
"""A task's input belongs in a bucket when it is larger than that."""
TIME_SECONDS = 10.0
"""For a whole body to come. What is too large is read and thrown away until then, so that its
sender hears why it is refused."""
PIECE_BYTES = 1 << 16
_RECEIVED = "unstuck.body"
"""Of the WSGI environment: None, or why the body is refused."""


def receive(environ: dict[str, Any]) -> None:
    """Puts the received body in place of the connection. Safe to repeat. What is refused is empty
    from now on, and `problem` says why."""
    if _RECEIVED in environ:
        return
    environ[_RECEIVED] = None
    if environ.get("CONTENT_LENGTH", "") in {"", "0"} and "HTTP_TRANSFER_ENCODING" not in environ:
        return
    data, environ[_RECEIVED] = _read(environ)
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ |= {"wsgi.input": BytesIO(data), "CONTENT_LENGTH": str(len(data))}


def problem(environ: dict[str, Any]) -> BadRequestError | None:
    """Why the body was refused."""
    return environ.get(_RECEIVED)


def _read(environ: dict[str, Any]) -> tuple[bytes, BadRequestError | None]:
    from werkzeug.exceptions import HTTPException
    from werkzeug.wsgi import get_input_stream

    stream, connection = get_input_stream(environ), environ.get("gunicorn.socket")
    data, size, is_broken = bytearray(), 0, False
    with _closed_after(connection, TIME_SECONDS) as late:
        try:
            while not late.is_set() and (piece := stream.read(PIECE_BYTES)):
                size += len(piece)
                if size <= MAX_BODY_BYTES:
                    data += piece
        except (HTTPException, OSError):
            is_broken = True
    if size > MAX_BODY_BYTES:
        text = f"The body is larger than {MAX_BODY_BYTES} bytes."
        return b"", BadRequestError(text, status=413, code="too_large")
    if late.is_set():
        text = f"The body did not come within {TIME_SECONDS:g} s."
        return b"", BadRequestError(text, status=408, code="too_slow")
    if is_broken:
        return b"", BadRequestError("The body broke off.")
    return bytes(data), None


@contextmanager
def _closed_after(connection: socket.socket | None, seconds: float) -> Iterator[Event]:
    """No more is received over the connection when the time is over; the answer can still be sent.
    A time limit of the socket would be for each byte alone."""
    late = Event()

    def end() -> None:
        late.set()
        _close(connection)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _close(connection: socket.socket | None) -> None:
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
