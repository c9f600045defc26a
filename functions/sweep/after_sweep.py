"""What follows a sweep that has ended and is in the ledger: gauges for Cloud Monitoring, and a
search for why workers died. Nothing of it may fail the sweep, or delay it beyond its budget."""

import threading
import time
from collections.abc import Callable

from functions.core import events
from functions.core.answers import Overview, Rescued
from functions.core.policy import Policy
from functions.store import Store

TIMEOUT_SECONDS = 8.0
"""For each of the two."""


def afterwards(
    store: Store,
    policy: Policy,
    project: str,
    sweep_id: int,
    views: dict[str, Overview],
    dead_workers: list[tuple[str, Rescued]],
    *,
    until: float,
) -> None:
    """`views` are the overviews of the watches, `dead_workers` the attempts that the sweep ended as
    lease_lost with the names of their watches, `until` when the sweep's budget is over
    (time.monotonic)."""
    if dead_workers and (
        error := _within(until, lambda _: _explain(store, policy, sweep_id, project, dead_workers))
    ):
        events.emit(events.EVIDENCE_FAILED, count=len(dead_workers), error=error)
    if error := _within(until, lambda left: _write(project, policy, views, left)):
        events.emit(events.GAUGES_FAILED, error=error)


def _write(project: str, policy: Policy, views: dict[str, Overview], left: float) -> None:
    from functions.sweep import gauges

    gauges.write(project, policy, views, left)


def _explain(
    store: Store,
    policy: Policy,
    sweep_id: int,
    project: str,
    dead_workers: list[tuple[str, Rescued]],
) -> None:
    from functions.sweep import evidence

    evidence.explain(store, policy, sweep_id, project, dead_workers)


def _within(until: float, act: Callable[[float], object]) -> str | None:
    """Runs it in a thread that is left alone when its time is over: a token server that does not
    answer has no limit of its own. Returns its error, if any, as a text."""
    left = min(TIMEOUT_SECONDS, until - time.monotonic())
    if left < 1:
        return "the sweep used up its budget"
    errors = [f"no answer within {left:.1f} s"]

    def run() -> None:
        try:
            act(left)
            errors.clear()
        except Exception as error:  # noqa: BLE001 - whatever it is, the sweep is done
            errors[0] = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(left)
    return errors[0] if errors else None
