"""pull: a worker that asks for tasks instead of being pushed to: on a VM, in a container, on a
desk. One at a time, each in the guard; for more at once run more of them: a claim is safe between
any number."""

import random
import signal
from collections.abc import Callable, Sequence

from functions.core import events
from functions.core.dispatch import Dispatcher
from functions.core.policy import Policy, Watch
from functions.core.sqlstates import Meaning, meaning_of
from functions.errors import StoreError
from functions.store import Store
from functions.worker import shutdown
from functions.worker.claim import NOTHING_TO_DO
from functions.worker.guard import guard
from functions.worker.kinds import kinds_here

KindsOf = Callable[[Watch], list[str] | None]
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
"""Between claims when no task is due, doubled each time. With a jitter, so that workers spread."""


def pull(
    store: Store,
    policy: Policy,
    dispatcher: Dispatcher,
    watches: Sequence[Watch],
    kinds: list[str] | KindsOf = kinds_here,
    *,
    worker: str,
    once: bool = False,
) -> int:
    """Runs what is due until SIGTERM or Ctrl-C, after which the running task is released; with
    `once`, until nothing is due.

    `kinds` are those that it takes, or a function that says which of a watch. `worker` is the name
    of this worker in the ledger. Returns how many attempts were run.

    An error of the database is logged, and the worker goes on. Raises StoreError only when its
    configuration is wrong from the start, or with `once`."""
    attempts, pause = 0, FIRST_PAUSE_SECONDS
    answered: set[str] = set()
    while not shutdown.requested.is_set():
        if in_this_round := _round(
            store, policy, dispatcher, watches, kinds, worker, answered, once=once
        ):
            attempts, pause = attempts + in_this_round, FIRST_PAUSE_SECONDS
        elif once:
            break
        else:
            shutdown.wait(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return attempts


def stop_on_signals() -> None:
    """SIGTERM and SIGINT end `pull`. Only from the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: shutdown.requested.set())


def _round(
    store: Store,
    policy: Policy,
    dispatcher: Dispatcher,
    watches: Sequence[Watch],
    kinds: list[str] | KindsOf,
    worker: str,
    answered: set[str],
    *,
    once: bool,
) -> int:
    """One task of each watch, so that a full table does not starve the others. `answered` are the
    watches whose claims were answered before."""
    attempts = 0
    for watch in watches:
        try:
            able = kinds(watch) if callable(kinds) else kinds
            answer = guard(store, policy, dispatcher, watch, None, able, worker=worker)
            attempts += answer.verdict not in NOTHING_TO_DO
            answered.add(watch.name)
        except StoreError as error:
            events.emit(events.REQUEST_FAILED, entry="pull", error=str(error), detail=error.code)
            is_wrong = not error.retryable and meaning_of(error.code) is Meaning.CONFIGURATION
            if once or (is_wrong and watch.name not in answered):
                raise
    return attempts
