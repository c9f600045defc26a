"""docs/events.md, from functions/events.py and infra/alerts."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from functions.events import ALL, Event

ALERTS = Path(__file__).parents[3] / "infra" / "alerts"

_HEAD = """# Events

<!-- Made by `make docs` from functions/events.py and infra/alerts. Edit those instead. -->

Every log line of Unstuck is one of these: JSON on stdout, in the field names of Cloud Logging (`severity`, `message`,
`logging.googleapis.com/trace`, `spanId`, `trace_sampled`), so that all lines of one request are found by its trace. The
level is the usual one: a task that fails is told as a WARNING, a sweep that fails as an ERROR.

An event feeds the log-based metrics of `infra/alerts/metrics.yaml`, and these the alerts of `infra/alerts/rules.yaml`.
No metric has a task's or a user's id as a label. An event that feeds none says why.

| event | level | sentence | fields | metrics | alerts |
|---|---|---|---|---|---|
"""


def text() -> str:
    return _HEAD + "".join(_row(event) for event in ALL.values())


def metrics() -> dict[str, dict[str, Any]]:
    """The log-based metrics by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((ALERTS / "metrics.yaml").read_text(encoding="utf-8"))["metrics"]
    return found


def rules() -> dict[str, str]:
    """The PromQL expression of each alert."""
    groups = yaml.safe_load((ALERTS / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def fed_by(event: str) -> list[str]:
    """The metrics that count the lines of this event."""
    return [name for name, metric in metrics().items() if event_of(metric) == event]


def event_of(metric: dict[str, Any]) -> str | None:
    found = re.search(r'jsonPayload\.event="(\w+)"', metric["filter"])
    return found[1] if found else None


def _row(event: Event) -> str:
    fed = fed_by(event.name)
    cells = (
        f"`{event.name}`", event.level, event.sentence.replace("|", "\\|"), " ".join(f"`{one}`" for one in event.fields),
        " ".join(f"`{one}`" for one in fed) or f"none: {event.uncounted}", " ".join(_alerts(fed)) or "-",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _alerts(fed: list[str]) -> Iterator[str]:
    for alert, expression in rules().items():
        if any(re.search(rf"user_{one}(_bucket|_sum|_count)?\b", expression) for one in fed):
            yield alert
