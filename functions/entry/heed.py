"""A second look at the sweep, from another path than its schedule: a poll, a claim or a create
notices that it has not run for three of its intervals, and tells."""

import time
from uuid import NAMESPACE_OID, uuid5

from functions.core import events
from functions.core.policy import Policy
from functions.core.settings import Settings
from functions.errors import StoreError
from functions.store import Store

INTERVALS = 3.0
TOLD_EVERY_SECONDS = 3600.0


def heed(store: Store, policy: Policy, settings: Settings) -> float:
    """Asks the ledger when the sweep ran last. Answers the seconds until it is worth a look again.
    It never fails the request that it is a part of. A sweep that never ran may not be wanted yet:
    `doctor` says so."""
    every = policy.sweep_every
    try:
        last = store.metrics([], policy.own_part)["last_sweep"]
    except (StoreError, KeyError):  # the request itself has reached the database, so this is rare
        return every
    if last is None or last["age"] <= INTERVALS * every:
        return every
    events.emit(events.SWEEP_SILENT, age=round(last["age"]))
    if settings.notify_url:
        _tell(policy, settings, last["age"])
    return TOLD_EVERY_SECONDS


def _tell(policy: Policy, settings: Settings, age: float) -> None:
    """To NOTIFY_URL, at once: the outbox would wait for the sweep. Whoever else notices it in the
    same hour sends the same `webhook-id`."""
    from functions.sweep import notify

    hour = int(time.time() // TOLD_EVERY_SECONDS)
    notify.tell_at_once(
        settings,
        str(uuid5(NAMESPACE_OID, f"sweep_silent {policy.own_part} {hour}")),
        "sweep_silent",
        f"The sweep has not run for {age:.0f} s: tasks that are stuck stay so.",
    )
