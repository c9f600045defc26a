"""Says to whoever waits for a database why: within 2 seconds, however long a command goes on
asking."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from functions.errors import StoreError
from functions.ops.cli.out import print_message
from functions.store import Store

SLOW_SECONDS = 1.5
"""So long nothing is said: most answers come sooner."""


@contextlib.contextmanager
def said_when_slow() -> Iterator[None]:
    """Says once that the database has not answered yet."""
    text = "The database has not answered yet. It is asked on for some seconds; Ctrl-C ends that."
    timer = threading.Timer(SLOW_SECONDS, print_message, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class TalkingStore(Store):
    """Another store, whose passing errors are said when they come, each of them once: the call is
    repeated until its time is over, which may be a minute."""

    def __init__(self, store: Store) -> None:
        self._store, self._said = store, set[str]()

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        try:
            with contextlib.nullcontext() if self._said else said_when_slow():
                return self._store.call(function, arguments, timeout)
        except StoreError as error:
            text = str(error)
            if error.retryable and text not in self._said:
                self._said.add(text)
                print_message(f"{text.rstrip('.')}. It is tried again; Ctrl-C ends that.")
            raise

    def close(self) -> None:
        self._store.close()
