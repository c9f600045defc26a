"""Entries laid out over the minutes of a day, made into the time series that Cloud Monitoring would
hold of them, and judged by promtool.

A log-based metric is a DELTA: each minute with lines has a sample, which knows when it began; other
minutes have none. For Prometheus that is a counter with a point at the minute of the lines and one
at the minute before, and gaps elsewhere."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.chain.definitions import Chain, Metric, extracted
from tests.promtool import promtool

Entry = dict[str, Any]
Key = tuple[str, tuple[tuple[str, str], ...]]


class Timeline:
    """`minutes[m]` are the entries of minute m."""

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length
        self.minutes: dict[int, list[Entry]] = defaultdict(list)
        self.expected: list[tuple[int, str, bool]] = []
        self._platform: list[dict[str, str]] = []

    def add(
        self, entries: Iterable[Entry], begin: int, end: int | None = None, every: int = 1
    ) -> "Timeline":
        """The same entries at minute `begin`, or in each `every`-th minute from `begin` until
        before `end`."""
        kept = list(entries)
        assert kept, "nothing was recorded"
        for minute in range(begin, begin + 1 if end is None else end, every):
            self.minutes[minute] += kept
        return self

    def platform(self, metric: str, labels: dict[str, str], values: str) -> "Timeline":
        """A series of a metric that Cloud Run itself writes. `metric` is Google's name for it,
        `values` as promtool takes them."""
        domain, _, path = metric.partition("/")
        name = re.sub(r"[./]", "_", domain) + ":" + path.replace("/", "_")
        key = tuple(sorted({**labels, "monitored_resource": "cloud_run_revision"}.items()))
        self._platform.append({"series": _named((name, key)), "values": values})
        return self

    def fires(self, alert: str, *minutes: int) -> "Timeline":
        self.expected += [(minute, alert, True) for minute in minutes]
        return self

    def silent(self, alert: str, *minutes: int) -> "Timeline":
        self.expected += [(minute, alert, False) for minute in minutes]
        return self

    def test(self, chain: Chain) -> dict[str, Any]:
        """As a test of promtool."""
        return {
            "name": self.name,
            "interval": "1m",
            "input_series": [
                {"series": _named(key), "values": _values(points, self.length)}
                for key, points in self._series(chain).items()
            ]
            + self._platform,
            "promql_expr_test": [_asked(*one) for one in self.expected],
        }

    def _series(self, chain: Chain) -> dict[Key, dict[int, float]]:
        """What is added in each minute, by name and labels."""
        found: dict[Key, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        points: dict[int, list[tuple[Key, float]]] = {}  # of each entry: most stand in many minutes
        for minute, entries in self.minutes.items():
            for entry in entries:
                if id(entry) not in points:
                    points[id(entry)] = [
                        point for metric in chain.metrics for point in _points(metric, entry)
                    ]
                for key, value in points[id(entry)]:
                    found[key][minute] += value
        return found


def judge(chain: Chain, timelines: list[Timeline], folder: Path, every: str = "1m") -> str:
    """What promtool has against it; "" when all is as expected. The rules are looked at once in
    `every`; each timeline has a file of its own with the rules that it asks for."""
    for number, timeline in enumerate(timelines):
        asked = {alert for _, alert, _ in timeline.expected}
        rules = [rule for rule in chain.rules if rule["alert"] in asked]
        assert {rule["alert"] for rule in rules} == asked, "an alert is gone"
        groups = [{"name": "chain", "rules": rules}]
        (folder / f"rules{number}.yaml").write_text(json.dumps({"groups": groups}))
        test = {
            "rule_files": [f"rules{number}.yaml"],
            "evaluation_interval": every,
            "tests": [timeline.test(chain)],
        }
        (folder / f"tests{number}.yaml").write_text(json.dumps(test))
    files = [f"tests{number}.yaml" for number in range(len(timelines))]
    done = promtool("test", "rules", *files, cwd=folder)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _points(metric: Metric, entry: Entry) -> Iterator[tuple[Key, float]]:
    """What an entry adds to the metric's series."""
    if not metric.takes(entry):
        return
    resource = entry["resource"]
    labels = metric.labels_of(entry) | {
        "monitored_resource": resource["type"],
        "service_name": resource["labels"]["service_name"],
    }
    key = tuple(sorted((name, value) for name, value in labels.items() if value))
    name = f"logging_googleapis_com:user_{metric.name}"
    if metric.value is None:
        yield (name, key), 1
    elif isinstance(
        value := extracted(metric.value, entry), int | float
    ):  # else the entry is not counted
        yield (f"{name}_sum", key), value
        yield (f"{name}_count", key), 1


def _named(key: Key) -> str:
    name, labels = key
    return f"{name}{{{','.join(f'{label}={json.dumps(value)}' for label, value in labels)}}}"


def _values(added: dict[int, float], length: int) -> str:
    points: dict[int, float] = {}
    total = 0.0
    for minute in sorted(added):
        points.setdefault(minute - 1, total)
        total += added[minute]
        points[minute] = total
    return " ".join(f"{points[minute]:g}" if minute in points else "_" for minute in range(length))


def _asked(minute: int, alert: str, firing: bool) -> dict[str, Any]:
    expression = (
        f'clamp_max(count(ALERTS{{alertname="{alert}",alertstate="firing"}}), 1) or vector(0)'
    )
    return {
        "expr": expression,
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": 1 if firing else 0}],
    }
