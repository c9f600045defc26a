"""The text that a Prometheus scrapes: `stats --prometheus`, and /metrics of the function `page`.

Two families. `unstuck_...` are gauges of now, and how ends and rescues of the last hour were. The
others have the names of Cloud Monitoring's log-based metrics, so that the rules of
infra/alerts/rules.yaml hold for a Prometheus as they are: counts of the ledger in two slots
(metrics.sql). What only a log line or the platform tells is not here: heartbeats and ends that
could not be written, pushes that were not taken, HTTP answers, memory."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from functions.core.answers import Overview
from functions.core.events import counted_kind
from functions.core.policy import Policy, Watch
from functions.store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LOGGED = "logging_googleapis_com:user_unstuck_"
RESOURCE = {"monitored_resource": "cloud_run_revision"}
BUCKETS = ("10", "30", "60", "120", "300", "900")
"""Upper bounds of the seconds until a rescue, as metrics.sql counts them."""
FRESH_INTERVALS = 3.0
"""Counts of the sweep are shown while its last run is not older: a rule asks whether they are
absent."""
STATES = ("completed", "failed", "cancelled")
BY = ("guard", "sweep", "status", "operator")
WRITES = ("beat", "complete", "fail", "retry", "release", "return")
SLOTS = (0, 1)

Sample = tuple[str, dict[str, Any], float]
HELP = {
    "unstuck_open_tasks": "Tasks that are open now.",
    "unstuck_oldest_seconds": "The age of the oldest open task.",
    "unstuck_overdue_tasks": "Open tasks that are past their time.",
    "unstuck_overdue_seconds": "How late the oldest of them is.",
    "unstuck_live_attempts": "Attempts that hold a task now.",
    "unstuck_ended_last_hour": "Attempts that ended in the last hour.",
    "unstuck_last_sweep_age_seconds": "Since the last run of the sweep began.",
    "unstuck_last_sweep_ok": "Whether it ended well.",
    "unstuck_outbox_waiting": "Ends that somebody is still to be told of.",
    "unstuck_outbox_oldest_seconds": "Since when the oldest of them waits.",
    "unstuck_rescue_seconds": "From when an attempt should have ended to its rescue.",
}


def text(store: Store, policy: Policy, watches: Iterable[Watch]) -> str:
    """Raises StoreError."""
    watches = list(watches)
    samples: list[Sample] = []
    for watch in watches:
        samples += _gauges(watch.name, store.overview(watch))
    names = [watch.name for watch in watches]
    answer = store.metrics(names, policy.own_part)
    samples += counts(answer, names, FRESH_INTERVALS * policy.sweep_every)
    return written(samples)


def _gauges(watch: str, view: Overview) -> Iterator[Sample]:
    for tasks in view.open:
        labels = {"watch": watch, "kind": counted_kind(tasks.kind or ""), "state": tasks.state}
        yield "unstuck_open_tasks", labels, tasks.count
        yield "unstuck_oldest_seconds", labels, max(0.0, float(tasks.oldest or 0))
    for kind, count in view.live_by_kind.items():
        yield "unstuck_live_attempts", {"watch": watch, "kind": counted_kind(kind)}, count
    yield "unstuck_overdue_tasks", {"watch": watch}, view.overdue.count
    yield "unstuck_overdue_seconds", {"watch": watch}, max(0.0, float(view.overdue.oldest or 0))
    for ends in view.ended:
        labels = {
            "watch": watch,
            "kind": counted_kind(ends.kind or ""),
            "outcome": ends.outcome,
            "reason": ends.reason or "",
        }
        yield "unstuck_ended_last_hour", labels, ends.count


def counts(
    answer: dict[str, Any], watches: Iterable[str], fresh_seconds: float
) -> Iterator[Sample]:
    """What the verb `metrics` answered."""
    yield from _zeros(watches)
    for ends in answer["ended"]:
        labels = {"watch": ends["watch"], "by": ends["by"], "slot": ends["slot"]}
        if ends["outcome"] in STATES:
            labels["state"] = ends["outcome"]
            yield f"{LOGGED}task_finished", RESOURCE | labels, ends["count"]
        else:
            yield f"{LOGGED}task_requeued", RESOURCE | labels, ends["count"]
    for refusals in answer["refused"]:
        labels = {"wanted": refusals["wanted"], "slot": refusals["slot"]}
        yield f"{LOGGED}lease_lost", RESOURCE | labels, refusals["count"]
    for rescues in answer["rescues"]:
        yield from _rescues(rescues)
    last = answer["last_sweep"]
    if last:
        yield "unstuck_last_sweep_age_seconds", {}, last["age"]
        yield "unstuck_last_sweep_ok", {}, int(bool(last["ok"]))
    if last and last["age"] <= fresh_seconds:
        for runs in answer["sweeps"]:
            yield from _sweeps(runs)
    yield "unstuck_outbox_waiting", {}, answer["outbox"]["waiting"]
    yield "unstuck_outbox_oldest_seconds", {}, answer["outbox"]["oldest"]


def _zeros(watches: Iterable[str]) -> Iterator[Sample]:
    """A Prometheus does not count the first value of a series: each is there from the start."""
    for slot in SLOTS:
        for watch, by in product(watches, BY):
            labels = RESOURCE | {"watch": watch, "by": by, "slot": slot}
            yield f"{LOGGED}task_requeued", labels, 0
            for state in STATES:
                yield f"{LOGGED}task_finished", labels | {"state": state}, 0
        for write in WRITES:
            yield f"{LOGGED}lease_lost", RESOURCE | {"wanted": write, "slot": slot}, 0


def _rescues(rescues: dict[str, Any]) -> Iterator[Sample]:
    name, slot = "unstuck_rescue_seconds", {"slot": rescues["slot"]}
    for bound, count in zip(BUCKETS, rescues["buckets"], strict=True):
        yield f"{name}_bucket", slot | {"le": bound}, count
    yield f"{name}_bucket", slot | {"le": "+Inf"}, rescues["count"]
    yield f"{name}_sum", slot, rescues["sum"]
    yield f"{name}_count", slot, rescues["count"]


def _sweeps(runs: dict[str, Any]) -> Iterator[Sample]:
    labels = RESOURCE | {"slot": runs["slot"]}
    for outcome in ("ok", "error"):
        yield f"{LOGGED}sweep_finished", labels | {"outcome": outcome}, runs[outcome]
    yield f"{LOGGED}sweep_incomplete", labels, runs["incomplete"]
    yield f"{LOGGED}sweep_suspended", labels, runs["suspended"]
    yield f"{LOGGED}task_unsweepable", labels, runs["unsweepable"]
    yield f"{LOGGED}task_redispatched", labels, runs["redispatched"]
    for name in ("overdue", "pending"):
        if runs[f"{name}_count"]:
            yield f"{LOGGED}oldest_{name}_seconds_sum", labels, runs[name]
            yield f"{LOGGED}oldest_{name}_seconds_count", labels, runs[f"{name}_count"]


def written(samples: Iterable[Sample]) -> str:
    """In the text format of Prometheus. Samples whose labels are alike are one."""
    by_name: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for name, labels, value in samples:
        named = tuple((label, str(text)) for label, text in sorted(labels.items()))
        series = by_name.setdefault(name, {})
        series[named] = series.get(named, 0) + value
    lines: list[str] = []
    families: set[str] = set()
    for name, series in by_name.items():
        family = name
        if name.startswith("unstuck_rescue_seconds"):
            family = "unstuck_rescue_seconds"
        if family not in families:
            families.add(family)
            lines += _head(family)
        lines += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in series.items()]
    return "\n".join([*lines, ""])


def _head(family: str) -> list[str]:
    kind = "gauge" if family.startswith("unstuck_") else "counter"
    if family == "unstuck_rescue_seconds":
        kind = "histogram"
    meaning = HELP.get(family, "As in infra/alerts/metrics.yaml; by hour, in two slots.")
    return [f"# HELP {family} {meaning}", f"# TYPE {family} {kind}"]


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
