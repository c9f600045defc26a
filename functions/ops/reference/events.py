"""docs/events.md, from functions/core/events.py and infra/alerts."""

import re
from collections.abc import Iterator

from functions.core.events import ALL, Event
from functions.ops.cli.alert_files import fed_by, rules

_HEAD = """# Events

*For you if you read the log, or build an alert on it. 1 minute.*

<!-- Made by `make docs` from functions/core/events.py and infra/alerts. Edit those instead. -->

Every log line of Unstuck is one of these: JSON on stdout, in the field names of Cloud Logging
(`severity`, `message`, `logging.googleapis.com/trace`, `spanId`, `trace_sampled`), so that all
lines of one request are found by its trace. The table shows the usual level of each. A task that
fails is a WARNING instead, a sweep that fails an ERROR.

An event feeds the log-based metrics of `infra/alerts/metrics.yaml`, and these the alerts of
`infra/alerts/rules.yaml`. No metric has the id of a task or a user as a label. For an event without
a metric the table says why. The words are in the [glossary](glossary.md).

| event | level | sentence | fields | metrics | alerts |
|---|---|---|---|---|---|
"""


def text() -> str:
    return _HEAD + "".join(_row(event) for event in ALL.values())


def _row(event: Event) -> str:
    metrics = fed_by(event.name)
    cells = (
        f"`{event.name}`",
        event.level,
        event.sentence.replace("|", "\\|"),
        " ".join(f"`{field}`" for field in event.fields),
        " ".join(f"`{metric}`" for metric in metrics) or f"none: {event.uncounted}",
        " ".join(_alerts(metrics)) or "-",
    )
    return f"| {' | '.join(cells)} |\n"


def _alerts(metrics: list[str]) -> Iterator[str]:
    """The alerts whose expression reads one of the metrics."""
    series = re.compile(rf"user_({'|'.join(metrics)})(_bucket|_sum|_count)?\b")
    for alert, expression in rules().items():
        if metrics and series.search(expression):
            yield alert
