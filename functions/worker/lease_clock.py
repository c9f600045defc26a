"""The clock by which a worker judges its own lease: one for all processes of the machine, which
goes on while they are frozen and, on Linux, while the machine sleeps."""

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some moment in the past."""
    return time.clock_gettime(_CLOCK)
