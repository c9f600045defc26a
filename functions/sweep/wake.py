"""After a pause: pushes what waited for its end, so that it need not wait for the next sweep."""

import time
from collections.abc import Sequence

from functions.core.answers import Pause
from functions.core.dispatch import MAX_POSTS, Dispatcher, Push, push_all, pushes
from functions.core.policy import Watch
from functions.core.record import Record, replace
from functions.errors import StoreError
from functions.store import Store

MAX_WAKES = MAX_POSTS
"""Tasks of a watch that are pushed at once; the next sweeps push the others."""
WAKE_SECONDS = 5.0
NEVER_SECONDS = 1e9
EVERY_KIND = "*"


class Woken(Record):
    """How many pushes the queue took, and why not all."""

    pushed: int = 0
    error: str | None = None


def wake(store: Store, dispatcher: Dispatcher, watch: Watch, ended: Sequence[Pause]) -> Woken:
    """Pushes the oldest tasks of the kinds whose pauses have ended. Raises nothing: the pauses are
    over, and the sweep pushes what was not."""
    return wake_kinds(store, dispatcher, watch, {pause.kind for pause in ended})


def wake_kinds(store: Store, dispatcher: Dispatcher, watch: Watch, kinds: set[str]) -> Woken:
    """Pushes the oldest tasks of these kinds; "*" means all. Raises nothing."""
    if not kinds or not pushes(dispatcher):
        return Woken()
    try:
        waiting = store.redispatch(_at_once(watch, kinds), MAX_WAKES)
    except StoreError as error:
        return Woken(error=str(error))
    to_push = [
        Push(watch.name, task.task_id, -task.times)
        for task in waiting
        if watch.is_pushed(task.kind) and not kinds.isdisjoint({task.kind, EVERY_KIND})
    ]
    accepted = push_all(dispatcher, to_push, time.monotonic() + WAKE_SECONDS)
    refused = accepted.count(False)
    refusal = f"the queue did not take {refused} of {len(accepted)} pushes" if refused else None
    return Woken(pushed=accepted.count(True), error=refusal)


def _at_once(watch: Watch, kinds: set[str]) -> Watch:
    """The watch with rules by which the push of each waiting task of these kinds is lost, and of no
    other."""
    rules = {}
    for kind in {*watch.rules, *kinds}:
        after = 0.0 if kinds & {kind, EVERY_KIND} else NEVER_SECONDS
        rules[kind] = replace(watch.rule(kind), redispatch_after=after)
    return replace(watch, rules=rules)
