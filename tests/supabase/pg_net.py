"""A stand-in for pg_net: its SQL (pg_net.sql), and its worker, which sends what is queued and keeps
the answers. pg_net itself is in no package that this machine could install."""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import psycopg
import requests

SQL = (Path(__file__).parent / "pg_net.sql").read_text(encoding="utf-8")
EXTENSION = "create extension if not exists pg_net;"
"""What the stand-in stands in the place of."""
TAKE = "delete from net.http_request_queue returning id, method, url, headers, body"
ANSWER = (
    "insert into net._http_response (id, status_code, timed_out, error_msg) values (%s, %s, %s, %s)"
)


class Call(NamedTuple):
    """What a receiver got."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes
    status: int


class Receiver:
    """A server on this machine that notes each call, and answers `status`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.calls.append(
                    Call(
                        time.monotonic(),
                        self.path,
                        dict(self.headers.items()),
                        content,
                        receiver.status,
                    )
                )
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def work(connection: psycopg.Connection[Any]) -> int:
    """Sends what is queued now, as one round of pg_net's worker does; returns how many."""
    requested = connection.execute(TAKE).fetchall()
    for number, method, url, headers, body in requested:
        status = error = None
        try:
            answer = requests.request(
                method, url, headers=headers, data=body and bytes(body), timeout=5
            )
            status = answer.status_code
        except requests.RequestException as problem:
            error = type(problem).__name__
        connection.execute(ANSWER, (number, status, False if status else None, error))
    return len(requested)


class Worker:
    """The background worker: looks into the queue again and again."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._over = dsn, Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._over.wait(0.2):
                work(connection)
