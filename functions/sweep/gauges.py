"""How many tasks are open, since when, and how many are running, as metrics of Cloud Monitoring.

    custom.googleapis.com/unstuck/open_tasks       watch, kind, state (pending, running)
    custom.googleapis.com/unstuck/oldest_seconds   watch, kind, state: the age of the oldest of them
    custom.googleapis.com/unstuck/live_attempts    watch, kind
    custom.googleapis.com/unstuck/overdue_tasks    watch: open and past their time now
    custom.googleapis.com/unstuck/overdue_seconds  watch: how late the oldest of them is

For the dashboard: alerts rest on log lines. A watch that could not be read gets no point. A kind
that has no open task is written as 0, when the policy names it or it was seen before by this
instance; else its line would stop at its last value. One sweep runs at a time, so that all points
are of one resource (generic_task, task_id "sweep"), whichever instance writes them."""

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from functions.core.answers import OpenWork
from functions.core.policy import Policy
from functions.core.settings import Settings

PREFIX = "custom.googleapis.com/unstuck"
MAX_SERIES = 200
"""That one request may write."""
PAUSE_SECONDS = 10.0
"""Between two points of a series: Cloud Monitoring refuses what is closer than 5 s."""
STATES = ("pending", "running")

Key = tuple[str, tuple[tuple[str, str], ...]]
_seen: set[Key] = set()
_written_at = float("-inf")
"""What this instance has written, and when: of the process, as its series are."""


def write(project: str, policy: Policy, views: dict[str, OpenWork], limit: float) -> int:
    """Writes what is open, in at most `limit` seconds; returns how many series. Raises
    what the client raises."""
    global _written_at  # noqa: PLW0603 - of this process
    until = time.monotonic() + limit
    if time.monotonic() - _written_at < PAUSE_SECONDS:
        return 0
    _written_at = time.monotonic()
    series = list(_series(project, points(policy, views), time.time()))
    for at in range(0, len(series), MAX_SERIES):
        client().create_time_series(
            name=f"projects/{project}",
            time_series=series[at : at + MAX_SERIES],
            retry=None,
            timeout=max(0.1, until - time.monotonic()),
        )
    return len(series)


def points(policy: Policy, views: dict[str, OpenWork]) -> dict[Key, float]:
    """Metric and labels, and the value now."""
    values = {key: 0.0 for key in _seen if dict(key[1])["watch"] in views}
    values |= _zeros(policy, views)
    for watch, view in views.items():
        for tasks in view.open:
            labels = {"watch": watch, "kind": tasks.kind or "", "state": tasks.state}
            values[_key("open_tasks", **labels)] = tasks.count
            values[_key("oldest_seconds", **labels)] = max(0.0, float(tasks.oldest or 0))
        for kind, count in view.live_by_kind.items():
            values[_key("live_attempts", watch=watch, kind=kind)] = count
        values[_key("overdue_tasks", watch=watch)] = view.overdue.count
        values[_key("overdue_seconds", watch=watch)] = max(0.0, float(view.overdue.oldest or 0))
    _seen.update(values)
    return values


def _zeros(policy: Policy, views: dict[str, OpenWork]) -> dict[Key, float]:
    zeros: dict[Key, float] = {}
    for watch in views:
        for kind in policy.watches[watch].rules.keys() - {"*"}:
            zeros[_key("live_attempts", watch=watch, kind=kind)] = 0.0
            for state in STATES:
                zeros[_key("open_tasks", watch=watch, kind=kind, state=state)] = 0.0
                zeros[_key("oldest_seconds", watch=watch, kind=kind, state=state)] = 0.0
    return zeros


def _key(metric: str, **labels: str) -> Key:
    return metric, tuple(labels.items())


def installation(service: str) -> str:
    """The prefix of all names, of the name of a service: two installations in one project would
    write the same series otherwise. Terraform calls the sweep `<name>-sweep`."""
    return service.removesuffix("-sweep").removesuffix("-worker")


def _series(project: str, values: dict[Key, float], now: float) -> Iterator[Any]:
    from google.cloud import monitoring_v3

    resource = {
        "type": "generic_task",
        "labels": {
            "project_id": project,
            "location": "global",
            "namespace": installation(Settings.read().service),
            "job": "sweep",
            "task_id": "sweep",
        },
    }
    interval = {"end_time": {"seconds": int(now), "nanos": int(now % 1 * 1e9)}}
    for (metric, labels), value in sorted(values.items()):
        is_age = metric.endswith("_seconds")
        typed = {"double_value": float(value)} if is_age else {"int64_value": int(value)}
        yield monitoring_v3.TimeSeries(
            metric={"type": f"{PREFIX}/{metric}", "labels": dict(labels)},
            resource=resource,
            metric_kind="GAUGE",
            value_type="DOUBLE" if is_age else "INT64",
            points=[{"interval": interval, "value": typed}],
        )


@lru_cache
def client() -> Any:
    """Made after the fork. The library speaks gRPC only."""
    from google.cloud import monitoring_v3

    return monitoring_v3.MetricServiceClient()
