"""The gateway before PostgREST does what Supabase's does (its docker/volumes/api/kong.yml and the
docs of API keys): takes /rest/v1 away, wants a key it knows, and turns the new opaque keys into the
token of their role.

`python -m tests.supabase.gateway PORT UPSTREAM SECRET_KEY PUBLISHABLE_KEY SERVICE_JWT ANON_JWT`
serves until stdin ends."""

import http.client
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/rest/v1"
NOT_PASSED = {"host", "apikey", "connection", "content-length", "authorization"}


class Gateway(ThreadingHTTPServer):
    """`tokens`: the token of the role behind each key that is known."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, upstream: int, tokens: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream, self.tokens = upstream, tokens

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> "Gateway":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def handle_error(self, request, client_address) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    """One thread for each connection of a client, with one connection of its own to PostgREST."""

    server: Gateway
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # without: 46 ms for each answer, of a delayed ACK
    wbufsize = -1
    upstream: http.client.HTTPConnection | None = None

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("apikey")
        if not self.path.startswith(PREFIX + "/"):
            return self.answer(404, {"message": "no Route matched with those values"})
        if not key:
            return self.answer(
                401,
                {"message": "No API key found in request", "hint": "No `apikey` request header."},
            )
        if not (token := self.server.tokens.get(key)):
            return self.answer(
                401, {"message": "Invalid API key", "hint": "Double check your API key."}
            )
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED
        }
        said = self.headers.get("Authorization", "")
        headers["Authorization"] = said if said not in {"", f"Bearer {key}"} else f"Bearer {token}"
        try:
            self.pass_on(body, headers)
        except (OSError, http.client.HTTPException):
            if self.upstream:
                self.upstream.close()
            self.upstream = None
            self.answer(
                502, {"message": "An invalid response was received from the upstream server"}
            )

    def finish(self) -> None:
        super().finish()
        if self.upstream:
            self.upstream.close()

    def pass_on(self, body: bytes, headers: dict[str, str]) -> None:
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        self.upstream.request(self.command, self.path.removeprefix(PREFIX), body or None, headers)
        answer = self.upstream.getresponse()
        content = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        self.end(content)

    def answer(self, status: int, said: dict[str, str]) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.end(json.dumps(said).encode())

    def end(self, content: bytes) -> None:
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_PUT = serve  # noqa: N815


def main() -> None:
    port, upstream, secret, publishable, service, anon = sys.argv[1:]
    tokens = {secret: service, publishable: anon, service: service, anon: anon}
    Gateway(int(port), int(upstream), tokens).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
