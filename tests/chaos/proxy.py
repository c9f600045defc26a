"""A proxy with bad weather, between the servers and their database. `python -m tests.chaos.proxy`
serves until stdin ends, in a process of its own, so that it has time for each byte.

It reads its orders from stdin, one JSON object a line: {"routes", "fault", "seconds", "share"}. A
route is the way of one server; `Proxy` starts it and gives the orders."""

import asyncio
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from functions.ops.postgres.embedded import free_port

FAULTS = ("cut", "refuse", "delay", "blackhole", "lose", "halve", "error_before", "error_after")
"""cut: all connections, once. refuse: they are cut, and new ones too, meanwhile. lose: what is
asked is done, and the answer is lost. halve: half of a message arrives. error_before, error_after:
a pooler answers with an error of its own, and what was asked is not done, or is."""
POOLERS_ERRORS = [
    ("XX000", "the pooler lost its connection to the server"),
    ("08P01", "server conn crashed?"),
    ("58000", "server login has been failing, try again later"),
    ("53300", "Max client connections reached"),
    ("57P01", "terminating connection due to administrator command"),
    ("26000", 'prepared statement "s1" does not exist'),
    ("25006", "cannot execute UPDATE in a read-only transaction"),
]
GATEWAYS_ERRORS = [
    (502, {"message": "An invalid response was received from the upstream server"}),
    (503, {"code": "PGRST002", "message": "Could not query the database for the schema cache."}),
    (503, {"code": "PGRST000", "message": "Database connection error."}),
    (504, {"code": "PGRST003", "message": "Timed out acquiring connection from the pool."}),
    (500, {"code": "XX000", "message": "the pooler lost its connection to the server"}),
    (405, {"code": "25006", "message": "cannot execute UPDATE in a read-only transaction"}),
    (429, {"message": "Too many requests"}),
]
LEAST_BYTES = 40
"""Of a message that asks for something; what is shorter belongs to the protocol."""


@dataclass
class Route:
    upstream: int
    is_http: bool
    until: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    pairs: set["Pair"] = field(default_factory=set)

    def has(self, fault: str) -> bool:
        """Drawn anew each time."""
        if time.monotonic() >= self.until.get(fault, 0.0):
            return False
        return random.random() < self.share[fault]

    async def wait(self) -> None:
        while self.has("blackhole"):  # noqa: ASYNC110 - its end is a time, not an event
            await asyncio.sleep(0.02)
        if self.has("delay"):
            await asyncio.sleep(random.uniform(0.05, 0.6))

    def order(self, fault: str, seconds: float, share: float) -> None:
        self.until[fault], self.share[fault] = time.monotonic() + seconds, share
        if fault in {"cut", "refuse"}:
            for pair in list(self.pairs):
                pair.cut()


class Pair:
    """A connection of a client, and the one to the server behind it."""

    def __init__(self, route: Route, *streams: Any) -> None:
        self._route = route
        self._from_client, self._to_client, self._from_server, self._to_server = streams
        self._answer: bytes | None = None
        """What the client gets in place of the next answer, before it is cut."""

    def cut(self) -> None:
        for writer in (self._to_client, self._to_server):
            reset(writer)

    async def serve(self) -> None:
        ways = [asyncio.create_task(self._ask()), asyncio.create_task(self._tell())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await way
        for writer in (self._to_client, self._to_server):
            writer.close()

    async def _ask(self) -> None:
        route = self._route
        while data := await self._from_client.read(65536):
            await route.wait()
            if len(data) >= LEAST_BYTES:
                if route.has("error_before"):
                    await self._end_with(error(is_http=route.is_http))
                    return
                if route.has("halve"):
                    self._to_server.write(data[: len(data) // 2])
                    await self._to_server.drain()
                    self.cut()
                    return
                if route.has("lose"):
                    self._answer = b""
                elif route.has("error_after"):
                    self._answer = error(is_http=route.is_http)
            self._to_server.write(data)
            await self._to_server.drain()

    async def _tell(self) -> None:
        while data := await self._from_server.read(65536):
            if self._answer is not None:
                await self._end_with(self._answer)
                return
            await self._route.wait()
            self._to_client.write(data)
            await self._to_client.drain()

    async def _end_with(self, answer: bytes) -> None:
        if not answer:
            self.cut()
            return
        self._to_client.write(answer)
        await self._to_client.drain()
        self._to_client.close()


def error(*, is_http: bool) -> bytes:
    if is_http:
        status, body = random.choice(GATEWAYS_ERRORS)
        text = json.dumps(body)
        head = f"HTTP/1.1 {status} Weather\r\nContent-Type: application/json\r\n"
        return f"{head}Connection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
    code, message = random.choice(POOLERS_ERRORS)
    fields = [b"SFATAL", b"VFATAL", b"C" + code.encode(), b"M" + message.encode()]
    body = b"".join(one_field + b"\0" for one_field in fields) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


def reset(writer: asyncio.StreamWriter) -> None:
    """The connection is cut so that the other side hears of it at once."""
    with suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def serve(routes: dict[str, tuple[int, int, bool]]) -> None:
    """`routes`: port, port of the server, and whether they speak HTTP, by name."""
    served = {name: Route(upstream, is_http) for name, (_, upstream, is_http) in routes.items()}

    def accept(route: Route) -> Any:
        async def connect(from_client: Any, to_client: Any) -> None:
            await route.wait()
            try:
                if route.has("refuse"):
                    raise ConnectionError
                from_server, to_server = await asyncio.open_connection("127.0.0.1", route.upstream)
            except OSError:
                reset(to_client)
                return
            pair = Pair(route, from_client, to_client, from_server, to_server)
            route.pairs.add(pair)
            with suppress(OSError):
                await pair.serve()
            route.pairs.discard(pair)

        return connect

    for name, (port, _, _) in routes.items():
        await asyncio.start_server(accept(served[name]), "127.0.0.1", port, backlog=256)
    print("ready", flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        order = json.loads(line)
        for name in order["routes"]:
            served[name].order(order["fault"], order["seconds"], order["share"])
    os._exit(0)  # with all connections as they are


class Proxy:
    """The proxy's process. `ports` are those that the servers are to use, by route."""

    def __init__(self, routes: Iterable[str], upstream: int, *, is_http: bool = False) -> None:
        self.ports = {name: free_port() for name in routes}
        table = {name: (port, upstream, is_http) for name, port in self.ports.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", json.dumps(table)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(
        self, routes: list[str], fault: str, seconds: float = 0.0, share: float = 1.0
    ) -> None:
        assert self._process.stdin
        order = {"routes": routes, "fault": fault, "seconds": seconds, "share": share}
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()

    def clear(self) -> None:
        for fault in FAULTS[1:]:
            self.order(list(self.ports), fault)

    def __enter__(self) -> Self:
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()
        self._process.wait(10)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
