"""Log lines as Cloud Run's agent makes LogEntries of them: special fields go to their places, the
rest is the payload."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

PROJECT = "our-project"
_PLACES = {
    "severity": "severity",
    "logging.googleapis.com/trace": "trace",
    "logging.googleapis.com/spanId": "spanId",
    "logging.googleapis.com/trace_sampled": "traceSampled",
    "logging.googleapis.com/labels": "labels",
    "logging.googleapis.com/sourceLocation": "sourceLocation",
}


def entries(
    lines: Iterable[str], service: str = "unstuck-worker", at: datetime | None = None
) -> Iterator[dict[str, Any]]:
    return (entry_of(line, service, at) for line in lines)


def entry_of(
    line: str, service: str = "unstuck-worker", at: datetime | None = None
) -> dict[str, Any]:
    """A line that is not a JSON object becomes text, without a severity."""
    entry: dict[str, Any] = {
        "logName": f"projects/{PROJECT}/logs/run.googleapis.com%2Fstdout",
        "timestamp": (at or datetime.now(UTC)).isoformat(),
        "resource": {
            "type": "cloud_run_revision",
            "labels": {
                "project_id": PROJECT,
                "service_name": service,
                "revision_name": f"{service}-00001-abc",
            },
        },
    }
    try:
        payload = json.loads(line)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        return entry | {"severity": "DEFAULT", "textPayload": line}
    entry |= {place: payload.pop(name) for name, place in _PLACES.items() if name in payload}
    return {"severity": "DEFAULT", **entry, "jsonPayload": payload}
