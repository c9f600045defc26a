"""What a handler and its programs print, as log lines of ours (handler_log says why).

The guard reads it between its heartbeats, so that the last words of a process that crashes are
heard too, and lines of several processes do not tear each other on one pipe."""

import os
import sys
from typing import TextIO

from functions.core import events
from functions.worker import handler_log
from functions.worker.messages import Job

READ_BYTES = 1 << 16
LINE_BYTES = 8192
"""A longer line becomes several."""
MANY_LINES = 100
"""So many that have arrived at once are logged together, as few events: each costs the guard 0.1 ms
in which it can neither send a heartbeat nor read what comes next."""


def redirect(descriptor: int) -> None:
    """In the child: stdout and stderr lead to the guard from now on, also those of C libraries and
    of programs that the handler starts."""
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _stream(descriptor: int) -> TextIO:
    """A new stream: the old one may have been opened on a file, and would keep the position in it,
    which a pipe does not have."""
    return os.fdopen(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


class Output:
    """In the guard: logs what comes, line by line. `writer` is the end for the child."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._rest = b""
        self.ended = False
        """No process can write to it any more."""

    def fileno(self) -> int:
        return self._reader

    def forward(self) -> bool:
        """Logs the lines that have arrived. False when nothing has."""
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return False
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        self._log(lines)
        return bool(data)

    def close(self) -> None:
        """Logs the rest, and takes no more."""
        while self.forward():
            pass
        self._log([self._rest])
        os.close(self._reader)

    def _log(self, lines: list[bytes]) -> None:
        texts = [
            line[start : start + LINE_BYTES].decode(errors="backslashreplace").rstrip()
            for line in lines
            for start in range(0, len(line), LINE_BYTES)
        ]
        texts = [text for text in texts if text]
        if len(texts) >= MANY_LINES:
            texts = _joined(texts)
        events.emit_lines([handler_log.printed(self._job, text) for text in texts])


def _joined(texts: list[str]) -> list[str]:
    """The same lines in fewer texts. What may be JSON stays alone: its keys tell secrets."""
    blocks: list[str] = []
    is_open = False
    for text in texts:
        joins = text.lstrip()[:1] not in {"{", "[", '"'}
        if joins and is_open and len(blocks[-1]) + len(text) < LINE_BYTES:
            blocks[-1] += f"\n{text}"
        else:
            blocks.append(text)
        is_open = joins
    return blocks
