"""Whether the clock of the database was set since this process ran its last sweep. Measured by
time.monotonic, which nobody sets."""

import time
from weakref import WeakKeyDictionary

from functions.store import Store

LEAST_JUMP_SECONDS = 10.0
"""A lease outlasts less; answers that are late by less are usual."""

_last_run: WeakKeyDictionary[Store, tuple[float, float]] = WeakKeyDictionary()
"""The database's clock and time.monotonic() at the begin of the last run."""


def jump(store: Store, at: float) -> float | None:
    """The seconds by which the clock was set, above 0 for forward; None where it was not, or where
    this is the first run of the process. `at`: the database's clock at the begin of this run."""
    if store not in _last_run:
        return None
    last_at, last_monotonic = _last_run[store]
    seconds = (at - last_at) - (time.monotonic() - last_monotonic)
    return seconds if abs(seconds) >= LEAST_JUMP_SECONDS else None


def keep(store: Store, at: float) -> None:
    """For the next run, once a jump that this one found is written down."""
    _last_run[store] = at, time.monotonic()
