"""What a line of the platform's own log says of a worker that is gone: which one, why, and when.

Cloud Run writes it within seconds, long before the lease is over. Only a line that names the
instance counts: that a new revision started says nothing of a worker of the old one, which may
finish its work."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from functions.core.record import Record
from functions.core.states import Reason
from functions.sweep.causes import TIMED_OUT, TIMEOUT_TEXT, cause_of

CLAIM_SECONDS = 15.0
"""So long after its request began an attempt may begin: the framework starts, the claim waits."""
_REQUESTS = "/logs/run.googleapis.com%2Frequests"
_SYSTEM = (
    "/logs/run.googleapis.com%2Fvarlog%2Fsystem",
    "/logs/run.googleapis.com%2F%2Fvar%2Flog%2Fsystem",
)
"""Both names were seen."""
_RESOURCES = ("cloud_run_revision", "cloud_run_worker_pool")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class Death(Record):
    """`worker` is its name in the ledger, `age` the seconds that an attempt has run at least when
    it is meant: a request that was given up leaves other attempts of its instance alone."""

    worker: str
    cause: Reason
    at: datetime
    age: float
    text: str


def death_of(entry: Mapping[str, Any], timeout: float) -> Death | None:
    """None where the line tells of no worker's end. `entry` is a LogEntry as Pub/Sub delivers it,
    `timeout` that of the policy's platform, in seconds. Raises ValueError, TypeError, KeyError or
    AttributeError for what is no LogEntry."""
    resource = entry["resource"]
    revision = resource["labels"].get("revision_name")
    instance = (entry.get("labels") or {}).get("instanceId")
    log = str(entry["logName"])
    if not log.endswith((_REQUESTS, *_SYSTEM)) or resource["type"] not in _RESOURCES:
        return None
    if not (revision and instance):
        return None
    request = entry.get("httpRequest") or {}
    text = entry.get("textPayload") or ""
    if request.get("status") == TIMED_OUT and not cause_of(text):
        text = TIMEOUT_TEXT
    cause = cause_of(text)
    if cause is None:
        return None
    # A request's line may have the time of its begin: what it tells is known when it is received.
    late = log.endswith(_REQUESTS) and "receiveTimestamp" in entry
    at = datetime.fromisoformat(entry["receiveTimestamp" if late else "timestamp"]).astimezone(UTC)
    age = 0.0
    if cause == Reason.DEADLINE:
        lasted = _SECONDS.fullmatch(str(request.get("latency", "")))
        age = max(0.0, (float(lasted[1]) if lasted else timeout) - CLAIM_SECONDS)
    return Death(f"{revision}@{instance}", Reason(cause), at, age, " ".join(text.split())[:300])
