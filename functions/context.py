"""PUBLIC: what a handler is given, `handle(ctx, task_input) -> result`. worker/handler_context.py
makes it."""

import logging
from typing import Any, Protocol


class Context(Protocol):
    """One attempt of one task, seen from the handler. All times are seconds."""

    task_id: str
    kind: str
    attempt: int
    logger: logging.Logger

    def checkpoint(self, name: str, data: Any = None) -> None:
        """Saves JSON `data` under `name` durably before it returns; the next attempt finds it by
        `done`.

        While the database cannot be reached it waits, until the deadline at most. Raises ValueError
        when the data cannot be stored, LeaseLostError when another attempt holds the task.
        """

    def done(self, name: str) -> Any:
        """Returns the data of checkpoint `name` of this or an earlier attempt, or None.

        A checkpoint without data counts as `True`.
        """

    def progress(self, fraction: float | None = None, message: str = "", **more: Any) -> None:
        """Tells how far the work is (0 to 1). Sent with the next beat; never blocks."""

    def remaining(self) -> float:
        """Seconds until the deadline of this attempt; derive the time limits of your requests from
        it."""

    def cancelled(self) -> bool:
        """True when the work should stop: the lease is lost, or the instance is shut down."""
