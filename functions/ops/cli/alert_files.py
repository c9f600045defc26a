"""What infra/alerts says: the log-based metrics, and the rules of the alerts."""

import re
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parents[3] / "infra" / "alerts"


def metrics() -> dict[str, dict[str, Any]]:
    """The log-based metrics by name."""
    content = _read("metrics.yaml")
    return dict(content["metrics"])


def rules() -> dict[str, str]:
    """The PromQL expression of each alert."""
    return {rule["alert"]: rule["expr"] for rule in rules_in_full()}


def rules_in_full() -> list[dict[str, Any]]:
    """Each rule as it stands in the file."""
    groups = _read("rules.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def log_matches() -> list[dict[str, Any]]:
    """Each alert on single log lines, as it stands in the file."""
    return list(_read("log_match.yaml")["alerts"])


def fed_by(event: str) -> list[str]:
    """The metrics that count the lines of this event."""
    return [name for name, metric in metrics().items() if event_of(metric) == event]


def event_of(metric: dict[str, Any]) -> str | None:
    """The event whose lines the metric counts."""
    match = re.search(r'jsonPayload\.event="(\w+)"', metric["filter"])
    return match[1] if match else None


def _read(name: str) -> Any:
    return yaml.safe_load((ALERTS / name).read_text(encoding="utf-8"))
