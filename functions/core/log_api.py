"""log_api: log lines by Cloud Logging's own client, for workers outside Google Cloud
(LOG_TRANSPORT=api).

A thread sends them in batches, and whatever it cannot send is printed: nothing is lost without a
word, and the work waits for none of it. The lines count as those of a Cloud Run service
(K_SERVICE), so that the same metrics and alerts see them; the labels `transport` and `host` tell
where they come from."""

import atexit
import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from functions.core import events
from functions.core.settings import Settings

LOG_NAME = "unstuck"
WAITING_LINES = 1000
"""Lines that may wait to be sent; more are printed."""
BATCH_LINES = 100
FLUSH_SECONDS = 3.0
"""For the last lines, at the end of the process: SIGTERM grants 10 s."""
QUIET_SECONDS = 60.0
"""Between two lines that say that sending fails."""
_PLACES = {
    "severity": "severity",
    "logging.googleapis.com/trace": "trace",
    "logging.googleapis.com/spanId": "span_id",
    "logging.googleapis.com/trace_sampled": "trace_sampled",
    "logging.googleapis.com/labels": "labels",
    "logging.googleapis.com/sourceLocation": "source_location",
}
"""The special fields of a line, as the client calls them."""

Line = tuple[str, datetime]


class CloudLogging:
    """The writer of a process (events.write_by) and of those that it forks: a thread is not
    forked, so that each of them has a sender of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.senders: dict[int, Sender] = {}
        self._making = threading.Lock()

    def write(self, lines: Iterable[str]) -> None:
        with self._making:
            sender = self.senders.get(os.getpid())
            if sender is None:
                sender = self.senders[os.getpid()] = Sender(self._settings)
        sender.send(lines)


class Sender:
    def __init__(self, settings: Settings) -> None:
        self._waiting: queue.Queue[Line | None] = queue.Queue(WAITING_LINES)
        self._settings, self._failed_at = settings, float("-inf")
        self._sending: list[Line] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @cached_property
    def _client(self) -> Any:
        return client(self._settings)

    def send(self, lines: Iterable[str]) -> None:
        now, left = datetime.now(UTC), []
        for line in lines:
            try:
                self._waiting.put_nowait((line, now))
            except queue.Full:
                left.append(line)
        events.print_lines(left)

    def close(self, limit: float = FLUSH_SECONDS) -> None:
        """Sends what waits, in at most `limit` seconds, and prints the rest."""
        until = time.monotonic() + limit
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=limit)
        self._thread.join(max(0.0, until - time.monotonic()))
        self._closing = True  # what it has in hand is printed below: it takes no more
        left = list(self._sending)
        with contextlib.suppress(queue.Empty):
            while True:
                left += filter(None, [self._waiting.get_nowait()])
        events.print_lines(line for line, _ in left)

    def _run(self) -> None:
        while not self._closing:
            self._sending = self._take()
            if self._sending:
                self._write()

    def _take(self) -> list[Line]:
        """Waits for a line, and takes what waits beside it."""
        batch: list[Line] = []
        with contextlib.suppress(queue.Empty):
            while len(batch) < BATCH_LINES:
                line = self._waiting.get(block=not batch)
                if line is None:
                    self._closing = True
                    break
                batch.append(line)
        return batch

    def _write(self) -> None:
        try:
            resource = _resource(self._settings)
            batch = self._client.logger(LOG_NAME, resource=resource).batch()
            for line, at in self._sending:
                batch.log_struct(**_entry(line, at, resource))
            batch.commit()
        except Exception as error:  # noqa: BLE001 - no credentials, network or rights: printed
            events.print_lines([*self._failure(error), *(line for line, _ in self._sending)])
        self._sending = []

    def _failure(self, error: Exception) -> list[str]:
        """The line that says so, unless one did just before."""
        if time.monotonic() - self._failed_at < QUIET_SECONDS:
            return []
        self._failed_at = time.monotonic()
        text = f"{type(error).__name__}: {error}"
        return [events.LOG_FAILED.line({"count": len(self._sending), "error": text})]


def _entry(line: str, at: datetime, resource: Any) -> dict[str, Any]:
    """What the client's log_struct takes."""
    payload = json.loads(line)
    special = {name: payload.pop(place) for place, name in _PLACES.items() if place in payload}
    ours = {"transport": "api", "host": os.uname().nodename}
    return {
        "info": payload,
        "timestamp": at,
        "resource": resource,
        **special,
        "labels": ours | special.get("labels", {}),
    }


def _resource(settings: Settings) -> Any:
    from google.cloud.logging_v2 import Resource

    labels = {
        "project_id": settings.project or "",
        "service_name": settings.service,
        "revision_name": f"{settings.service}-outside",
        "configuration_name": settings.service,
        "location": "global",
    }
    return Resource(type="cloud_run_revision", labels=labels)


def client(settings: Settings) -> Any:
    """By HTTP: a gRPC channel must not be there when a process forks."""
    from google.cloud import logging_v2

    make: Any = logging_v2.Client  # it has no types
    return make(project=settings.project, _use_grpc=False)
