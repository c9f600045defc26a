"""Who a worker is in the ledger: on Cloud Run its revision and the id of its instance, asked of the
metadata server once."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from functions.entry.app import App


class Metadata(ThreadingHTTPServer):
    said, asked = "00f1a2b3c4", 0


class Answer(BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        self.server.asked += 1
        known = (
            self.path == "/computeMetadata/v1/instance/id"
            and self.headers["Metadata-Flavor"] == "Google"
        )
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(self.server.said.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def on_cloud_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K_REVISION", "worker-00007-abc")


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    server = Metadata(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_address[1]}")
    yield server
    server.shutdown()
    server.server_close()


def test_on_cloud_run_it_is_the_revision_and_the_instance(metadata: Metadata) -> None:
    app = App()
    assert [app.worker for _ in range(3)] == ["worker-00007-abc@00f1a2b3c4"] * 3
    assert metadata.asked == 1


@pytest.mark.parametrize("said", ["", "<html>", "a b", "ä"])
def test_an_answer_that_is_no_id_is_none(said: str, metadata: Metadata) -> None:
    metadata.said = said
    assert App().worker == App().settings.instance


def test_a_metadata_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert App().worker == App().settings.instance
        assert time.monotonic() - started < 10


def test_an_instance_of_a_worker_pool_has_the_name_of_its_own_revision(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("K_REVISION")
    monkeypatch.setenv("CLOUD_RUN_WORKER_POOL_REVISION", "unstuck-pool-film-00003-abc")
    assert App().worker.startswith("unstuck-pool-film-00003-abc@")
    assert metadata.asked == 1


def test_elsewhere_nobody_is_asked(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K_REVISION")
    assert "@" in App().worker
    assert metadata.asked == 0
