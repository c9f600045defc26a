"""logs: what the functions logged about one task, from Cloud Logging, the oldest first."""

import argparse
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
        found = [_entry(one) for one in _read(options)]
    if options.json:
        print_json({"entries": found})
        return FINE
    if not found:
        return print_message(
            f"Nothing was logged about {options.id} in the last {span(options.since)}. A wider --since may find it."
        )
    shown = ("timestamp", "severity", "service", "message")
    print_table(
        ("time (UTC)", "severity", "service", "message"),
        [[one[name] for name in shown] for one in found],
    )
    return FINE


def query(options: argparse.Namespace, now: datetime) -> str:
    """In the Logging query language."""
    task = options.id.replace("\\", "\\\\").replace('"', '\\"')
    since = (now - timedelta(seconds=options.since)).isoformat()
    return (
        f'resource.type="cloud_run_revision" AND resource.labels.service_name=~"^{options.name}-" '
        f'AND jsonPayload.task_id="{task}" AND timestamp>="{since}"'
    )


def _read(options: argparse.Namespace) -> Any:
    """The query language does not regard case, and keys that are texts may differ by it alone."""
    from google.cloud import logging_v2

    named = google.project(options)
    client: Any = logging_v2.Client(
        project=named, credentials=google.credentials(), _use_grpc=False
    )  # type: ignore[no-untyped-call]
    found = client.list_entries(
        filter_=query(options, datetime.now(UTC)),
        order_by="timestamp asc",
        page_size=min(options.limit, 1000),
        max_results=options.limit,
    )
    return (one for one in found if str((one.payload or {}).get("task_id")) == options.id)


def _entry(found: Any) -> dict[str, Any]:
    payload = dict(found.payload)
    return {
        "timestamp": f"{found.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23],
        "severity": found.severity or "DEFAULT",
        "service": found.resource.labels.get("service_name"),
        "event": payload.pop("event", None),
        "message": payload.pop("message", None),
        "trace": found.trace,
        "fields": payload,
    }
