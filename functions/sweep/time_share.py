"""Gives a step of the sweep its time and no more, so that a step that fails or hangs does not take
the time of the others."""

import contextvars
import threading
import time
from collections.abc import Callable

HEARD_SECONDS, HEARD_SHARE = 4.5, 0.6
"""From the begin of a run, and of its budget at most, until a worker that lives is heard again
after an outage: it asks each second, and a question takes 3 s where nobody answers."""
LAST_CALL_SECONDS = 1.0
"""Kept free at the end of a step, at most a quarter of its time: so long its last call may take."""


def within(
    until: float,
    step: Callable[[float], object],
    *,
    least: float = 0.05,
    longest: float = float("inf"),
) -> str | None:
    """Runs `step(end)` in a thread: the step ends itself at that end (time.monotonic), and is left
    alone at `until`, since a server that answers byte by byte has no limit of its own. It has
    `longest` seconds at most, and is not begun with less than `least`. Returns its error, if any,
    as a text."""
    left = min(longest, until - time.monotonic())
    if left < least:
        return "the sweep used up its budget"
    end = time.monotonic() + left - min(LAST_CALL_SECONDS, left / 4)
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
    thread.join(left)
    return errors[0] if errors else None
