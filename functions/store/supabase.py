"""The store by Supabase's REST API: each verb is an rpc of the SQL function that the other store
calls as well.

Of the supabase client it takes the one for the database (postgrest): to load those for users,
files, functions and messages too takes 1.7 times the CPU at a cold start.

One client for each process, made after a fork. HTTP/1.1: over HTTP/2 a beat would wait for the
answer that another thread is reading, however short its own limit. A call that was given up may
still be done by the server."""

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any

import httpx
from postgrest._sync.client import SyncPostgrestClient
from postgrest.exceptions import APIError

from functions.core.policy import Json
from functions.core.sqlstates import CLASSES, Meaning, meaning_of
from functions.errors import StoreError
from functions.store.limit import within
from functions.store.supabase_key import check_key, check_url
from functions.store.verbs import Store

IDLE_SECONDS = 15.0
"""An idle connection is kept so long: longer than between two heartbeats, shorter than any gateway
keeps it."""
OK = 200
NO_JSON = "22032"
"""PostgreSQL's code for a text that is no JSON, where the client finds it already."""
ABSENT_CODES = {"PGRST202", "PGRST106", "42883", "3F000", "42P01", "PGRST205"}
"""The codes for a function, a schema or a table that is not there, or not exposed."""
INSTALL_HINT = (
    " Put the output of `unstuck sql --supabase` into supabase/migrations/ and push it "
    "first (or run `unstuck migrate --supabase --apply`)."
)
GRANT_HINT = (
    " The service role lacks that right. What is ours is granted by "
    "`unstuck sql --supabase`; what is yours (a hook, a table it writes) you grant to "
    "service_role."
)
KEY_HINT = (
    " SUPABASE_KEY was refused: take a secret key of this very project (Dashboard, Project "
    "Settings, API Keys)."
)


class _Left(dict[str, float]):
    """The time limits of a request for httpx. Each of its phases asks, and gets what is left for
    all of them. What it gets to connect counts for each address of the host, and once more for the
    encryption, so that is a share."""

    def __init__(self, until: float, request: httpx.Request) -> None:
        super().__init__()
        self._until, self._request = until, request

    def get(self, phase: str, default: Any = None) -> Any:  # noqa: ARG002
        shares = self._count_addresses() + 1 if phase == "connect" else 1
        return max(0.001, self._left() / shares)

    def _left(self) -> float:
        return self._until - time.monotonic()

    def _count_addresses(self) -> int:
        host, port = self._request.url.host, self._request.url.port or 443
        find = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            return len(within(self._left(), find))
        except TimeoutError:
            text = "no address of the host was found"
            raise httpx.ConnectTimeout(text, request=self._request) from None
        except OSError:
            return 1


class _Transport(httpx.HTTPTransport):
    """Ends a request at `until`, and notes its answer, which the client's errors do not tell."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS))
        self.until: ContextVar[float] = ContextVar("until")
        self.status: ContextVar[int] = ContextVar("status")
        self.answer: ContextVar[httpx.Response] = ContextVar("answer")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until = self.until.get()
        request.extensions["timeout"] = _Left(until, request)
        answer = super().handle_request(request)
        self.status.set(answer.status_code)
        assert isinstance(answer.stream, httpx.SyncByteStream)
        try:
            body = b"".join(_within(answer.stream, until, request))
        finally:
            answer.close()
        whole = httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(body)
        )
        self.answer.set(whole)
        return whole


def _within(chunks: Iterable[bytes], until: float, request: httpx.Request) -> Iterator[bytes]:
    for chunk in chunks:
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the answer dribbles", request=request)
        yield chunk


class SupabaseStore(Store):
    def __init__(self, url: str, key: str) -> None:
        """Raises StoreError, with the next step, for a key that cannot do the work or a URL that is
        none."""
        self._url, self._key = check_url(url), check_key(key)
        self._exposed = "public"
        self._making = Lock()
        self._made: dict[int, tuple[SyncPostgrestClient, _Transport]] = {}

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        try:
            return self._rpc(function, arguments, timeout)
        except StoreError as error:
            if error.code != "PGRST202" or self._exposed != "public":
                raise
            missing = error
        self._exposed = "unstuck"  # perhaps our own schema is exposed
        try:
            return self._rpc(function, arguments, timeout)
        except StoreError as error:
            if error.code not in {"PGRST106", "PGRST202"}:
                raise
            self._exposed = "public"
            raise missing from None

    def close(self) -> None:
        """What a parent opened before a fork is the parent's, to use and to close."""
        _, transport = self._made.pop(os.getpid(), (None, None))
        if transport:
            transport.close()

    def _rpc(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        client, transport = self._client()
        transport.until.set(time.monotonic() + timeout)
        transport.status.set(0)
        try:
            values = {
                name: json.loads(value) if isinstance(value, Json) else value
                for name, value in arguments.items()
            }
            if self._exposed == "public":
                answer = client.rpc(f"unstuck_{function}", values).execute().data
            else:
                answer = client.schema(self._exposed).rpc(function, values).execute().data
        except APIError as error:
            raise _explain(function, error, transport.status.get()) from None
        except httpx.TimeoutException:
            raise StoreError(
                f"{function}: no answer within {timeout:.1f} s", retryable=True
            ) from None
        except httpx.HTTPError as error:
            passing = not isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
            # httpx may quote the key or the URL
            text = f"{function}: SUPABASE_URL does not answer ({type(error).__name__})"
            raise StoreError(text, retryable=passing) from None
        except (ValueError, RecursionError) as error:
            kind = type(error).__name__
            if transport.status.get():
                if transport.status.get() == OK:
                    from functions.store import deep

                    with suppress(ValueError):
                        return deep.loads(transport.answer.get().text)
                text = f"{function}: the answer is not JSON ({kind})"
                raise StoreError(text, retryable=True) from None
            # What is to be sent is none: half of a surrogate pair, not a number.
            text = f"{function}: a value cannot be sent ({kind})"
            raise StoreError(text, retryable=False, code=NO_JSON) from None
        if isinstance(answer, str):  # no verb answers a text: it is a page of something between
            raise StoreError(f"{function}: the answer is not JSON: {answer[:80]!r}", retryable=True)
        return answer

    def _client(self) -> tuple[SyncPostgrestClient, _Transport]:
        """One for each process."""
        with self._making:
            if os.getpid() not in self._made:
                transport = _Transport()
                client = SyncPostgrestClient(
                    f"{self._url}/rest/v1",
                    headers={"apiKey": self._key, "Authorization": f"Bearer {self._key}"},
                    http_client=httpx.Client(transport=transport),
                    retry_enabled=False,
                )
                self._made[os.getpid()] = client, transport
            return self._made[os.getpid()]


def _explain(function: str, error: APIError, status: int) -> StoreError:
    code = _code(error.code or "", status)
    text = " ".join((error.message or f"status {status}").split())
    hint = ""
    if code in ABSENT_CODES:
        hint = INSTALL_HINT
    elif code == "42501":
        hint = GRANT_HINT
    elif status in {401, 403} and not _is_of_the_database(code):
        hint = KEY_HINT
    passing = meaning_of(code) is Meaning.WEATHER
    return StoreError(f"{function}: {text}{hint}", retryable=passing, code=code)


def _code(code: str, status: int) -> str:
    """PostgREST's code, or the status where a gateway answered: its body may have any code."""
    is_named = _is_of_the_database(code) or code.startswith(("PGRST", "PT"))
    by_a_hook = len(code) == 5 and status == 400
    return code if is_named or by_a_hook else str(status)


def _is_of_the_database(code: str) -> bool:
    return len(code) == 5 and code[:2] in CLASSES
