"""pull: a worker that asks for tasks instead of being pushed to: on a VM, in a container, on a
desk. One at a time, each in the guard; for more at once run more of them: a claim is safe between
any number."""

import random
import signal
from collections.abc import Sequence

from functions.core import events
from functions.core.policy import Policy, Watch
from functions.errors import StoreError
from functions.store import Store
from functions.worker import shutdown
from functions.worker.guard import guard

REST = 0.2, 5.0
"""Seconds between looks when nothing is there: the first, and the longest. With a jitter, so that
workers spread."""


def pull(
    store: Store,
    policy: Policy,
    watches: Sequence[Watch],
    kinds: list[str] | None = None,
    *,
    once: bool = False,
) -> int:
    """Runs what is due until SIGTERM or Ctrl-C, after which the task in hand is released; with
    `once`, until nothing is due.

    Returns how many attempts were run. A database that is away is waited for. Raises StoreError
    when it refuses."""
    ran, rest = 0, REST[0]
    while not shutdown.requested.is_set():
        if now := _round(store, policy, watches, kinds):
            ran, rest = ran + now, REST[0]
        elif once:
            break
        else:
            shutdown.wait(rest * random.uniform(0.5, 1))
            rest = min(2 * rest, REST[1])
    return ran


def stop_on_signals() -> None:
    """SIGTERM and SIGINT end `pull`. Only from the main thread."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: shutdown.requested.set())


def _round(store: Store, policy: Policy, watches: Sequence[Watch], kinds: list[str] | None) -> int:
    """One task of each watch, so that a full table does not starve the others."""
    ran = 0
    for watch in watches:
        try:
            ran += guard(store, policy, watch, None, kinds)["verdict"] != "none"
        except StoreError as error:
            events.emit(events.REQUEST_FAILED, entry="pull", error=str(error), detail=error.code)
            if not error.retryable:
                raise
    return ran
