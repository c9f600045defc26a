"""The local queue: what Cloud Tasks is in the cloud. Takes a push at once, hands it to a worker
that is free, and delivers again, a few times, what was not answered by 2xx. One that nothing could
be started for (a limit, a pause) comes back until something can. Each worker is given one push at a
time."""

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import requests

from functions.ops.postgres.embedded import free_port

OK, HELD = 200, 409
MAX_DELIVERIES = 4
FIRST_WAIT_SECONDS = 0.5
"""Before the second delivery; each later one waits twice as long."""
RETURN_SECONDS = 1.0
"""After which a push comes back that nothing could be started for, whatever the worker asks for."""


class LocalQueue:
    """`loses(push)` says which pushes are lost on the way, for the demo and the tests."""

    def __init__(
        self,
        workers: Sequence[str],
        *,
        timeout: float = 60.0,
        loses: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self._waiting: queue.SimpleQueue[tuple[dict[str, Any], int]] = queue.SimpleQueue()
        self._workers, self._timeout, self._loses = workers, timeout, loses
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), _handler(self))
        self._server.daemon_threads = True
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, push: dict[str, Any], delivery: int = 1) -> None:
        if not self._loses(push):
            self._waiting.put((push, delivery))

    def _serve(self, worker: str) -> None:
        while not self._stopped.is_set():
            try:
                push, delivery = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            status = self._deliver(worker, push)
            if status == HELD:
                self._later(RETURN_SECONDS, push, delivery)
            elif status != OK and delivery < MAX_DELIVERIES:
                self._later(FIRST_WAIT_SECONDS * 2 ** (delivery - 1), push, delivery + 1)

    def _later(self, seconds: float, push: dict[str, Any], delivery: int) -> None:
        timer = threading.Timer(seconds, self.put, (push, delivery))
        timer.daemon = True
        timer.start()

    def _deliver(self, worker: str, push: dict[str, Any]) -> int | None:
        """The status of the worker's answer; None without one."""
        try:
            return requests.post(worker, json=push, timeout=self._timeout).status_code
        except requests.RequestException:
            time.sleep(0.1)  # the worker is starting again: let another one take the next push
            return None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        for worker in self._workers:
            threading.Thread(target=self._serve, args=(worker,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(owner: LocalQueue) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            owner.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
