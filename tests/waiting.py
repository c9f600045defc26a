"""How a test waits for something that another process does: it asks again and again, up to a limit,
and never only sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.01  # seconds


def eventually(condition: Callable[[], T], timeout: float = 30.0, message: str = "") -> T:
    """The first true value of the condition. What the condition raises is not caught."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{message or 'it did not happen'} within {timeout} s: the last value was {value!r}"
            )
        time.sleep(PAUSE)
    return value
