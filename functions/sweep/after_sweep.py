"""What follows a sweep that has ended and is in the ledger: gauges for Cloud Monitoring, and a
search for why workers died. Nothing of it may fail the sweep, or delay it beyond its budget."""

import time

from functions.core import events
from functions.core.answers import OpenWork, Rescued
from functions.core.policy import Policy
from functions.store import Store
from functions.sweep.time_share import within

LEAST_SECONDS, TIMEOUT_SECONDS = 1.0, 8.0
"""For each of the two."""


def afterwards(
    store: Store,
    policy: Policy,
    project: str,
    sweep_id: int,
    views: dict[str, OpenWork],
    dead_workers: list[tuple[str, Rescued]],
    *,
    until: float,
) -> None:
    """`views` are what is open in each watch, `dead_workers` the attempts that the sweep ended as
    lease_lost with the names of their watches, `until` when the sweep's budget is over
    (time.monotonic)."""
    limits = {"least": LEAST_SECONDS, "longest": TIMEOUT_SECONDS}
    if dead_workers:
        error = within(
            until, lambda _: _explain(store, policy, sweep_id, project, dead_workers), **limits
        )
        if error:
            events.emit(events.EVIDENCE_FAILED, count=len(dead_workers), error=error)
    error = within(until, lambda end: _write(project, policy, views, end), **limits)
    if error:
        events.emit(events.GAUGES_FAILED, error=error)


def _write(project: str, policy: Policy, views: dict[str, OpenWork], until: float) -> None:
    from functions.sweep import gauges

    gauges.write(project, policy, views, until - time.monotonic())


def _explain(
    store: Store,
    policy: Policy,
    sweep_id: int,
    project: str,
    dead_workers: list[tuple[str, Rescued]],
) -> None:
    from functions.sweep import evidence

    evidence.explain(store, policy, sweep_id, project, dead_workers)
