"""Why a worker died that stopped without a word, as the platform's own log tells it.

A process that is killed cannot say why; Cloud Run writes it down: memory, request timeout, a
signal, a new revision. After the sweep one query asks for the lines of all workers whose attempts
it ended as lease_lost, and the ledger is told."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from functions.core import events
from functions.core.answers import Evidence, Rescued
from functions.core.policy import Policy
from functions.store import Store
from functions.sweep.causes import CAUSES, ROLLOUT, TEXTS, TIMED_OUT, TIMEOUT_TEXT

MAX_TASKS = 50
"""So many tasks, at most, one sweep asks about."""
MAX_LINES = 200
"""So many lines, at most, one answer holds."""
SLACK_SECONDS = 60.0
"""So far the platform's line may lie before the last heartbeat or after the end of the lease."""
_WORKER = re.compile(
    r"(?P<revision>(?P<service>[a-z][a-z0-9-]*)(-\d{5}-[a-z]{3}|\.\d+))@(?P<instance>\w+)"
)
_NO_INSTANCE = "localhost"
"""The host name of every instance of Cloud Run."""


class Worker(NamedTuple):
    service: str
    revision: str
    instance: str | None


def explain(
    store: Store,
    policy: Policy,
    sweep_id: int,
    project: str,
    dead_workers: list[tuple[str, Rescued]],
) -> int:
    """Writes what the log says to the ledger. Returns for how many attempts it wrote a cause.
    Raises what the client and the store raise."""
    tasks = [
        (watch, task, worker)
        for watch, task in dead_workers[:MAX_TASKS]
        if (worker := worker_of(task.worker))
    ]
    if not tasks:
        return 0
    now = datetime.now(UTC)
    window = SLACK_SECONDS + policy.lease + policy.beat
    begin = now - timedelta(seconds=max(task.late for _, task, _ in tasks) + window)
    entries = list(_entries(project, query([worker for _, _, worker in tasks], begin, now)))
    evidence = []
    for watch, task, worker in tasks:
        ended = now - timedelta(seconds=task.late)
        span = ended - timedelta(seconds=window), ended + timedelta(seconds=SLACK_SECONDS)
        if cause := verdict(entries, worker, span):
            evidence.append(Evidence(watch, task.task_id, task.number, *cause))
    return write(store, sweep_id, evidence)


def write(store: Store, sweep_id: int, evidence: list[Evidence]) -> int:
    count = store.evidence(sweep_id, evidence) if evidence else 0
    if count:
        for line in evidence:
            events.emit(events.EVIDENCE_FOUND, **vars(line))
    return count


def worker_of(worker: str | None) -> Worker | None:
    """None for a worker that is not on Cloud Run: nobody wrote down how it died."""
    match = _WORKER.fullmatch(worker or "")
    if match is None:
        return None
    instance = match["instance"]
    return Worker(
        match["service"], match["revision"], None if instance == _NO_INSTANCE else instance
    )


def query(workers: Iterable[Worker], begin: datetime, end: datetime) -> str:
    """In the Logging query language, where OR binds before AND."""
    workers = list(workers)
    texts = " OR ".join(f'textPayload:"{text}"' for text in TEXTS)
    revisions = _any(worker.revision for worker in workers)
    services = _any(worker.service for worker in workers)
    return (
        'resource.type=("cloud_run_revision" OR "cloud_run_worker_pool") AND '
        f'timestamp>="{begin.isoformat()}" AND timestamp<="{end.isoformat()}" AND ('
        f"(resource.labels.revision_name=({revisions}) AND "
        f"({texts} OR httpRequest.status={TIMED_OUT})) OR "
        f'(resource.labels.service_name=({services}) AND textPayload:"{ROLLOUT}"))'
    )


def _any(names: Iterable[str]) -> str:
    return " OR ".join(f'"{name}"' for name in sorted(set(names)))


def verdict(
    entries: Iterable[Any], worker: Worker, span: tuple[datetime, datetime]
) -> tuple[str, str] | None:
    """The most specific cause among the lines that concern this worker in that time, and the
    line."""
    lines: dict[str, Any] = {}
    for entry in entries:
        if not _concerns(entry, worker) or not span[0] <= entry.timestamp <= span[1]:
            continue
        if cause := _cause(entry):
            lines.setdefault(cause, entry)
    for cause, _ in CAUSES:
        if cause in lines:
            text = " ".join(_text(lines[cause]).split())[:300]
            at = lines[cause].timestamp.astimezone(UTC)
            return cause, f"Cloud Run's log at {at:%H:%M:%S} UTC: {text}"
    return None


def _concerns(entry: Any, worker: Worker) -> bool:
    """A new revision is started beside the old one. Else it must be this instance, where the line
    names one."""
    labels = entry.resource.labels
    if ROLLOUT.lower() in _text(entry).lower():
        return bool(
            labels.get("service_name") == worker.service
            and labels["revision_name"] != worker.revision
        )
    instance = (entry.labels or {}).get("instanceId")
    return labels["revision_name"] == worker.revision and (
        not worker.instance or instance in {None, worker.instance}
    )


def _cause(entry: Any) -> str | None:
    return next(
        (cause for cause, text in CAUSES if re.search(text, _text(entry), re.IGNORECASE)), None
    )


def _text(entry: Any) -> str:
    """A request that was cut off has a status, and not always a text."""
    if isinstance(entry.payload, str):
        return entry.payload
    if (entry.http_request or {}).get("status") == TIMED_OUT:
        return TIMEOUT_TEXT
    return ""


def _entries(project: str, text: str) -> Iterable[Any]:
    return client(project).list_entries(
        filter_=text, order_by="timestamp asc", page_size=MAX_LINES, max_results=MAX_LINES
    )


@lru_cache
def client(project: str) -> Any:
    """Made after the fork, once for a process. By HTTP: a gRPC channel is much for one question in
    a minute."""
    from google.cloud import logging_v2

    return logging_v2.Client(project=project, _use_grpc=False)  # type: ignore[no-untyped-call]
