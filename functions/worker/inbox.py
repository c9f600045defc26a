"""The messages of a handler, read piece by piece: a child that stops in the middle of a large one
must not hold up the guard, which sends heartbeats and keeps the deadline in the same thread.
`Connection.recv` would wait for the rest."""

import os
import struct
from multiprocessing.connection import Connection

from functions.worker.messages import MOST_BYTES, ChildMessage, decode

READ_BYTES = 1 << 20
"""The most of one read. A socket mostly has 200 kB: 10 MB take about 50 reads, 20 ms in all."""
HEADERS = struct.Struct("!i"), struct.Struct("!iQ")
"""How multiprocessing frames a message: its length; above 2 GB -1, and then the length."""


class Inbox:
    """The messages of a Connection, of which only this reads."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._buffer = pipe, bytearray()

    def read(self) -> None:
        """Takes what has arrived; waits where nothing has. Raises EOFError when the other end is
        closed."""
        if not (data := os.read(self._pipe.fileno(), READ_BYTES)):
            raise EOFError
        self._buffer += data

    def take(self) -> ChildMessage | None:
        """The first message, or None while a part of it is missing. Raises ValueError when it is
        none, or too large: the worker's own memory is bounded, whatever a handler does."""
        for header in HEADERS:
            if len(self._buffer) < header.size:
                return None
            if (size := header.unpack_from(self._buffer)[-1]) >= 0:
                break
        if size > MOST_BYTES:
            raise ValueError(f"the handler sent a message of {size} bytes")
        end = header.size + size
        if len(self._buffer) < end:
            return None
        message: ChildMessage = decode(bytes(self._buffer[header.size : end]))
        del self._buffer[:end]
        return message
