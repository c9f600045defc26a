"""A small image service on localhost that misbehaves when told to: for the demo and tests, never
deployed.

`python -m functions.ops.local.provider --port 8085` prints {"url": ...} and serves until it is
stopped. It has POST /v1/generations, GET /v1/generations/{id}, GET /images/{id}.png (a real PNG)
and GET /stats. All state is in memory for as long as the Provider object lives: a stop and a start
keep it.

Marks in the prompt say what goes wrong:

| mark                    | what happens                                                    |
|-------------------------|-----------------------------------------------------------------|
| [slow 2]                | the image is ready 2 seconds later                              |
| [refuse]                | the generation ends as "failed" (content policy)                |
| [500] or another status | 4xx or 5xx; 429 and 503 come with a Retry-After                 |
| [hang]                  | no answer until the client goes away or the provider stops      |
| [reset]                 | the connection is reset (RST)                                   |
| [garbage]               | 200 with a page of HTML; for the image, with half of the PNG    |

The last four strike the POST; [poll 500] strikes the polls and [image 500] the download. [500 once]
or [500 2] strike so many requests for each Idempotency-Key and then no more; several marks strike
in turn. A status strikes before the order is booked, so nothing is charged. Hang, reset and garbage
strike after it: the answer is lost, the money is gone, and only the Idempotency-Key saves the
client from paying twice."""

import argparse
import hashlib
import json
import math
import re
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self, cast

from functions.ops.local import samples

HOST = "127.0.0.1"
_MARK = re.compile(r"\[(?:(poll|image) )?(hang|reset|garbage|[45]\d\d)(?: (once|\d+))?\]")
_SLOW = re.compile(r"\[slow (\d+(?:\.\d+)?)\]")
_SIZE = re.compile(r"([1-9]\d{0,2}|1\d{3})x([1-9]\d{0,2}|1\d{3})")  # pixels, less than 2000


class Fault(NamedTuple):
    """What goes wrong (`hang`, `reset`, `garbage` or a status), at which step, how often for each
    key."""

    step: str
    name: str
    times: float


def faults(prompt: str) -> list[Fault]:
    """Returns the faults that the marks of `prompt` ask for, in their order."""
    often = {"": math.inf, "once": 1}
    marks = _MARK.findall(prompt)
    return [
        Fault(step or "submit", name, float(often.get(times, times))) for step, name, times in marks
    ]


@dataclass(frozen=True)
class Generation:
    """One order that was charged. `ready_at` is on the monotonic clock."""

    id: str
    key: str
    prompt: str
    width: int
    height: int
    ready_at: float

    @property
    def status(self) -> str:
        if time.monotonic() < self.ready_at:
            return "running"
        return "failed" if "[refuse]" in self.prompt else "succeeded"

    @cached_property
    def image(self) -> bytes:
        return samples.png(self.width, self.height, self.prompt)

    def described(self, base: str) -> dict[str, Any]:
        """Returns what a poll answers; `base` is the address of the service."""
        answer: dict[str, Any] = {"id": self.id, "status": self.status}
        if answer["status"] == "failed":
            answer["error"] = {
                "code": "content_policy",
                "message": "It is against the content policy.",
            }
        if answer["status"] == "succeeded":
            answer |= {
                "url": f"{base}/images/{self.id}.png",
                "width": self.width,
                "height": self.height,
            }
            answer["sha256"] = hashlib.sha256(self.image).hexdigest()
        return answer


class Book:
    """What was ordered and asked so far, by Idempotency-Key (orders without one are under "")."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.by_id: dict[str, Generation] = {}
        self._by_key: dict[str, Generation] = {}
        self._struck: Counter[tuple[str, Fault]] = Counter()
        self._counts = {step: Counter[str]() for step in ("generations", "submit", "poll", "image")}

    def strike(self, key: str, prompt: str, step: str) -> str:
        """Counts a request of `step`; returns the name of the fault that strikes it, or ""."""
        with self._lock:
            self._counts[step][key] += 1
            for fault in faults(prompt):
                if fault.step == step and self._struck[key, fault] < fault.times:
                    self._struck[key, fault] += 1
                    return fault.name
        return ""

    def order(self, key: str, prompt: str, sides: tuple[int, int], latency: float) -> Generation:
        """Returns the generation of `key`; charges a new one if there is none, or no key."""
        with self._lock:
            if key in self._by_key:
                return self._by_key[key]
            self._counts["generations"][key] += 1
            ready_at = time.monotonic() + latency + sum(map(float, _SLOW.findall(prompt)))
            generation = Generation(f"gen_{len(self.by_id) + 1}", key, prompt, *sides, ready_at)
            self.by_id[generation.id] = generation
            if key:
                self._by_key[key] = generation
            return generation

    def stats(self) -> dict[str, Any]:
        with self._lock:
            return {"total": len(self.by_id)} | {
                step: dict(count) for step, count in self._counts.items()
            }


class Provider:
    """The service. `latency` is the seconds until an image is ready, `retry_after` those of 429 and
    503."""

    def __init__(self, *, latency: float = 0.05, retry_after: int = 1) -> None:
        self.latency, self.retry_after, self.book = latency, retry_after, Book()
        self._server: _Server | None = None

    def start(self, port: int = 0) -> Self:
        """Serves on localhost from now on; port 0 takes a free one. Raises OSError if the port is
        taken."""
        self._server = _Server(port, self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stops serving and lets hanging requests go. Harmless if it does not serve."""
        server, self._server = self._server, None
        if server:
            server.stopping.set()
            server.shutdown()
            server.server_close()

    @property
    def port(self) -> int:
        if not self._server:
            raise RuntimeError("The provider does not serve. Call start() first.")
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def stats(self) -> dict[str, Any]:
        """Returns {"total": charged, "generations": {key: charged}, and a step: {key: requests} for
        each}."""
        return self.book.stats()

    def __enter__(self) -> Self:
        return self if self._server else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the demo sends bursts; the default is 5

    def __init__(self, port: int, provider: Provider) -> None:
        self.provider, self.stopping = provider, threading.Event()
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is nothing to report
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds for a client to send its request

    def setup(self) -> None:
        super().setup()
        self.owner = cast("_Server", self.server)
        self.book = self.owner.provider.book

    def do_POST(self) -> None:
        key, order = self.headers.get("Idempotency-Key", ""), self._order()
        if self.path != "/v1/generations":
            self._error(404, "There is no such address.")
        elif not order:
            self._error(422, "The order needs a prompt, and a size such as 512x512.")
        elif (fault := self.book.strike(key, order[0], "submit")).isdigit():
            self._error(int(fault), "The prompt asked for this fault.")
        else:
            generation = self.book.order(key, *order, self.owner.provider.latency)
            if order != (generation.prompt, (generation.width, generation.height)):
                self._error(422, "This Idempotency-Key was used for another order.")
            elif fault:
                self._break(fault)
            else:
                self._json(202, {"id": generation.id, "status": generation.status})

    def do_GET(self) -> None:
        place, _, name = self.path.removesuffix(".png").rpartition("/")
        step = {"/v1/generations": "poll", "/images": "image"}.get(place)
        generation = self.book.by_id.get(name)
        if self.path == "/stats":
            self._json(200, self.book.stats())
        elif not step or not generation:
            self._error(404, "There is no such address.")
        elif (fault := self.book.strike(generation.key, generation.prompt, step)).isdigit():
            self._error(int(fault), "The prompt asked for this fault.")
        elif fault:
            self._break(fault, generation.image if step == "image" else b"")
        elif step == "poll":
            self._json(200, generation.described(f"http://{HOST}:{self.owner.server_port}"))
        elif generation.status == "succeeded":
            self._write(200, "image/png", generation.image)
        else:
            self._error(404, "The image is not ready.")

    def _order(self) -> tuple[str, tuple[int, int]] | None:
        """Returns the prompt and the sides (pixels), or None if the body does not have them."""
        try:
            order = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            prompt, sides = order["prompt"], _SIZE.fullmatch(order["size"])
        except (ValueError, KeyError, TypeError):
            return None
        named = isinstance(prompt, str) and prompt.strip()
        return (prompt, (int(sides[1]), int(sides[2]))) if named and sides else None

    def _break(self, fault: str, image: bytes = b"") -> None:
        if fault == "hang":
            self._hang()
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # now, because the server's own shutdown() would send a FIN first
            self.connection.close()
        elif image:
            self._write(200, "image/png", image[: len(image) // 2])
        else:
            self._write(200, "text/html", b"<html><body>We will be back soon.</body></html>")

    def _hang(self) -> None:
        while not self.owner.stopping.wait(0.05):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return

    def _error(self, status: int, message: str) -> None:
        self._json(status, {"error": {"code": str(status), "message": message}})

    def _json(self, status: int, answer: dict[str, Any]) -> None:
        self._write(status, "application/json", json.dumps(answer).encode())

    def _write(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status in {429, 503}:
            self.send_header("Retry-After", str(self.owner.provider.retry_after))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing: the output belongs to the demo."""


def main(argv: list[str] | None = None) -> None:
    """Serves until interrupted. Exits with a message if the port cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m functions.ops.local.provider", description="a flaky image service"
    )
    parser.add_argument("--port", type=int, default=8085, help="0 takes a free one (default: 8085)")
    parser.add_argument(
        "--latency", type=float, default=0.05, help="seconds until an image is ready"
    )
    options = parser.parse_args(argv)
    try:
        provider = Provider(latency=options.latency).start(options.port)
    except OSError as exc:
        sys.exit(
            f"Port {options.port} cannot be used ({exc.strerror}). Choose another with --port."
        )
    print(json.dumps({"url": provider.url}), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        provider.stop()


if __name__ == "__main__":
    main()
