"""The log-based metrics and the alerts as they are deployed: from the files that Terraform reads, or from its plan."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.chain.query import MISSING, compiled, find

ALERTS = Path(__file__).parents[2] / "infra" / "alerts"
BASE = 'resource.type="cloud_run_revision" AND resource.labels.service_name=~"^unstuck-"'
"""What infra/metrics.tf puts before each filter of metrics.yaml."""
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
                f"{BASE} AND {one['filter']}",
                {label: f"EXTRACT({path})" for label, path in one.get("labels", {}).items()},
                f"EXTRACT({one['value']})" if "value" in one else None,
            )
            for name, one in metrics.items()
        ),
        tuple(rule for group in groups for rule in group["rules"]),
    )


def from_plan(plan: dict[str, Any]) -> Chain:
    """From `terraform show -json`."""
    resources = list(_resources(plan["planned_values"]["root_module"]))
    metrics = [one["values"] for one in resources if one["type"] == "google_logging_metric"]
    policies = [one["values"] for one in resources if one["type"] == "google_monitoring_alert_policy"]
    conditions = [one for policy in policies for each in policy["conditions"] for one in _queries(each)]
    return Chain(
        tuple(
            Metric(one["name"], one["filter"], one.get("label_extractors") or {}, one.get("value_extractor") or None)
            for one in metrics
        ),
        tuple({"alert": one["alert_rule"], "expr": one["query"], "for": one["duration"]} for one in conditions),
    )


def _resources(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", ())
    for child in module.get("child_modules", ()):
        yield from _resources(child)


def _queries(condition: dict[str, Any]) -> list[dict[str, Any]]:
    return condition.get("condition_prometheus_query_language") or []
