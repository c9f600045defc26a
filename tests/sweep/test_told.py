"""Every end is told, whoever brought it about, to those whom the policy names; nothing is lost when
the sender dies, wherever it is."""

import random
from collections import Counter, defaultdict
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
import responses
import yaml

from functions.core.answers import Message
from functions.core.callback_url import is_allowed
from functions.core.policy import DEFAULT, Policy, Watch, parse
from functions.core.settings import Settings
from functions.errors import PolicyError
from functions.store import Store
from functions.sweep import callback, notify
from functions.sweep.notify import LEASE_SECONDS
from tests.sql import pass_time
from tests.sweep.conftest import Db
from tests.sweep.steps import sweep

TEAM, ONCALL, BOOKS = (f"https://{name}.example.com/hook" for name in ("team", "oncall", "books"))
BACKEND = "https://api.example.com/done"
CALLBACK_SECRET = "a secret that both know"
ENVIRONMENT = {
    "NOTIFY_URL": TEAM,
    "NOTIFY_URL_ONCALL": ONCALL,
    "NOTIFY_URL_BOOKS": BOOKS,
    "CALLBACK_HOSTS": "api.example.com, *.backends.example.com",
    "CALLBACK_SECRET": CALLBACK_SECRET,
}


def policy_with(**more: Any) -> Policy:
    """The bundle's policy, with `more` at its top and rules for three kinds."""
    written = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    written |= {"addresses": {"oncall": {"severity": "error"}, "books": {"kinds": ["film"]}}}
    written["watches"]["tasks"] |= more
    written["watches"]["tasks"]["rules"] |= {
        "film": {"notify": True},
        "scan": {"notify": {"retried": True}},
        "mute": {"notify": False},
    }
    return parse(yaml.safe_dump(written))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_with(notify=True)


@pytest.fixture
def watch(policy: Policy) -> Watch:
    return policy.watch()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def begun(store: Store, watch: Watch, kind: str) -> tuple[str, str]:
    """A task that a worker holds, and the token."""
    task_id = store.create(watch, kind, {}).task_id
    return task_id, store.claim(watch, task_id, "worker").token


def filed(db: Db) -> set[tuple[str, str]]:
    """Who is to be told what."""
    rows = db.execute("select address, state from unstuck.outbox").fetchall()
    return {(row["address"], row["state"]) for row in rows}


def by_worker(store: Store, watch: Watch, settle_as: Any, reason: str | None = None) -> None:
    store.settle(watch, *begun(store, watch, "film"), settle_as, reason=reason)


def by_hand(store: Store, watch: Watch, action: str) -> None:
    store.operate(watch, action, [begun(store, watch, "film")[0]])


def by_sweep(store: Store, db: Db, watch: Watch) -> None:
    begun(store, watch, "film")
    pass_time(db, 31)
    store.sweep(watch, 500)


def by_poll(store: Store, db: Db, watch: Watch) -> None:
    task_id, _ = begun(store, watch, "film")
    pass_time(db, 31)
    store.status(watch, task_id)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda store, db, watch: by_worker(store, watch, "complete"), "completed"),
        (lambda store, db, watch: by_worker(store, watch, "fail", "handler_error"), "failed"),
        (lambda store, db, watch: by_worker(store, watch, "retry", "transient"), "retried"),
        (lambda store, db, watch: by_hand(store, watch, "fail"), "failed"),
        (lambda store, db, watch: by_hand(store, watch, "cancel"), "cancelled"),
        (lambda store, db, watch: store.cancel(watch, begun(store, watch, "film")[0]), "cancelled"),
        (by_sweep, "retried"),
        (by_poll, "retried"),
    ],
)
def test_an_end_is_told_whoever_brought_it_about(store, db, watch, end, state):
    end(store, db, watch)
    told = {("default", state), ("books", state)}
    assert filed(db) == told | ({("oncall", state)} if state == "failed" else set())


def test_a_worker_that_was_shut_down_has_ended_nothing(store, db, watch):
    by_worker(store, watch, "release", "shutdown")
    assert filed(db) == set()


@pytest.mark.parametrize(
    ("kind", "settle_as", "told"),
    [
        ("image", "fail", {("default", "failed"), ("oncall", "failed")}),
        ("image", "complete", set()),
        ("image", "retry", set()),
        ("scan", "retry", {("default", "retried")}),
        ("scan", "complete", set()),
        ("mute", "fail", set()),
        ("unheard of", "fail", {("default", "failed"), ("oncall", "failed")}),
    ],
)
def test_the_rule_of_the_kind_says_which_ends_are_told(store, db, watch, kind, settle_as, told):
    store.settle(watch, *begun(store, watch, kind), settle_as, reason="handler_error")
    assert filed(db) == told


def test_a_watch_that_tells_nobody_tells_nobody():
    assert policy_with(notify=False).watch().routes == {}


@pytest.mark.parametrize("name", ["callback", "worker", "On-Call", "1"])
def test_an_address_has_a_name_that_a_variable_can_have(name):
    written = yaml.safe_load(DEFAULT.read_text(encoding="utf-8")) | {"addresses": {name: {}}}
    with pytest.raises(PolicyError, match="NOTIFY_URL_NAME"):
        parse(yaml.safe_dump(written))


def test_each_address_gets_a_message_of_its_own_and_one_that_fails_stops_no_other(
    store, db, policy, watch
):
    by_worker(store, watch, "fail", "handler_error")
    by_worker(store, watch, "complete")
    with responses.RequestsMock() as wire:
        wire.post(TEAM, "no", status=500)
        wire.post(ONCALL, "ok")
        wire.post(BOOKS, "ok")
        sweep(store, policy)
    rows = db.execute("select address, state, outcome from unstuck.outbox order by 1, 2").fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("books", "completed", "sent"),
        ("books", "failed", "sent"),
        ("default", "completed", None),
        ("default", "failed", None),
        ("oncall", "failed", "sent"),
    ]


def test_the_text_counts_the_ends_by_how_they_ended(store, db, watch):
    for settle_as in ("fail", "complete", "complete"):
        store.settle(watch, *begun(store, watch, "film"), settle_as, reason="handler_error")
    message = store.outbox_take(60)
    text = notify.body(message)["text"]
    assert text.startswith("1 task failed, 2 tasks completed:\n")


# callbacks


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/done", True),
        ("https://API.example.com:8443/done?task=1", True),
        ("https://one.backends.example.com", True),
        ("https://backends.example.com", False),
        ("http://api.example.com/done", False),
        ("https://api.example.com@evil.example/", False),
        ("https://api.example.com.evil.example/", False),
        ("https://evil.example/?api.example.com", False),
        ("https://evil.example#api.example.com", False),
        ("https://api.example.com\\@evil.example/", False),
        ("https://evilbackends.example.com", False),
        ("https://127.0.0.1/", False),
        ("https://api.example.com/ x", False),
        ("https://api.example.com/" + 2000 * "x", False),
        ("", False),
    ],
)
def test_a_callback_goes_to_hosts_that_the_settings_allow(url, allowed):
    assert is_allowed(url, Settings.read().callback_hosts) == allowed


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("224.0.0.1", False),
    ],
)
def test_an_address_of_the_internet_is_told_from_a_private_one(address, public):
    assert callback.is_public(address) == public


def test_a_host_that_resolves_to_a_private_address_is_sent_nothing(store, db, policy, watch):
    """A name may resolve to another address each time: the one that was reached counts."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    heard: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}/done"
        message = Message("1", 1, [], "callback", url)
        with patch.dict("os.environ", {"CALLBACK_HOSTS": "localhost"}):
            error = notify._post(Settings.read(), message, (url, "secret"), 2.0)
        server.shutdown()
    assert error == "the receiver cannot be reached: PrivateAddressError"
    assert heard == []


def test_callbacks_need_a_secret(monkeypatch):
    monkeypatch.delenv("CALLBACK_SECRET")
    with pytest.raises(PolicyError, match="CALLBACK_SECRET"):
        Settings.read()


def test_a_backend_is_told_of_all_its_tasks_in_signed_messages(store, db, policy, watch):
    from standardwebhooks import Webhook

    for _ in range(60):
        task_id = store.create(watch, "image", {}, callback=BACKEND).task_id
        store.settle(watch, task_id, store.claim(watch, task_id, "w").token, "complete")
    with responses.RequestsMock() as wire:
        wire.post(BACKEND, "ok")
        sweep(store, policy)
        (request,) = (call.request for call in wire.calls)
    told = Webhook(CALLBACK_SECRET.encode()).verify(request.body, dict(request.headers))
    assert (told["count"], len(told["tasks"]), told["more"]) == (60, 60, 0)
    assert {task["state"] for task in told["tasks"]} == {"completed"}


# what is given up


def test_what_is_given_up_is_told_to_the_others_once(store, db, watch):
    for address in ("default", "oncall"):
        store.outbox_take(60, None, [address])
    by_worker(store, watch, "fail", "handler_error")
    message = store.outbox_take(60, None, ["oncall"])
    store.outbox_end(message.message, "the receiver answered 410")
    messages = [store.outbox_take(60, None, ["default"]) for _ in range(2)]
    tasks = [task for message in messages if message for task in message.tasks]
    (told,) = [task for task in tasks if task.state == "notice"]
    assert told.cause == "1 ends could not be told to oncall: the receiver answered 410"
    assert told.cause in notify.body(Message("1", 1, tasks))["text"]


def test_a_message_is_tried_for_a_day(db):
    pauses = db.execute(
        "select unstuck.outbox_pause(n) as pause from generate_series(1, 40) n"
    ).fetchall()
    tried = [row["pause"] for row in pauses if row["pause"] is not None]
    assert sum(tried) == pytest.approx(86_400, rel=0.05)
    assert tried == sorted(tried)
    assert (tried[0], tried[-1]) == (30, 3600)


# the property


class KilledError(BaseException):
    """The process is gone: nothing of it runs any more."""


class Mortal:
    """A sender that dies at the `fatal`-th of its steps: before or after each call of the store,
    before or after each message."""

    def __init__(self, store: Store, receiver: "Receiver", fatal: int | None) -> None:
        self.store, self.receiver, self.fatal = store, receiver, fatal
        self.steps = count()

    def step(self) -> None:
        if next(self.steps) == self.fatal:
            raise KilledError

    def __getattr__(self, verb: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.step()
            answer = getattr(self.store, verb)(*arguments, **named)
            self.step()
            return answer

        return call

    def post(self, settings: Settings, message: Message, target: Any, timeout: float) -> str | None:
        self.step()
        error = self.receiver.take(message)
        self.receiver.unsure = message.message if error is None else None
        self.step()
        return error

    def send(self, policy: Policy) -> bool:
        """Whether it came to its end."""
        import time

        with patch.object(notify, "_post", self.post):
            try:
                notify.notify(self, policy, Settings.read(), time.monotonic() + 60)
            except KilledError:
                return False
        return True


class Receiver:
    def __init__(self, fate: random.Random) -> None:
        self.fate = fate
        self.healthy = False
        self.heard: dict[tuple[str, str], list[int]] = defaultdict(list)
        """By address and task: the numbers of the attempts in the order in which they came."""
        self.messages: Counter[str] = Counter()
        self.unsure: str | None = None

    def take(self, message: Message) -> str | None:
        if not self.healthy and self.fate.random() < 0.2:
            return "the receiver answered 503"
        self.messages[message.message] += 1
        for task in message.tasks:
            self.heard[message.address, task.task_id].append(task.number)
        return None


@pytest.mark.parametrize("seed", range(4))
def test_wherever_the_sender_dies_nothing_is_lost_and_at_most_one_message_is_repeated(
    store, db, policy, watch, seed, capsys
):
    fate = random.Random(seed)
    receiver = Receiver(fate)
    repeats: Counter[str] = Counter()
    open_tasks = [begun(store, watch, "film") for _ in range(6)]
    ended: dict[str, int] = defaultdict(int)
    for _ in range(25):
        if open_tasks and fate.random() < 0.6:
            task_id, token = open_tasks.pop(fate.randrange(len(open_tasks)))
            settle_as = fate.choice(["retry", "complete", "fail"])
            settled = store.settle(
                watch, task_id, token, settle_as, reason="handler_error", after=0
            )
            ended[task_id] += 1
            if settled.state == "pending":
                open_tasks.append((task_id, store.claim(watch, task_id, "worker").token))
        receiver.unsure = None
        if not Mortal(store, receiver, fate.randrange(12)).send(policy) and receiver.unsure:
            repeats[receiver.unsure] += 1
        pass_time(db, fate.choice([0, 1, LEASE_SECONDS + 1]))
    receiver.healthy = True
    for _ in range(12):
        pass_time(db, 3600)
        assert Mortal(store, receiver, None).send(policy)
    assert (
        db.execute("select from unstuck.outbox where outcome is distinct from 'sent'").fetchall()
        == []
    )
    for address in ("default", "books"):
        heard = {task: numbers for (to, task), numbers in receiver.heard.items() if to == address}
        assert {task: len(set(numbers)) for task, numbers in heard.items()} == dict(ended)
        for numbers in heard.values():
            assert numbers == sorted(numbers), "a retry is heard of before the end"
    for message, times in receiver.messages.items():
        assert times <= 1 + repeats[message]
    assert sum(receiver.messages.values()) <= len(receiver.messages) + repeats.total()


# the service that misses the sweep


@pytest.mark.parametrize("status", [200, 404])
def test_a_sweep_that_ended_well_says_so_to_a_service_outside(
    store, db, policy, monkeypatch, status
):
    monkeypatch.setenv("SWEEP_PING_URL", "https://checks.example/a-secret")
    with responses.RequestsMock() as wire:
        wire.get("https://checks.example/a-secret", status=status)
        assert sweep(store, policy).verdict == "ok"


def test_a_sweep_that_failed_does_not(store, db, policy, monkeypatch):
    monkeypatch.setenv("SWEEP_PING_URL", "https://checks.example/a-secret")
    with (
        responses.RequestsMock() as wire,
        patch.object(store, "prune", side_effect=RuntimeError("no")),
    ):
        assert sweep(store, policy).verdict == "error"
        assert len(wire.calls) == 0
