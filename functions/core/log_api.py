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
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from functions.core.settings import settings

LOG = "unstuck"
WAITING = 1000
"""Lines that may wait to be sent; more are printed."""
BATCH = 100
FLUSH = 3.0
"""Seconds that the last lines may take at the end of the process: SIGTERM grants 10 s."""
QUIET = 60.0
"""Seconds between two words about a failure."""
_PLACES = {
    "severity": "severity",
    "logging.googleapis.com/trace": "trace",
    "logging.googleapis.com/spanId": "span_id",
    "logging.googleapis.com/trace_sampled": "trace_sampled",
    "logging.googleapis.com/labels": "labels",
    "logging.googleapis.com/sourceLocation": "source_location",
}
"""The special fields of a line, as the client calls them."""

Print = Callable[[Iterable[str]], None]
Failed = Callable[[int, str], str]
Line = tuple[str, datetime]
_senders: dict[int, "Sender"] = {}
_making = threading.Lock()


def send(lines: Iterable[str], instead: Print, failed: Failed) -> None:
    """Leaves the lines to this process's sender. `instead` prints those that it cannot take,
    `failed` makes a line of why."""
    with _making:  # after a fork the thread is the parent's: each process has its own
        sender = _senders.get(os.getpid())
        if sender is None:
            sender = _senders[os.getpid()] = Sender(instead, failed)
    sender.send(lines)


class Sender:
    def __init__(self, instead: Print, failed: Failed) -> None:
        self._waiting: queue.Queue[Line | None] = queue.Queue(WAITING)
        self._instead, self._failed, self._told = instead, failed, float("-inf")
        self._sending: list[Line] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def send(self, lines: Iterable[str]) -> None:
        now, left = datetime.now(UTC), []
        for line in lines:
            try:
                self._waiting.put_nowait((line, now))
            except queue.Full:
                left.append(line)
        self._instead(left)

    def close(self, limit: float = FLUSH) -> None:
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
        self._instead(line for line, _ in left)

    def _run(self) -> None:
        while not self._closing:
            self._sending = self._take()
            if self._sending:
                self._write()

    def _take(self) -> list[Line]:
        """Waits for a line, and takes what waits beside it."""
        found: list[Line] = []
        with contextlib.suppress(queue.Empty):
            while len(found) < BATCH:
                one = self._waiting.get(block=not found)
                if one is None:
                    self._closing = True
                    break
                found.append(one)
        return found

    def _write(self) -> None:
        try:
            batch = client().logger(LOG, resource=_resource()).batch()
            for line, at in self._sending:
                batch.log_struct(**_entry(line, at))
            batch.commit()
        except Exception as error:  # noqa: BLE001 - without credentials, network, rights: the lines are printed
            self._instead([*self._words(error), *(line for line, _ in self._sending)])
        self._sending = []

    def _words(self, error: Exception) -> list[str]:
        if time.monotonic() - self._told < QUIET:
            return []
        self._told = time.monotonic()
        return [self._failed(len(self._sending), f"{type(error).__name__}: {error}")]


def _entry(line: str, at: datetime) -> dict[str, Any]:
    """What the client's log_struct takes."""
    payload = json.loads(line)
    special = {name: payload.pop(place) for place, name in _PLACES.items() if place in payload}
    ours = {"transport": "api", "host": os.uname().nodename}
    return {
        "info": payload,
        "timestamp": at,
        "resource": _resource(),
        **special,
        "labels": ours | special.get("labels", {}),
    }


def _resource() -> Any:
    from google.cloud.logging_v2 import Resource

    service = settings().service
    labels = {
        "project_id": settings().project or "",
        "service_name": service,
        "revision_name": f"{service}-outside",
        "configuration_name": service,
        "location": "global",
    }
    return Resource(type="cloud_run_revision", labels=labels)


_clients: dict[int, Any] = {}


def client() -> Any:
    """By HTTP: a gRPC channel must not be there when a process forks."""
    from google.cloud import logging_v2

    if os.getpid() not in _clients:
        _clients[os.getpid()] = logging_v2.Client(project=settings().project, _use_grpc=False)  # type: ignore[no-untyped-call]
    return _clients[os.getpid()]
