"""evidence: why a worker died that stopped without a word, as the platform's own log tells it.

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

MOST_TASKS = 50
MOST_LINES = 200
SLACK = 60.0
"""Seconds that the platform's line may lie before the last beat or after the end of the lease."""
_WORKER = re.compile(r"(?P<revision>(?P<service>[a-z][a-z0-9-]*)-\d{5}-[a-z]{3})@(?P<instance>\w+)")
_NO_INSTANCE = "localhost"
"""The host name of every instance of Cloud Run."""
_CAUSES = (
    ("out_of_memory", r"memory limit|out-of-memory event|using too much memory"),
    ("deadline", r"maximum request timeout"),
    ("shutdown", r"shutting down user disabled instance|reason: deployment_rollout"),
    ("crashed", r"container terminated on signal|container called exit\("),
)
"""What the platform writes (2026-08), the surest first: a signal and a new revision are what else
may be seen of it."""
_TEXTS = (
    "memory limit",
    "Out-of-memory event",
    "using too much memory",
    "maximum request timeout",
    "Shutting down user disabled instance",
    "Container terminated on signal",
    "Container called exit(",
)
_ROLLOUT = "Reason: DEPLOYMENT_ROLLOUT"


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
    """Returns how many attempts know more now. Raises what the client and the store raise."""
    tasks = [
        (watch, task, worker)
        for watch, task in dead_workers[:MOST_TASKS]
        if (worker := worker_of(task.worker))
    ]
    if not tasks:
        return 0
    now = datetime.now(UTC)
    window = SLACK + policy.lease + policy.beat
    begin = now - timedelta(seconds=max(task.late for _, task, _ in tasks) + window)
    entries = list(_entries(project, query([worker for _, _, worker in tasks], begin, now)))
    evidence = []
    for watch, task, worker in tasks:
        ended = now - timedelta(seconds=task.late)
        span = ended - timedelta(seconds=window), ended + timedelta(seconds=SLACK)
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
    texts = " OR ".join(f'textPayload:"{text}"' for text in _TEXTS)
    return (
        f'resource.type="cloud_run_revision" AND timestamp>="{begin.isoformat()}" AND timestamp<="{end.isoformat()}" AND ('
        f"(resource.labels.revision_name=({_any(one.revision for one in workers)}) AND ({texts} OR httpRequest.status=504)) OR "
        f'(resource.labels.service_name=({_any(one.service for one in workers)}) AND textPayload:"{_ROLLOUT}"))'
    )


def _any(names: Iterable[str]) -> str:
    return " OR ".join(f'"{name}"' for name in sorted(set(names)))


def verdict(
    entries: Iterable[Any], worker: Worker, span: tuple[datetime, datetime]
) -> tuple[str, str] | None:
    """The surest cause among the lines that concern this worker in that time, and the line itself."""
    found: dict[str, Any] = {}
    for entry in entries:
        if (
            _concerns(entry, worker)
            and span[0] <= entry.timestamp <= span[1]
            and (cause := _cause(entry))
        ):
            found.setdefault(cause, entry)
    for cause, _ in _CAUSES:
        if cause in found:
            said, at = (
                " ".join(_text(found[cause]).split())[:300],
                found[cause].timestamp.astimezone(UTC),
            )
            return cause, f"Cloud Run's log at {at:%H:%M:%S} UTC: {said}"
    return None


def _concerns(entry: Any, worker: Worker) -> bool:
    """A new revision is started beside the old one. Else it must be this instance, where the line
    names one."""
    labels = entry.resource.labels
    if _ROLLOUT.lower() in _text(entry).lower():
        return bool(
            labels["service_name"] == worker.service and labels["revision_name"] != worker.revision
        )
    instance = (entry.labels or {}).get("instanceId")
    return labels["revision_name"] == worker.revision and (
        not worker.instance or instance in {None, worker.instance}
    )


def _cause(entry: Any) -> str | None:
    return next(
        (cause for cause, text in _CAUSES if re.search(text, _text(entry), re.IGNORECASE)), None
    )


def _text(entry: Any) -> str:
    """A request that was cut off has a status, and not always a text."""
    if isinstance(entry.payload, str):
        return entry.payload
    status = (entry.http_request or {}).get("status")
    return (
        "The request has been terminated because it has reached the maximum request timeout."
        if status == 504
        else ""
    )


def _entries(project: str, text: str) -> Iterable[Any]:
    return client(project).list_entries(
        filter_=text, order_by="timestamp asc", page_size=MOST_LINES, max_results=MOST_LINES
    )


@lru_cache
def client(project: str) -> Any:
    """Made after the fork. By HTTP: a gRPC channel is much for one question in a minute."""
    from google.cloud import logging_v2

    return logging_v2.Client(project=project, _use_grpc=False)  # type: ignore[no-untyped-call]
