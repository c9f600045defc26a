"""The log-based metrics and the alerts: from the files that Terraform reads, or from the resources
that it made of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.chain.query import MISSING, compiled, find

ALERTS = Path(__file__).parents[2] / "infra" / "alerts"
FUNCTIONS = (
    "((beat|cancel|claim|complete|create|fail)-task|task-status"
    "|worker|worker-event|sweep|rescue|page)"
)


def base(service: str | None) -> str:
    """What infra/metrics.tf puts before each filter of metrics.yaml."""
    names = f'="unstuck-{service}"' if service else f'=~"^unstuck-{FUNCTIONS}$"'
    return f'resource.type="cloud_run_revision" AND resource.labels.service_name{names}'


BASE = base(None)
QUERY = "condition_prometheus_query_language"
_EXTRACT = re.compile(r"EXTRACT\(([\w.]+)\)")


@dataclass(frozen=True)
class Metric:
    """`value` is the extractor of a distribution; None counts lines."""

    name: str
    filter: str
    labels: dict[str, str] = field(default_factory=dict)
    value: str | None = None

    def takes(self, entry: dict[str, Any]) -> bool:
        return compiled(self.filter)(entry)

    def labels_of(self, entry: dict[str, Any]) -> dict[str, str]:
        """A label of what the line leaves out, or leaves null, is empty."""
        found = {name: extracted(extractor, entry) for name, extractor in self.labels.items()}
        return {name: "" if value is None else str(value) for name, value in found.items()}


@dataclass(frozen=True)
class Chain:
    """`rules` as in a rule file of Prometheus."""

    metrics: tuple[Metric, ...]
    rules: tuple[dict[str, Any], ...]


def extracted(extractor: str, entry: dict[str, Any]) -> Any:
    """Raises ValueError for an extractor that is not known here."""
    match = _EXTRACT.fullmatch(extractor)
    if match is None:
        raise ValueError(f"unknown extractor: {extractor}")
    value = find(entry, tuple(match[1].split(".")))
    return None if value is MISSING else value


def from_files() -> Chain:
    metrics = yaml.safe_load((ALERTS / "metrics.yaml").read_text(encoding="utf-8"))["metrics"]
    groups = yaml.safe_load((ALERTS / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    return Chain(
        tuple(
            Metric(
                name,
                f"{base(one.get('service'))} AND {one['filter']}",
                {label: f"EXTRACT({path})" for label, path in one.get("labels", {}).items()},
                f"EXTRACT({one['value']})" if "value" in one else None,
            )
            for name, one in metrics.items()
        ),
        tuple(rule for group in groups for rule in group["rules"]),
    )


def from_resources(resources: Iterable[dict[str, Any]]) -> Chain:
    """From what Terraform plans or has applied: google_logging_metric and
    google_monitoring_alert_policy."""
    metrics: list[Metric] = []
    rules: list[dict[str, Any]] = []
    for one in resources:
        if "label_extractors" in one:
            labels = one.get("label_extractors") or {}
            metrics.append(
                Metric(one["name"], one["filter"], labels, one.get("value_extractor") or None)
            )
        queries = [query for each in one.get("conditions") or () for query in each.get(QUERY) or ()]
        rules += [
            {"alert": query["alert_rule"], "expr": query["query"], "for": query["duration"]}
            for query in queries
        ]
    return Chain(tuple(metrics), tuple(rules))
