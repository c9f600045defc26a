"""What people are told of failures by a sweep: each once in a row of sweeps, many in one message,
none lost, whatever the receiver or the process does. The receiver is at the wire; the sweep, the
outbox and the database are real."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import requests
import responses
from psycopg.rows import dict_row
from standardwebhooks import Webhook, WebhookVerificationError

from functions.core.answers import Message, ToldEnd
from functions.core.policy import Policy, load
from functions.core.record import replace
from functions.core.settings import Settings
from functions.store.postgres import PostgresStore
from functions.sweep import notify
from functions.sweep.notify import LEASE_SECONDS, LISTED_TASKS
from tests.conftest import copied
from tests.sql import pass_time
from tests.sweep.conftest import Db
from tests.sweep.steps import sweep

URL = "https://hooks.slack.com/services/T0/B0/a-secret-of-the-owner"
SECRET = f"whsec_{base64.b64encode(b'a secret that both know').decode()}"
HOUR = 3600.0
FIRST_PAUSE_SECONDS = 30.0
TRIES_OF_A_DAY = 31


@pytest.fixture(scope="module")
def policy() -> Policy:
    bundled = load()
    return replace(bundled, watches={"tasks": replace(bundled.watch(), notify=True)})


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def configure(url: str | None = URL, secret: str | None = SECRET) -> None:
        for name, value in (("NOTIFY_URL", url), ("NOTIFY_SECRET", secret)):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)

    configure()
    return configure


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        yield wire


def fail(db: Db, count: int, kind: str = "image") -> list[str]:
    """Tasks that the next sweep will fail: nobody has claimed them for an hour."""
    rows = db.execute(
        "insert into tasks (kind, scheduled_at) select %s, now() - interval '1 hour' "
        "from generate_series(1, %s) returning id",
        (kind, count),
    )
    return sorted(str(row["id"]) for row in rows)


def told(wire: responses.RequestsMock) -> list[dict[str, Any]]:
    return [json.loads(call.request.body) for call in wire.calls]


def test_a_failure_by_a_sweep_is_told_once_in_a_row_of_sweeps(store, db, policy, wire):
    wire.post(URL, "ok")
    task_ids = fail(db, 2) + fail(db, 1, "selection")
    assert [sweep(store, policy).verdict for _ in range(3)] == ["ok"] * 3
    (message,) = told(wire)
    assert message["text"] == (
        "3 tasks failed:\n2 x image of tasks: never_claimed\n1 x selection of tasks: never_claimed"
    )
    assert (message["count"], message["more"]) == (3, 0)
    assert sorted(task["task_id"] for task in message["tasks"]) == sorted(task_ids)
    assert message["tasks"][0].keys() == {
        "watch",
        "task_id",
        "number",
        "kind",
        "state",
        "reason",
        "cause",
        "at",
    }


def test_a_task_that_a_poll_ended_is_told_by_the_next_sweep(store, db, policy, wire):
    wire.post(URL, "ok")
    (task_id,) = fail(db, 1)
    assert store.status(policy.watch(), task_id).state == "failed"
    sweep(store, policy)
    assert [task["task_id"] for task in told(wire)[0]["tasks"]] == [task_id]


def test_a_task_that_is_pending_again_is_not_told(store, db, policy, wire):
    task_id = str(store.create(policy.watch(), "image", {}).task_id)
    store.claim(policy.watch(), task_id, "worker")
    pass_time(db, 31)
    assert sweep(store, policy).requeued == 1
    assert told(wire) == []


def test_a_receiver_can_check_who_sent_it(store, db, policy, wire):
    wire.post(URL, "ok")
    fail(db, 1)
    sweep(store, policy)
    request = wire.calls[0].request
    assert Webhook(SECRET).verify(request.body, dict(request.headers))["count"] == 1
    assert request.headers["webhook-id"] == told(wire)[0]["id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", dict(request.headers))


@pytest.mark.parametrize(
    ("secret", "key"), [("plain words", b"plain words"), (SECRET, b"a secret that both know")]
)
def test_a_secret_is_base64_after_its_prefix_or_any_text(secret, key):
    headers = notify.signed(secret, "id", b"{}")
    Webhook(key).verify(b"{}", headers)


def test_without_a_secret_nothing_is_signed():
    assert notify.signed(None, "id", b"{}").keys() == {"webhook-id", "webhook-timestamp"}


def test_a_failure_of_the_receiver_fails_no_sweep_and_the_same_message_comes_again_later(
    store, db, policy, wire, capsys
):
    wire.post(URL, "no", status=503)
    fail(db, 2)
    assert [sweep(store, policy).verdict for _ in range(2)] == ["ok", "ok"]
    assert len(told(wire)) == 1, "not before its time"
    fail(db, 1)
    wire.replace("POST", URL, "ok")
    pass_time(db, FIRST_PAUSE_SECONDS)
    sweep(store, policy)
    first, again, other = told(wire)
    for task in first["tasks"] + again["tasks"]:
        del task["at"]  # time passed for the database alone
    assert first == again
    assert (other["count"], other["id"] != first["id"]) == (1, True)
    assert (
        wire.calls[0].request.headers["webhook-id"] == wire.calls[1].request.headers["webhook-id"]
    )
    lines = [
        line
        for line in map(json.loads, capsys.readouterr().out.splitlines())
        if "notification" in line["event"]
    ]
    assert [(line["event"], line["severity"], line["count"], line["times"]) for line in lines] == [
        ("notification_failed", "WARNING", 2, 1),
        ("notification_sent", "INFO", 2, 2),
        ("notification_sent", "INFO", 1, 1),
    ]


@pytest.mark.parametrize(
    "failure",
    [
        requests.ConnectionError(f"Max retries exceeded with url: {URL}"),
        requests.Timeout(URL),
        requests.exceptions.InvalidURL(URL),
    ],
)
def test_nothing_that_goes_wrong_fails_a_sweep_or_shows_the_url(
    store, db, policy, wire, capsys, failure
):
    wire.post(URL, body=failure)
    fail(db, 1)
    assert sweep(store, policy).verdict == "ok"
    seen = capsys.readouterr().out + str(db.execute("select error from unstuck.outbox").fetchall())
    assert type(failure).__name__ in seen
    assert "a-secret" not in seen


@pytest.mark.parametrize("secret", ["whsec_not base64!", "whsec_ä", "whsec_"])
def test_a_secret_that_is_none_sends_nothing_and_fails_no_sweep(
    store, db, policy, wire, configured, secret
):
    configured(secret=secret)
    fail(db, 1)
    assert sweep(store, policy).verdict == "ok"
    assert told(wire) == []


def hangs(connection: socket.socket) -> None:
    while connection.recv(65536):
        """Waits until the other side gives up."""


def hangs_up(connection: socket.socket) -> None:
    """Closes without an answer."""


def never_ends(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def has_endless_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: " + b"x" * 60000 + b"\r\n")


def answers_byte_by_byte(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.01)  # 100 s in all


def talks_nonsense(connection: socket.socket) -> None:
    connection.sendall(b"\x00\x01 nonsense\r\n\r\n")


def receives(behave: Callable[[socket.socket], None]) -> str:
    """The URL of a receiver that behaves so once."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listening, listening.accept()[0] as connection, suppress(OSError):
            connection.recv(65536)
            behave(connection)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/a-secret"


SHORT_SECONDS, LONG_SECONDS = 0.3, 10.0


@pytest.mark.parametrize(
    ("behave", "timeout", "error"),
    [
        (hangs, SHORT_SECONDS, "the receiver"),
        (answers_byte_by_byte, SHORT_SECONDS, "the receiver's answer has no end"),
        (hangs_up, LONG_SECONDS, "the receiver cannot be reached: ConnectionError"),
        (has_endless_headers, LONG_SECONDS, "the receiver cannot be reached: ConnectionError"),
        (talks_nonsense, LONG_SECONDS, "the receiver cannot be reached: ConnectionError"),
        (never_ends, LONG_SECONDS, "None"),
    ],
)
def test_no_receiver_holds_the_sweep_for_longer_than_two_time_limits(behave, timeout, error):
    message = Message("1", 1, [], "default", None)
    begun = time.monotonic()
    found = notify._post(Settings.read(), message, (receives(behave), None), timeout)
    assert str(found).startswith(error)
    assert time.monotonic() - begun < 2 * LONG_SECONDS


def test_a_redirect_is_not_followed(store, db, policy, wire):
    wire.post(URL, status=302, headers={"Location": "https://elsewhere.example/"})
    fail(db, 1)
    sweep(store, policy)
    assert [call.request.url for call in wire.calls] == [URL]
    assert db.execute("select error from unstuck.outbox").fetchone() == {
        "error": "the receiver answered 302"
    }


def test_a_sweep_that_dies_between_the_call_and_its_mark_has_it_sent_again_with_the_same_id(
    store, db, policy, wire
):
    wire.post(URL, "ok")
    fail(db, 2)
    store.sweep(policy.watch(), 500)
    taken = store.outbox_take(LEASE_SECONDS)
    sweep(store, policy)
    assert told(wire) == [], "it belongs to the sweep that took it"
    pass_time(db, LEASE_SECONDS)
    sweep(store, policy)
    assert [message["id"] for message in told(wire)] == [taken.message]


def test_it_is_given_up_at_last_and_said_so(store, db, policy, wire, capsys):
    wire.post(URL, "no", status=404)
    fail(db, 1)
    for _ in range(TRIES_OF_A_DAY + 2):
        sweep(store, policy)
        pass_time(db, HOUR)
    assert len(told(wire)) == TRIES_OF_A_DAY
    assert db.execute("select outcome, times from unstuck.outbox").fetchall() == [
        {"outcome": "given up", "times": TRIES_OF_A_DAY}
    ]
    lines = [
        line
        for line in map(json.loads, capsys.readouterr().out.splitlines())
        if "notification" in line["event"]
    ]
    assert [line["outcome"] for line in lines] == ["retried"] * (TRIES_OF_A_DAY - 1) + ["given up"]
    assert lines[-1]["severity"] == "ERROR"


def test_a_mass_of_failures_is_a_message_for_each_500(store, db, policy, wire):
    wire.post(URL, "ok")
    task_ids = fail(db, 1100)
    sweep(store, policy)
    messages = told(wire)
    assert [message["count"] for message in messages] == [500, 500, 100]
    assert [(len(message["tasks"]), message["more"]) for message in messages] == [
        (LISTED_TASKS, 500 - LISTED_TASKS)
    ] * 2 + [(LISTED_TASKS, 100 - LISTED_TASKS)]
    assert len(db.execute("select from unstuck.outbox where outcome = 'sent'").fetchall()) == len(
        task_ids
    )


def test_two_sweeps_at_once_take_no_message_twice(store, db, dsn, policy):
    for _ in range(4):
        fail(db, 3)
        store.sweep(policy.watch(), 500)
    stores = [PostgresStore(dsn) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda one: one.outbox_take(LEASE_SECONDS), stores))
    tasks = [task.task_id for message in taken if message for task in message.tasks]
    assert len(tasks) == len(set(tasks)) == 12
    for one in stores:
        one.close()


def test_a_row_that_could_not_be_failed_is_not_told(store, db, policy, wire):
    wire.post(URL, "ok")
    bad, *good = fail(db, 3)
    db.execute(
        f"alter table tasks add constraint refuses check (id <> '{bad}' or status = "
        f"'pending')".encode()
    )
    answer = sweep(store, policy)
    db.execute("alter table tasks drop constraint refuses")
    assert (answer.unsweepable, answer.failed) == (1, 2)
    assert sorted(task["task_id"] for task in told(wire)[0]["tasks"]) == good


def test_nothing_is_sent_when_the_time_of_the_sweep_is_over(store, db, policy, wire):
    fail(db, 1)
    sweep(store, replace(policy, sweep_budget=1.0))
    assert told(wire) == []
    assert len(db.execute("select from unstuck.outbox where times = 0").fetchall()) == 1


def test_what_nobody_is_to_be_told_of_stays_where_it_is(store, db, policy, wire, configured):
    configured(url=None)
    fail(db, 1)
    sweep(store, policy)
    assert len(db.execute("select from unstuck.outbox where times = 0").fetchall()) == 1


def test_where_nobody_asks_nothing_is_kept_and_from_the_first_question_on_everything(
    postgres, template, wire, configured
):
    """The policy that says nothing of `notify`."""
    wire.post(URL, "ok")
    configured(url=None)
    with (
        copied(postgres, template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as db,
    ):
        fail(db, 1)
        store = PostgresStore(dsn)
        assert sweep(store, load()).failed == 1
        assert db.execute("select from unstuck.outbox").fetchall() == []
        configured()
        sweep(store, load())
        (task_id,) = fail(db, 1)
        sweep(store, load())
        store.close()
        assert [task["task_id"] for message in told(wire) for task in message["tasks"]] == [task_id]


def failed_task(kind: str) -> ToldEnd:
    return ToldEnd("tasks", "1", 1, kind, "stale", "stale", "2026-01-01")


def test_a_kind_cannot_call_everybody():
    message = Message("1", 1, [failed_task("<!channel> & <https://x|y>")])
    assert notify.body(message)["text"].endswith(
        "1 x `&lt;!channel&gt; &amp; &lt;https://x|y&gt;` of tasks: stale"
    )


@pytest.mark.parametrize(
    "kind",
    [
        "x\n3 tasks of payroll: see https://evil.example/login *now*",
        "*bold*",
        "_x_ ~y~",
        "evil.example",
        "https://evil.example",
        "`code` *and* `more`",
        "a\u202eb",
        "<https://evil.example|payroll>",
        "<!channel>",
    ],
)
def test_a_kind_stays_on_its_line_and_is_no_markup(kind):
    """Slack makes links of bare names too, but none in code."""
    text = notify.body(Message("1", 1, [failed_task(kind)]))["text"]
    first, *lines = text.split("\n")
    assert first == "1 task failed:"
    (line,) = lines
    before, shown, after = line.split("`")
    assert (before, after) == ("1 x ", " of tasks: stale")
    assert not {"<", ">", "\n", "\u202e"} & set(shown)


def test_a_text_stays_short_whatever_failed():
    tasks = [failed_task(f"kind{n % 40}") for n in range(100)]
    lines = notify.body(Message("1", 1, tasks))["text"].split("\n")
    assert (len(lines), lines[0], lines[-1]) == (12, "100 tasks failed:", "and 70 more")
