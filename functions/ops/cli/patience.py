"""Says to whoever waits for a database why: within 2 seconds, however long a command goes on
asking."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from functions.errors import StoreError
from functions.ops import STARTED
from functions.ops.cli.out import print_message
from functions.store import Store
from functions.store.verbs import CANCELLED

SLOW_SECONDS = 1.0
"""So long nothing is said: most answers come sooner."""
LEAST_SECONDS = 0.5
"""So long the first call may take where the start took longer, on a busy machine."""
READ_ONLY = "25006"
"""The SQLSTATE of a write to a server, or in a session, that only reads."""
STAYS = {CANCELLED, READ_ONLY}
"""What is repeated elsewhere, since nobody is there who could end it. A person can."""


@contextlib.contextmanager
def said_when_slow(*, is_first: bool = True) -> Iterator[None]:
    """Says once that the database has not answered yet. `is_first`: nothing was asked before, so
    that whoever waits has waited for the start too."""
    text = (
        "The database has not answered yet; it is asked on for some seconds, and Ctrl-C ends that. "
        "A wrong host, a firewall or a held lock look like this."
    )
    waited = time.monotonic() - STARTED if is_first else 0.0
    timer = threading.Timer(max(LEAST_SECONDS, SLOW_SECONDS - waited), print_message, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class TalkingStore(Store):
    """Another store, for a person who waits. A database that has not answered once is not asked
    again, unless the command `goes_on` for days: its error ends the command at once. Later a
    passing error is said when it comes, once until the next answer, and the call is repeated."""

    def __init__(self, store: Store, *, goes_on: bool = False) -> None:
        self._store, self._goes_on = store, goes_on
        self._has_answered, self._said = False, set[str]()

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        with self._patience():
            answer = self._store.call(function, arguments, timeout)
        self._has_answered = True
        self._said.clear()
        return answer

    def _patience(self) -> contextlib.AbstractContextManager[None]:
        if self._said:
            return contextlib.nullcontext()
        return said_when_slow(is_first=not self._has_answered)

    def _asks_again(self, error: StoreError) -> bool:
        if not error.retryable:
            return False
        if not self._goes_on and (not self._has_answered or error.code in STAYS):
            return False
        text = str(error)
        if text not in self._said:
            self._said.add(text)
            print_message(f"{text.rstrip('.')}. It is tried again; Ctrl-C ends that.")
        return True

    def close(self) -> None:
        self._store.close()
