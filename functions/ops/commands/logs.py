"""logs: what the functions logged about one task, from Cloud Logging, the oldest first."""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.ops.cli import google, selection
from functions.ops.cli.out import FINE, print_json, print_message, print_table, span

HELP = "read what was logged about one task, from Cloud Logging"
ENTRY = ("timestamp", "severity", "service", "event", "message", "trace", "fields")
JSON = {"entries": ENTRY}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="the task's key")
    google.arguments(parser)
    parser.add_argument(
        "--since",
        type=selection.seconds,
        metavar="TIME",
        default=86400.0,
        help="not older than 10m, 2h, ... (default 1d)",
    )
    parser.add_argument(
        "--limit",
        type=selection.positive,
        metavar="N",
        default=500,
        help="so many lines at most (default 500)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    with google.cloud_errors():
        entries = [_as_json(entry) for entry in _read(options)]
    if options.json:
        print_json({"entries": entries})
        return FINE
    if not entries:
        return print_message(
            f"Nothing was logged about {options.id} in the last {span(options.since)}. "
            "A wider --since may find it."
        )
    rows = [
        (entry["timestamp"], entry["severity"], entry["service"], entry["message"])
        for entry in entries
    ]
    print_table(("time (UTC)", "severity", "service", "message"), rows)
    return FINE


def query(options: argparse.Namespace, now: datetime) -> str:
    """What is asked of Cloud Logging, in its query language."""
    task = options.id.replace("\\", "\\\\").replace('"', '\\"')
    since = (now - timedelta(seconds=options.since)).isoformat()
    return (
        f'resource.type="cloud_run_revision" AND resource.labels.service_name=~"^{options.name}-" '
        f'AND jsonPayload.task_id="{task}" AND timestamp>="{since}"'
    )


def _read(options: argparse.Namespace) -> Iterator[Any]:
    """The log entries of the task. They are filtered here once more: the query language does not
    regard case, and the keys of two tasks may differ by it alone."""
    from google.cloud import logging_v2

    project, credentials = google.project(options), google.credentials()
    client: Any = logging_v2.Client(  # type: ignore[no-untyped-call]
        project=project, credentials=credentials, _use_grpc=False
    )
    entries = client.list_entries(
        filter_=query(options, datetime.now(UTC)),
        order_by="timestamp asc",
        page_size=min(options.limit, 1000),
        max_results=options.limit,
    )
    for entry in entries:
        if str((entry.payload or {}).get("task_id")) == options.id:
            yield entry


def _as_json(entry: Any) -> dict[str, Any]:
    payload = dict(entry.payload)
    return {
        "timestamp": f"{entry.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23],
        "severity": entry.severity or "DEFAULT",
        "service": entry.resource.labels.get("service_name"),
        "event": payload.pop("event", None),
        "message": payload.pop("message", None),
        "trace": entry.trace,
        "fields": payload,
    }
