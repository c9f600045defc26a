"""Gives a step of the sweep its time and no more, so that a step that fails or hangs does not take
the time of the others."""

import contextvars
import threading
import time
from collections.abc import Callable

GRACE_SECONDS = 0.2
"""A step ends itself when its time is over; so long it may take to notice that."""


def within(
    until: float,
    step: Callable[[float], object],
    *,
    least: float = 0.05,
    longest: float = float("inf"),
) -> str | None:
    """Runs `step(end)` in a thread that is left alone at that end (time.monotonic): a server that
    answers byte by byte has no limit of its own. The step has the time until `until`, but not more
    than `longest` seconds, and is not begun with less than `least`. Returns its error, if any, as a
    text."""
    left = min(longest, until - time.monotonic())
    if left < least:
        return "the sweep used up its budget"
    end = time.monotonic() + left
    errors = [f"no answer within {left:.1f} s"]

    def run() -> None:
        try:
            step(end)
            errors.clear()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other steps go on
            errors[0] = f"{type(error).__name__}: {error}"

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), daemon=True)
    thread.start()
    thread.join(left + GRACE_SECONDS)
    return errors[0] if errors else None
