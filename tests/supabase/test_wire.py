"""What the store makes of answers that the real server cannot be made to give: at the wire, by
respx; and of a server that is slow, or cuts what it says, by a socket."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
import respx

from functions.core.answers import Held
from functions.core.policy import load
from functions.errors import StoreError
from functions.store.supabase import SupabaseStore

URL = "https://ref.supabase.co"
BEAT = f"{URL}/rest/v1/rpc/unstuck_beat"
HELD = {"verdict": "held"}
PAGE = "<html><title>502 Bad Gateway</title></html>"
GRACE = 1.0
PASSING = {
    "an idle connection that was closed": httpx.RemoteProtocolError(
        "Server disconnected without sending a response."
    ),
    "a refused connection": httpx.ConnectError("refused"),
    "a broken connection": httpx.ReadError("reset by peer"),
    "a time limit": httpx.ReadTimeout("slow"),
    "a page of the gateway": httpx.Response(502, text=PAGE, headers={"Content-Type": "text/html"}),
    "a page in the place of an answer": httpx.Response(200, text=PAGE),
    "a gateway without its upstream": httpx.Response(
        502, json={"message": "An invalid response was received"}
    ),
    "too many requests": httpx.Response(429, json={"message": "API rate limit exceeded"}),
    "no connection in the pool": httpx.Response(
        504, json={"code": "PGRST003", "message": "Timed out acquiring connection"}
    ),
    "no database": httpx.Response(
        503, json={"code": "PGRST000", "message": "Could not connect with the database"}
    ),
    "no schema yet": httpx.Response(
        503, json={"code": "PGRST002", "message": "Could not query the database"}
    ),
    "a statement that took too long": httpx.Response(
        500, json={"code": "57014", "message": "canceling statement"}
    ),
    "a lock that took too long": httpx.Response(
        500, json={"code": "55P03", "message": "lock timeout"}
    ),
    "a deadlock": httpx.Response(500, json={"code": "40P01", "message": "deadlock detected"}),
    "a database that ends": httpx.Response(
        503, json={"code": "57P01", "message": "terminating connection"}
    ),
    "an internal error, as poolers report their own": httpx.Response(
        500, json={"code": "XX000", "message": "connection to the database was lost"}
    ),
    "cloudflare": httpx.Response(520, text="error code: 520"),
}
FOR_GOOD = {
    "a key that is refused": (
        httpx.Response(401, json={"message": "Invalid API key"}),
        "secret key of this very project",
    ),
    "an expired key": (
        httpx.Response(401, json={"code": "PGRST301", "message": "JWT expired"}),
        "secret key",
    ),
    "an expired key, of later": (
        httpx.Response(401, json={"code": "PGRST303", "message": "JWT expired"}),
        "secret key",
    ),
    "a missing right": (
        httpx.Response(403, json={"code": "42501", "message": "denied"}),
        "you grant to service_role",
    ),
    "a missing table": (
        httpx.Response(404, json={"code": "42P01", "message": "no relation"}),
        "sql --supabase",
    ),
    "a wrong argument": (
        httpx.Response(400, json={"code": "22P02", "message": "invalid input"}),
        "invalid input",
    ),
    "a raised error": (
        httpx.Response(400, json={"code": "P0001", "message": "the hook refuses"}),
        "the hook refuses",
    ),
    "a body that is too large": (httpx.Response(413, text="Payload Too Large"), "Too Large"),
}


@pytest.fixture
def store() -> Iterator[SupabaseStore]:
    made = SupabaseStore(URL, "sb_secret_x")
    yield made
    made.close()


def beat(store: SupabaseStore, limit: float = 5.0) -> object:
    return store.beat(load().watch(), str(uuid4()), str(uuid4()), timeout=limit)


@pytest.mark.parametrize("what", PASSING)
def test_a_passing_fault_is_outlived(store, what):
    with respx.mock:
        asked = respx.post(BEAT).mock(side_effect=[PASSING[what], httpx.Response(200, json=HELD)])
        assert beat(store) == Held()
        assert asked.call_count == 2


@pytest.mark.parametrize("what", FOR_GOOD)
def test_what_will_not_pass_is_said_at_once_with_the_next_step(store, what):
    answer, words = FOR_GOOD[what]
    with respx.mock:
        asked = respx.post(BEAT).mock(return_value=answer)
        with pytest.raises(StoreError, match=words) as refused:
            beat(store)
    assert not refused.value.retryable
    assert asked.call_count == 1


def test_a_fault_that_does_not_pass_is_said_within_the_limit(store):
    with respx.mock:
        respx.post(BEAT).mock(side_effect=httpx.ConnectError("refused"))
        begun = time.monotonic()
        with pytest.raises(StoreError) as refused:
            beat(store, 0.4)
    assert refused.value.retryable
    assert time.monotonic() - begun < 0.4 + GRACE


def test_our_own_schema_is_looked_into_when_public_has_no_such_function(store):
    missing = httpx.Response(
        404, json={"code": "PGRST202", "message": "Could not find the function"}
    )
    with respx.mock:
        public = respx.post(BEAT).mock(return_value=missing)
        own = respx.post(f"{URL}/rest/v1/rpc/beat", headers={"Content-Profile": "unstuck"}).respond(
            json=HELD
        )
        assert [beat(store), beat(store)] == [Held(), Held()]
        assert (public.call_count, own.call_count) == (1, 2)


def test_a_project_without_our_functions_says_how_to_install_them(store):
    missing = httpx.Response(
        404, json={"code": "PGRST202", "message": "Could not find the function"}
    )
    hidden = httpx.Response(
        406, json={"code": "PGRST106", "message": "The schema must be one of the following: public"}
    )
    with respx.mock:
        respx.post(BEAT).mock(return_value=missing)
        respx.post(f"{URL}/rest/v1/rpc/beat").mock(return_value=hidden)
        for _ in range(2):
            with pytest.raises(
                StoreError, match=r"unstuck_beat|Could not find.*unstuck sql --supabase"
            ) as refused:
                beat(store)
            assert not refused.value.retryable


def test_the_key_stands_in_no_error_and_the_user_agent_is_no_browsers(store):
    with respx.mock:
        asked = respx.post(BEAT).mock(
            return_value=httpx.Response(401, json={"message": "Invalid API key"})
        )
        with pytest.raises(StoreError) as refused:
            beat(store)
    assert "sb_secret_x" not in str(refused.value)
    sent = asked.calls.last.request.headers
    assert sent["apikey"] == "sb_secret_x"
    assert sent["authorization"] == "Bearer sb_secret_x"
    assert "mozilla" not in sent["user-agent"].lower()


@contextmanager
def server(*steps: bytes, pause: float = 0.0) -> Iterator[str]:
    """Says the steps to whoever comes, with a pause before each, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    for step in steps:
                        stopped.wait(pause)
                        try:
                            connection.sendall(step)
                        except OSError:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stopped.set()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@contextmanager
def addresses_that_hang(count: int) -> Iterator[str]:
    """A host of so many addresses whose servers take no connection: their queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(2)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * count)
            yield f"http://many.example:{port}"
        for client in waiting:
            client.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_limit_holds_for_all_addresses_of_the_host_together(count):
    with addresses_that_hang(count) as url:
        store = SupabaseStore(url, "sb_secret_x")
        with pytest.raises(StoreError):
            beat(store, 0.2)  # the first one loads the client
        begun = time.monotonic()
        with pytest.raises(StoreError) as refused:
            beat(store, 1.0)
        assert refused.value.retryable
        assert time.monotonic() - begun < 1.0 + GRACE
        store.close()


def test_a_host_whose_name_is_not_resolved_in_time_ends_with_the_limit(monkeypatch):
    store = SupabaseStore("https://many.example", "sb_secret_x")
    with pytest.raises(StoreError):
        beat(store, 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    begun = time.monotonic()
    with pytest.raises(StoreError) as refused:
        beat(store, 0.5)
    assert refused.value.retryable
    assert time.monotonic() - begun < 0.5 + GRACE
    store.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"


@pytest.mark.parametrize(
    ("steps", "pause"),
    [((), 5.0), ((HEAD,), 5.0), ((HEAD, b'{"verdict"'), 0.0), ([HEAD, *[b" "] * 19], 0.1)],
    ids=["silent", "silent after its head", "cut in the middle", "dribbling"],
)
def test_a_call_ends_at_its_limit_whatever_the_server_does(steps, pause):
    with server(*steps, pause=pause) as url:
        store = SupabaseStore(url, "sb_secret_x")
        begun = time.monotonic()
        with pytest.raises(StoreError) as refused:
            beat(store, 0.5)
        assert refused.value.retryable
        assert time.monotonic() - begun < 0.5 + GRACE
        store.close()
