"""What a handler and its programs print, as log lines of ours. A handler may print what a user
wrote, and a line of JSON on stdout is an event for Cloud Logging: the user could write our events.

The guard reads it, so that the last words of a process that crashes are heard too."""

import os
import sys
import threading
from multiprocessing.connection import Connection
from typing import TextIO

from functions.core import events, trace
from functions.worker.handler_context import Job

LINE_BYTES = 8192
"""A longer line becomes several."""
DRAIN_SECONDS = 1.0
"""How long the guard waits for what is still in the pipe when the process has ended."""


def redirect(pipe: Connection) -> None:
    """In the child: stdout and stderr lead to the guard from now on, also those of C libraries and
    of programs that the handler starts. Our own events keep the real stdout."""
    events.print_to(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(pipe.fileno(), 1)
    os.dup2(pipe.fileno(), 2)
    pipe.close()
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _stream(descriptor: int) -> TextIO:
    """A new one: that of before may be one of a file, with a place in it."""
    return os.fdopen(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


class Output:
    """In the guard: logs what comes, line by line."""

    def __init__(self, job: Job, pipe: Connection) -> None:
        self._job, self._pipe = job, pipe
        self._thread = threading.Thread(target=self._log, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Once the process has ended."""
        self._thread.join(DRAIN_SECONDS)

    def _log(self) -> None:
        job = self._job
        trace.current.set(job.trace)
        with os.fdopen(os.dup(self._pipe.fileno()), "rb") as lines:
            self._pipe.close()
            while line := lines.readline(LINE_BYTES):
                if text := line.decode(errors="backslashreplace").rstrip():
                    events.emit(
                        events.HANDLER_LOG,
                        task_id=job.task_id,
                        kind=job.kind,
                        number=job.attempt,
                        text=text,
                        logger="output",
                    )
