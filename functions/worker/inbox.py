"""What a handler says, read as it comes: a child that stops in the middle of a large message must
not hold up the guard, which beats and keeps the deadline in the same thread. `Connection.recv`
would wait for the rest."""

import os
import pickle
import struct
from multiprocessing.connection import Connection
from typing import Any

CHUNK = 1 << 20
"""Bytes of one read. A socket mostly has 200 kB: 10 MB take about 50 reads, 20 ms in all."""


HEADS = struct.Struct("!i"), struct.Struct("!iQ")
"""How multiprocessing frames a message: its length; above 2 GB -1, and then the length."""


class Inbox:
    """The messages of a Connection, of which only this reads."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._buffer = pipe, bytearray()

    def read(self) -> None:
        """Takes what has come; waits where nothing has. Raises EOFError when the other end is
        closed."""
        if not (data := os.read(self._pipe.fileno(), CHUNK)):
            raise EOFError
        self._buffer += data

    def take(self) -> tuple[Any, ...] | None:
        """The first message that is whole, or None."""
        for head in HEADS:
            if len(self._buffer) < head.size:
                return None
            if (size := head.unpack_from(self._buffer)[-1]) >= 0:
                break
        end = head.size + size
        if len(self._buffer) < end:
            return None
        message: tuple[Any, ...] = pickle.loads(self._buffer[head.size : end])  # noqa: S301 - our own child's
        del self._buffer[:end]
        return message
