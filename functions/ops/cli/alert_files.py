"""What infra/alerts says: the log-based metrics, and the rules of the alerts."""

import re
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parents[3] / "infra" / "alerts"


def metrics() -> dict[str, dict[str, Any]]:
    """The log-based metrics by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (ALERTS / "metrics.yaml").read_text(encoding="utf-8")
    )["metrics"]
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
