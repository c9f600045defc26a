"""The image handler: faults at the wire with `responses`, the round trip with the provider of the
demo."""

import hashlib
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
import responses

from functions.errors import Fail, Retry
from functions.handlers import image
from functions.ops.local.provider import Provider
from functions.ops.local.samples import png
from tests.handlers.fake_context import FakeContext, Killed

BASE = "http://images.test"
POST, POLL, LINK = (
    f"{BASE}/v1/generations",
    f"{BASE}/v1/generations/gen_1",
    "http://cdn.test/1.png?sig=s3cret",
)
ORDER = {"prompt": "a lighthouse", "size": "256x256"}
PICTURE = png(256, 256, "a lighthouse")
READY = {"id": "gen_1", "status": "succeeded", "url": LINK, "width": 256, "height": 256}


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setenv("IMAGE_PROVIDER_URL", f"{BASE}/")
    monkeypatch.delenv("IMAGE_PROVIDER_KEY", raising=False)
    monkeypatch.setattr(image, "WAITS", (0.0,))


@pytest.fixture
def wire():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def service(monkeypatch):
    with Provider(latency=0) as provider:
        monkeypatch.setenv("IMAGE_PROVIDER_URL", provider.url)
        yield provider


def submitted():
    context = FakeContext()
    context.checkpoint("submitted", {"id": "gen_1"})
    return context.next_attempt()


def verdict(task_input=ORDER, context=None):
    with pytest.raises((Retry, Fail)) as caught:
        image.handle(context or FakeContext(), task_input)
    return caught.value


class TestTheInput:
    @pytest.mark.parametrize("prompt", [None, "", " \n", 7, ["a"]])
    def test_an_empty_prompt_fails_in_words_for_the_user(self, prompt):
        error = verdict({**ORDER, "prompt": prompt})
        assert isinstance(error, Fail)
        assert "prompt is empty" in error.message

    @pytest.mark.parametrize("size", [None, "", "1x1", 256, ["256x256"], {}])
    def test_a_size_that_is_not_offered_fails_and_lists_the_sizes(self, size):
        error = verdict({**ORDER, "size": size})
        assert isinstance(error, Fail)
        assert all(allowed in error.message for allowed in image.SIZES)

    @pytest.mark.parametrize("address", [None, "", "images.test", "file:///etc/passwd"])
    def test_a_missing_address_fails_and_names_the_variable(self, address, monkeypatch):
        monkeypatch.delenv("IMAGE_PROVIDER_URL")
        if address is not None:
            monkeypatch.setenv("IMAGE_PROVIDER_URL", address)
        error = verdict()
        assert isinstance(error, Fail)
        assert "IMAGE_PROVIDER_URL" in error.message
        assert "IMAGE_PROVIDER_URL" in error.detail

    def test_a_bad_input_never_reaches_the_service(self, wire):
        verdict({"prompt": "", "size": "256x256"})
        assert len(wire.calls) == 0


class TestTheRoundTrip:
    def test_the_result_describes_the_image_that_can_be_fetched(self, service):
        result = image.handle(FakeContext(), ORDER)
        data = requests.get(result["url"], timeout=5).content
        assert data == PICTURE
        assert (result["width"], result["height"]) == (256, 256)
        assert (result["bytes"], result["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())

    def test_an_image_that_is_not_ready_is_waited_for(self, service, monkeypatch):
        monkeypatch.setattr(image, "WAITS", (0.05,))
        image.handle(FakeContext(), {**ORDER, "prompt": "[slow 0.1] a lighthouse"})
        assert service.stats()["poll"]["task-1"] >= 2

    def test_a_kill_after_the_checkpoint_does_not_order_again(self, service):
        task = {**ORDER, "prompt": "[poll 503 once] a lighthouse"}
        context = FakeContext()
        assert isinstance(verdict(task, context), Retry)
        image.handle(context.next_attempt(), task)
        assert service.stats()["submit"] == {"task-1": 1}
        assert service.stats()["generations"] == {"task-1": 1}

    def test_a_kill_before_the_checkpoint_orders_again_and_is_charged_once(self, service):
        def die(_name):
            raise Killed

        context = FakeContext(on_checkpoint=die)
        with pytest.raises(Killed):
            image.handle(context, ORDER)
        image.handle(context.next_attempt(), ORDER)
        assert service.stats()["submit"] == {"task-1": 2}
        assert service.stats()["generations"] == {"task-1": 1}

    @pytest.mark.parametrize(
        "mark",
        [
            "500 once",
            "429 once",
            "reset once",
            "garbage once",
            "poll 500 once",
            "poll reset once",
            "poll garbage once",
            "image 403 once",
            "image reset once",
            "image garbage once",
        ],
    )
    def test_a_passing_fault_costs_a_retry_and_no_second_charge(self, service, mark):
        task, context = {**ORDER, "prompt": f"[{mark}] a lighthouse"}, FakeContext()
        assert isinstance(verdict(task, context), Retry)
        image.handle(context.next_attempt(), task)
        assert service.stats()["generations"] == {"task-1": 1}

    @pytest.mark.parametrize("mark", ["hang", "poll hang", "image hang"])
    def test_a_service_that_hangs_is_left_before_the_deadline(self, service, mark):
        error = verdict({**ORDER, "prompt": f"[{mark}] a lighthouse"}, FakeContext(left=1.15))
        assert isinstance(error, Retry)
        assert "in time" in error.message

    def test_a_refused_prompt_fails_in_the_words_of_the_service(self, service):
        error = verdict({**ORDER, "prompt": "[refuse] a lighthouse"})
        assert isinstance(error, Fail)
        assert "against the content policy" in error.message

    def test_a_lost_order_is_not_paid_for_twice(self, service):
        error = verdict(context=submitted())
        assert isinstance(error, Fail)
        assert "order it again" in error.message
        assert service.stats()["total"] == 0

    def test_a_service_that_is_down_is_retried(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        monkeypatch.setenv("IMAGE_PROVIDER_URL", f"http://127.0.0.1:{port}")
        assert isinstance(verdict(), Retry)


class TestTheVerdict:
    @pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
    def test_a_passing_status_is_retried(self, wire, status):
        wire.post(POST, status=status)
        assert isinstance(verdict(), Retry)

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
    def test_a_lasting_status_fails(self, wire, status):
        wire.post(POST, status=status)
        assert isinstance(verdict(), Fail)

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_what_only_the_operator_can_mend_is_told_to_the_operator_only(self, wire, status):
        wire.post(POST, status=status, json={"error": {"message": "account 4711 is closed"}})
        error = verdict()
        assert "4711" in error.detail
        assert "4711" not in error.message

    def test_what_the_user_can_mend_is_told_to_the_user(self, wire):
        wire.post(POST, status=422, json={"error": "the prompt names a living person"})
        assert "names a living person" in verdict().message

    @pytest.mark.parametrize(
        "error",
        [
            requests.ConnectTimeout,
            requests.ReadTimeout,
            requests.ConnectionError,
            requests.exceptions.SSLError,
            requests.exceptions.ChunkedEncodingError,
        ],
    )
    def test_a_broken_connection_is_retried_at_each_step(self, wire, error):
        wire.post(POST, body=error())
        assert isinstance(verdict(), Retry)
        wire.get(POLL, body=error())
        assert isinstance(verdict(context=submitted()), Retry)
        wire.replace("GET", POLL, json=READY)
        wire.get(LINK, body=error())
        assert isinstance(verdict(context=submitted()), Retry)

    @pytest.mark.parametrize(
        "body", ["", "<html>", "[]", '"gen_1"', "{}", '{"id": null}', '{"id": 7}', '{"id": ""}']
    )
    def test_an_answer_that_is_not_as_agreed_is_retried(self, wire, body):
        wire.post(POST, body=body)
        assert isinstance(verdict(), Retry)

    @pytest.mark.parametrize(
        "answer", [{}, {"status": 1}, {"status": "melted"}, {"status": "succeeded"}, []]
    )
    def test_a_poll_that_is_not_as_agreed_is_retried(self, wire, answer):
        wire.get(POLL, json=answer)
        assert isinstance(verdict(context=submitted()), Retry)

    def test_an_id_that_is_not_known_yet_is_retried_in_the_attempt_that_ordered_it(self, wire):
        wire.post(POST, json={"id": "gen_1"}, status=202)
        wire.get(POLL, status=404)
        context = FakeContext()
        assert isinstance(verdict(context=context), Retry)
        assert context.done("submitted") == {"id": "gen_1"}

    @pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500])
    def test_a_link_that_does_not_open_is_retried(self, wire, status):
        wire.get(POLL, json=READY)
        wire.get(LINK, status=status)
        assert isinstance(verdict(context=submitted()), Retry)

    @pytest.mark.parametrize("link", ["1.png", "ftp://cdn.test/1.png", "http://", "http://[/1.png"])
    def test_a_link_that_is_no_address_is_retried(self, wire, link):
        wire.get(POLL, json=READY | {"url": link})
        assert isinstance(verdict(context=submitted()), Retry)


class TestTheImage:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            PICTURE[:20],
            PICTURE[: len(PICTURE) // 2],
            PICTURE[:-12],
            b"GIF89a" + PICTURE,
            PICTURE[8:],
        ],
    )
    def test_what_is_not_a_whole_png_is_never_a_result(self, wire, body):
        wire.get(POLL, json=READY)
        wire.get(LINK, body=body)
        error = verdict(context=submitted())
        assert isinstance(error, Retry)
        assert "damaged" in error.message

    @pytest.mark.parametrize("other", [{"width": 512}, {"height": 1}, {"sha256": "0" * 64}])
    def test_another_image_than_announced_is_never_a_result(self, wire, other):
        wire.get(POLL, json=READY | other)
        wire.get(LINK, body=PICTURE)
        assert next(iter(other)) in verdict(context=submitted()).detail

    def test_the_sha256_may_be_left_out_by_the_service(self, wire):
        wire.get(POLL, json={"id": "gen_1", "status": "succeeded", "url": LINK})
        wire.get(LINK, body=PICTURE)
        result = image.handle(submitted(), ORDER)
        assert result["sha256"] == hashlib.sha256(PICTURE).hexdigest()


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("7", 7),
            (" 0 ", 0),
            ("86400", 3600),
            ("9" * 400, 3600),
            ("soon", None),
            ("-5", None),
            ("", None),
        ],
    )
    def test_it_is_honoured_in_seconds_up_to_an_hour(self, wire, text, seconds):
        wire.post(POST, status=429, headers={"Retry-After": text})
        assert verdict().after == seconds

    def test_it_is_honoured_as_a_date(self, wire):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        wire.post(POST, status=503, headers={"Retry-After": date})
        assert 90 < verdict().after <= 100

    def test_a_date_that_has_passed_means_now(self, wire):
        wire.post(POST, status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
        assert verdict().after == 0

    def test_without_it_the_rule_decides(self, wire):
        wire.post(POST, status=500)
        assert verdict().after is None


class TestTheTime:
    @pytest.mark.parametrize("left", [1.1, 2.0, 7.0, 20.0, 3600.0])
    def test_the_limits_of_a_request_never_exceed_what_remains(self, wire, left):
        wire.post(POST, status=500)
        verdict(context=FakeContext(left=left))
        connect, read = wire.calls[0].request.req_kwargs["timeout"]
        assert 0 < connect <= image.CONNECT_SECONDS
        assert 0 < read <= image.READ_SECONDS
        assert connect + read <= left - image.MARGIN_SECONDS + 1e-9

    def test_no_request_is_sent_when_no_time_remains(self, wire):
        error = verdict(context=FakeContext(left=image.MARGIN_SECONDS))
        assert isinstance(error, Retry)
        assert len(wire.calls) == 0

    def test_time_that_runs_out_while_a_request_is_made_ready_is_no_fault_of_the_settings(
        self, wire
    ):
        wire.post(POST, body=requests.ReadTimeout())
        assert isinstance(verdict(context=FakeContext(left=2.5, step=1)), Retry)
        connect, read = wire.calls[0].request.req_kwargs["timeout"]
        assert min(connect, read) > 0

    def test_waiting_ends_before_the_deadline_and_keeps_the_order(self, wire):
        wire.post(POST, json={"id": "gen_1"})
        wire.get(POLL, json={"status": "running"})
        context = FakeContext(left=30, step=1)
        error = verdict(context=context)
        assert isinstance(error, Retry)
        assert "not ready in time" in error.message
        assert context.done("submitted") == {"id": "gen_1"}

    def test_a_cancelled_wait_stops_at_once(self, wire, monkeypatch):
        monkeypatch.setattr(image, "WAITS", (3600.0,))
        context = submitted()

        def answer(_request):
            context.stopped = True
            return 200, {}, '{"status": "running"}'

        wire.add_callback("GET", POLL, answer)
        error = verdict(context=context)
        assert isinstance(error, Retry)
        assert error.after == 0


class TestTheKey:
    @pytest.fixture(autouse=True)
    def key(self, monkeypatch):
        monkeypatch.setenv("IMAGE_PROVIDER_KEY", "sk-s3cret\n")

    def test_it_is_sent_to_the_service_and_not_to_the_host_of_the_image(self, wire):
        wire.post(POST, json={"id": "gen_1"})
        wire.get(POLL, json=READY)
        wire.get(LINK, body=PICTURE)
        image.handle(FakeContext(), ORDER)
        sent = [call.request.headers.get("Authorization") for call in wire.calls]
        assert sent == ["Bearer sk-s3cret", "Bearer sk-s3cret", None]

    def test_it_is_not_sent_to_a_host_whose_name_begins_like_the_service(self, wire):
        trap = f"{BASE}.evil.test/1.png"
        wire.get(POLL, json=READY | {"url": trap})
        wire.get(trap, body=PICTURE)
        image.handle(submitted(), ORDER)
        assert "Authorization" not in wire.calls[1].request.headers

    def test_no_key_no_header(self, wire, monkeypatch):
        monkeypatch.delenv("IMAGE_PROVIDER_KEY")
        wire.post(POST, status=500)
        verdict()
        assert "Authorization" not in wire.calls[0].request.headers

    @pytest.mark.parametrize("status", [401, 422, 500])
    def test_it_is_masked_where_the_service_quotes_it(self, wire, status):
        wire.post(POST, status=status, json={"error": {"message": "bad key sk-s3cret given"}})
        error = verdict()
        assert "s3cret" not in error.message + error.detail
        assert "***" in error.detail

    @pytest.mark.parametrize("key", ["sk-s3cret\nX: 1", "sk-s3cret\u20ac"])
    def test_a_key_that_cannot_be_sent_fails_without_showing_it(self, key, monkeypatch):
        monkeypatch.setenv("IMAGE_PROVIDER_KEY", key)
        error = verdict()
        assert isinstance(error, Fail)
        assert "s3cret" not in error.message + error.detail + str(error.__cause__)
        assert error.__suppress_context__

    def test_neither_the_key_nor_the_prompt_is_logged(self, service, caplog):
        caplog.set_level("DEBUG")
        image.handle(FakeContext(), ORDER)
        assert "s3cret" not in caplog.text
        assert "lighthouse" not in caplog.text


def test_progress_only_ever_grows(service):
    context = FakeContext()
    image.handle(context, ORDER)
    fractions = [fraction for fraction, _ in context.reports]
    assert fractions == sorted(fractions)
    assert len(fractions) >= 2
