"""The flaky image service of the demo: that it breaks as told, and counts what it charges."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from functions.ops.local import provider as module
from functions.ops.local import samples
from functions.ops.local.provider import Fault, Provider, faults


@pytest.fixture(scope="module")
def provider():
    with Provider(latency=0, retry_after=3) as running:
        yield running


@pytest.fixture
def key(request):
    return request.node.name


def order(provider, key="", prompt="a lighthouse", size="64x32", timeout=5):
    headers = {"Idempotency-Key": key} if key else {}
    body = {"prompt": prompt, "size": size}
    return requests.post(
        f"{provider.url}/v1/generations", json=body, headers=headers, timeout=timeout
    )


def poll(provider, generation_id, timeout=5):
    return requests.get(f"{provider.url}/v1/generations/{generation_id}", timeout=timeout)


class TestTheOrder:
    def test_the_same_key_gives_the_same_id_and_is_charged_once(self, provider, key):
        ids = {order(provider, key).json()["id"] for _ in range(3)}
        assert len(ids) == 1
        stats = requests.get(f"{provider.url}/stats", timeout=5).json()
        assert stats["generations"][key] == 1
        assert stats["submit"][key] == 3

    def test_the_same_key_from_many_clients_at_once_is_charged_once(self, provider, key):
        with ThreadPoolExecutor(16) as clients:
            ids = set(clients.map(lambda _: order(provider, key).json()["id"], range(48)))
        assert len(ids) == 1
        assert provider.stats()["generations"][key] == 1
        assert provider.stats()["submit"][key] == 48

    def test_each_order_without_a_key_is_charged(self, provider):
        before = provider.stats()["total"]
        assert order(provider).json()["id"] != order(provider).json()["id"]
        assert provider.stats()["total"] == before + 2

    def test_a_key_is_not_taken_for_another_order(self, provider, key):
        order(provider, key)
        assert order(provider, key, prompt="a tower").status_code == 422
        assert order(provider, key, size="32x32").status_code == 422

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"1",
            b"{}",
            b'{"prompt": "", "size": "8x8"}',
            b'{"prompt": 1, "size": "8x8"}',
            b'{"prompt": "a"}',
            b'{"prompt": "a", "size": 8}',
            b'{"prompt": "a", "size": "0x8"}',
            b'{"prompt": "a", "size": "9999x9999"}',
        ],
    )
    def test_a_bad_order_is_refused_and_not_charged(self, provider, body):
        before = provider.stats()["total"]
        assert (
            requests.post(f"{provider.url}/v1/generations", data=body, timeout=5).status_code == 422
        )
        assert provider.stats()["total"] == before

    def test_what_is_not_there_is_404(self, provider):
        assert poll(provider, "gen_none").status_code == 404
        assert requests.get(f"{provider.url}/images/gen_none.png", timeout=5).status_code == 404
        assert requests.get(provider.url, timeout=5).status_code == 404
        assert requests.post(f"{provider.url}/elsewhere", timeout=5).status_code == 404


class TestTheImage:
    def test_a_poll_describes_the_png_that_its_link_gives(self, provider, key):
        answer = poll(provider, order(provider, key).json()["id"]).json()
        image = requests.get(answer["url"], timeout=5)
        assert image.headers["Content-Type"] == "image/png"
        assert (answer["status"], answer["width"], answer["height"]) == ("succeeded", 64, 32)
        assert struct.unpack(">II", image.content[16:24]) == (64, 32)

    def test_every_chunk_of_a_png_has_its_length_and_checksum_and_the_pixels_are_all_there(self):
        data, at, pixels = samples.png(31, 17, "a lighthouse"), 8, b""
        kinds = []
        while at < len(data):
            (length,) = struct.unpack(">I", data[at : at + 4])
            kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
            assert data[at + 8 + length : at + 12 + length] == struct.pack(
                ">I", zlib.crc32(kind + body)
            )
            kinds.append(kind)
            pixels += body if kind == b"IDAT" else b""
            at += 12 + length
        assert kinds == [b"IHDR", b"IDAT", b"IEND"]
        assert len(zlib.decompress(pixels)) == 17 * (1 + 3 * 31)

    def test_another_prompt_gives_another_picture_and_the_same_prompt_the_same(self):
        assert samples.png(8, 8, "a") == samples.png(8, 8, "a") != samples.png(8, 8, "b")


class TestTheMarks:
    @pytest.mark.parametrize(
        ("prompt", "expected"),
        [
            ("a lighthouse", []),
            ("[slow 2] [refuse] x", []),
            ("[500 once] x", [Fault("submit", "500", 1)]),
            ("[429]", [Fault("submit", "429", float("inf"))]),
            (
                "[poll reset 3][image garbage]",
                [Fault("poll", "reset", 3), Fault("image", "garbage", float("inf"))],
            ),
            ("[200] [600] [500 twice] [hangs]", []),
        ],
    )
    def test_they_are_read_as_documented(self, prompt, expected):
        assert faults(prompt) == expected

    def test_every_mark_of_the_table_is_one_that_is_read(self):
        marks = [
            line.split("|")[1] for line in module.__doc__.splitlines() if line.startswith("| [")
        ]
        assert len(marks) == 6
        assert [bool(faults(mark)) for mark in marks] == [False, False, True, True, True, True]

    def test_a_status_strikes_before_anything_is_charged(self, provider, key):
        answers = [order(provider, key, "[503 2] x").status_code for _ in range(3)]
        assert answers == [503, 503, 202]
        assert provider.stats()["generations"][key] == 1

    def test_several_marks_strike_in_turn(self, provider, key):
        answers = [order(provider, key, "[500 once] [429 once] x").status_code for _ in range(3)]
        assert answers == [500, 429, 202]

    def test_once_means_once_for_each_key(self, provider, key):
        answers = [order(provider, f"{key}-{n}", "[500 once] x").status_code for n in (1, 2)]
        assert answers == [500, 500]

    def test_429_says_when_to_come_back(self, provider, key):
        assert order(provider, key, "[429] x").headers["Retry-After"] == "3"

    def test_a_reset_loses_the_answer_and_not_the_order(self, provider, key):
        with pytest.raises(requests.ConnectionError, match="reset"):
            order(provider, key, "[reset once] x")
        assert provider.stats()["generations"][key] == 1
        assert order(provider, key, "[reset once] x").status_code == 202
        assert provider.stats()["generations"][key] == 1

    def test_a_hang_gives_no_answer(self, provider, key):
        with pytest.raises(requests.ReadTimeout):
            order(provider, key, "[hang] x", timeout=0.1)
        assert provider.stats()["generations"][key] == 1

    def test_garbage_is_no_json(self, provider, key):
        answer = order(provider, key, "[garbage] x")
        assert answer.status_code == 200
        assert "html" in answer.text

    def test_garbage_for_an_image_is_half_of_it(self, provider, key):
        link = poll(provider, order(provider, key, "[image garbage once] x").json()["id"]).json()[
            "url"
        ]
        half, whole = requests.get(link, timeout=5).content, requests.get(link, timeout=5).content
        assert whole.startswith(half)
        assert len(half) == len(whole) // 2

    def test_a_refused_prompt_ends_as_failed_with_a_message(self, provider, key):
        answer = poll(provider, order(provider, key, "[refuse] x").json()["id"]).json()
        assert answer["status"] == "failed"
        assert "policy" in answer["error"]["message"]
        assert "url" not in answer

    def test_a_slow_image_is_running_first(self, provider, key):
        generation_id = order(provider, key, "[slow 3600] x").json()["id"]
        assert poll(provider, generation_id).json() == {"id": generation_id, "status": "running"}
        assert (
            requests.get(f"{provider.url}/images/{generation_id}.png", timeout=5).status_code == 404
        )


class TestStartAndStop:
    def test_a_stop_lets_a_hanging_client_go(self):
        with Provider() as provider, ThreadPoolExecutor(1) as client:
            answer = client.submit(order, provider, "k", "[hang] x", timeout=30)
            while not provider.stats()["generations"]:
                assert not answer.done()
            provider.stop()
            assert isinstance(answer.exception(timeout=5), requests.ConnectionError)

    def test_a_stop_and_a_start_keep_the_book(self):
        with Provider() as provider:
            first, port = order(provider, "k").json()["id"], provider.port
            provider.stop()
            with pytest.raises(RuntimeError, match="start"):
                _ = provider.url
            provider.start(port)
            assert order(provider, "k").json()["id"] == first
            assert provider.stats()["total"] == 1

    def test_stopping_twice_is_harmless(self):
        provider = Provider().start()
        provider.stop()
        provider.stop()

    def test_alone_it_prints_its_address_and_serves(self):
        command = [sys.executable, "-m", "functions.ops.local.provider", "--port", "0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                url = json.loads(process.stdout.readline())["url"]
                assert requests.get(f"{url}/stats", timeout=5).json()["total"] == 0
            finally:
                os.kill(process.pid, signal.SIGINT)
            assert process.wait(5) == 0
            assert process.stderr.read() == ""

    def test_a_taken_port_is_said_in_words(self):
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(SystemExit, match="--port"),
        ):
            module.main(["--port", str(taken.getsockname()[1])])
