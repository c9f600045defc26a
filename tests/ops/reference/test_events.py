"""From the events to the metrics: each event is counted, or says why not; each metric counts lines
that are written."""

import pytest

from functions.core.events import ALL
from functions.ops.cli.alert_files import event_of, fed_by, metrics
from tests.chain.entries import entry_of
from tests.chain.query import compiled


@pytest.mark.parametrize("event", ALL.values(), ids=ALL)
def test_an_event_feeds_a_metric_or_says_why_not(event):
    assert bool(fed_by(event.name)) != bool(event.uncounted), "either a metric, or `uncounted`"
    assert not event.uncounted or (
        event.uncounted.endswith(".") and len(event.uncounted.split()) > 5
    )


@pytest.mark.parametrize("name", metrics())
def test_a_metric_counts_lines_of_an_event_and_takes_what_they_carry(name):
    metric = metrics()[name]
    event = ALL[event_of(metric)]
    taken = {*metric.get("labels", {}).values(), *filter(None, [metric.get("value")])}
    assert {path.removeprefix("jsonPayload.") for path in taken} <= set(event.fields)
    assert not {"task_id", "owner", "worker"} & {
        path.removeprefix("jsonPayload.") for path in taken
    }, "each is a series"
    counted = [
        candidate
        for candidate in ALL.values()
        if compiled(metric["filter"])(entry_of(line_of(candidate)))
    ]
    assert [candidate.name for candidate in counted] == [event.name]


def line_of(event):
    """A line of the guard, where it matters whose it is; of a run that left something undone, where
    it matters how much it did."""
    return event.line(dict.fromkeys(event.fields, "x") | {"by": "guard", "complete": False})
