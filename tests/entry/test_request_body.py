"""A body is received within a size and a time, before anything is done for it, whoever sends it."""

import io
import json
import socket
import threading
import time
import tracemalloc

import pytest
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader

from functions.entry import request_body
from functions.entry.request_body import MAX_BODY_BYTES
from functions.ops.local.servers import Server
from tests.entry.steps import METHODS, error_code

CHUNKED = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}


class Endless(io.RawIOBase):
    """A body that never ends."""

    def readable(self):
        return True

    def tell(self):
        return 0

    def seek(self, *_):
        return 0

    def readinto(self, buffer):
        buffer[:] = b"x" * len(buffer)
        return len(buffer)


@pytest.fixture
def short_time(monkeypatch):
    monkeypatch.setattr(request_body, "TIME_SECONDS", 0.3)


@pytest.fixture
def grown():
    """How many bytes of memory Python has taken since, at most."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.fixture
def connection():
    """A connection, as gunicorn reads a body of 1,000 bytes from it: the sender's end, and the
    WSGI environment."""
    theirs, ours = socket.socketpair()
    body = Body(LengthReader(SocketUnreader(ours), 1000))
    with theirs, ours:
        yield theirs, {"gunicorn.socket": ours, "wsgi.input": body, "CONTENT_LENGTH": "1000"}


@pytest.mark.parametrize("target", METHODS)
def test_a_body_without_end_fills_no_memory_whether_or_not_its_sender_may_call(
    api, target, short_time, grown
):
    answer = api.ask(target, "/?task_id=x", input_stream=Endless(), environ_overrides=CHUNKED)
    assert answer.status_code == 401
    assert grown() < 10 * MAX_BODY_BYTES


def test_an_event_whose_body_has_no_end_fills_no_memory(api, short_time, grown):
    answer = api.client("worker_event").post(
        "/",
        input_stream=Endless(),
        environ_overrides=CHUNKED,
        content_type="application/json",
        headers={"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"},
    )
    assert answer.status_code < 500
    assert grown() < 10 * MAX_BODY_BYTES


@pytest.mark.parametrize(("write", "status"), [("", 403), ("on", 413)])
def test_a_form_without_end_fills_no_memory_of_the_page(
    http, monkeypatch, short_time, grown, write, status
):
    if write:
        monkeypatch.setenv("PAGE_WRITE", write)
    http.restart()
    answer = http.client("page").post(
        "/act",
        input_stream=Endless(),
        environ_overrides=CHUNKED,
        content_type="application/x-www-form-urlencoded",
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status_code == status
    assert grown() < 20 * MAX_BODY_BYTES


def test_who_sends_too_much_hears_why(http):
    answer = http.ask("create_task", data=b" " * (3 * MAX_BODY_BYTES))
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


def test_a_body_whose_bytes_come_one_by_one_is_given_up_in_time(connection, short_time):
    """A time limit for each byte would wait for each of them."""
    sender, environ = connection
    ended = threading.Event()

    def drip():
        while not ended.wait(0.02):
            sender.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    started = time.monotonic()
    try:
        request_body.receive(environ)
    finally:
        ended.set()
        dripping.join()
    assert 0.3 <= time.monotonic() - started < 5
    problem = request_body.problem(environ)
    assert (problem.status, problem.code) == (408, "too_slow")
    assert environ["wsgi.input"].read() == b""


def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(connection):
    sender, environ = connection
    sender.send(b'{"kind": "returns"}')
    sender.close()
    request_body.receive(environ)
    assert request_body.problem(environ).status == 400


def test_a_body_that_comes_is_whole_and_is_received_once(connection):
    sender, environ = connection
    text = json.dumps({"text": "x" * 988}).encode()[:1000].ljust(1000)
    threading.Thread(target=sender.sendall, args=(text,)).start()
    for _ in range(2):
        request_body.receive(environ)
    assert request_body.problem(environ) is None
    assert environ["wsgi.input"].read() == text


def test_bodies_that_do_not_come_keep_nobody_waiting_for_long(postgres, template, tmp_path):
    """As many as there are threads, at a real server."""
    threads = 4
    variables = {"DATABASE_URL": postgres.dsn(template), "THREADS": str(threads), "USERS": "none"}
    with Server("create_task", variables, log=tmp_path / "log") as server:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n{"
        slow = []
        for _ in range(threads):
            sender = socket.create_connection(("127.0.0.1", server.port))
            sender.sendall(head)
            slow.append(sender)
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.settimeout(request_body.TIME_SECONDS + 10)
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 405")
        for sender in slow:
            sender.settimeout(10)
            assert sender.recv(100).startswith(b"HTTP/1.1 408")
            sender.close()
