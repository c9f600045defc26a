"""The guard's decisions, one by one, with a store and a handler that say what the test wants. Real
faults are in faults/.

Then the child process and the thread in which handlers really run: what goes in, what comes out."""

import asyncio
import enum
import http.client
import json
import math
import os
import socket
import sys
import threading
import time
import urllib.error
from contextlib import contextmanager, suppress

import pytest
import requests
import urllib3

from functions.core.policy import DEFAULT, parse
from functions.core.states import Reason
from functions.entry.worker import status_of
from functions.errors import Fail, LeaseLostError, Retry, StoreError
from functions.worker import child, shutdown
from functions.worker import guard as guards
from functions.worker.child import Work, is_transient
from functions.worker.guard import _Attempt, guard
from functions.worker.handler_context import Job
from functions.worker.settle import Ending, complete
from tests.waiting import eventually

POLICY = parse(
    DEFAULT.read_text(encoding="utf-8")
    + f"""
      returns: {{handler: "{__name__}:returns", isolation: thread}}
      strict: {{on_error: fail}}
"""
)
WATCH = POLICY.watch()
CLAIMED = {
    "verdict": "claimed",
    "task_id": "1",
    "kind": "image",
    "state": "running",
    "token": "t",
    "number": 2,
    "tries": 2,
    "input": {},
    "rescued": None,
    "checkpoint": {},
}
RETRY = StoreError("the database is away", retryable=True)
REFUSED = StoreError("a check is violated", retryable=False, code="23514")


class FakeStore:
    """Answers each verb with what the test has put there; an exception is raised. `calls` are the
    verbs and their values."""

    def __init__(self, **answers):
        self.answers = {
            "claim": CLAIMED,
            "beat": {"verdict": "held"},
            "checkpoint": {"verdict": "held"},
        } | answers
        self.calls = []

    def __getattr__(self, verb):
        def answer(watch, *values, **named):
            self.calls.append((verb, *values, named))
            found = self.answers[verb]
            if isinstance(found, list):
                found = found.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        return answer

    def verbs(self):
        return [verb for verb, *_ in self.calls]


class FakeWork:
    def __init__(self, *messages):
        self.messages, self.answers = list(messages), []

    def receive(self, timeout):
        return self.messages.pop(0) if self.messages else None

    def answer(self, *answer):
        self.answers.append(answer)

    def memory(self):
        return 0


@pytest.fixture(autouse=True)
def nobody_asks_to_stop(monkeypatch):
    monkeypatch.setattr(shutdown, "requested", threading.Event())


@pytest.fixture
def log(capfd):
    return lambda: [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def attempt(kind="image", store=None, started=None):
    started = time.monotonic() if started is None else started
    return _Attempt(store or FakeStore(), POLICY, WATCH, CLAIMED | {"kind": kind}, started)


def take(*message, kind="image", most=0):
    return attempt(kind)._take(FakeWork(), message, most)


# -- what a message of the handler leads to


def test_a_result_completes_the_task():
    assert take("result", '{"a": [1, null]}') == Ending("complete", result={"a": [1, None]})


def test_progress_goes_on_and_is_sent_with_the_next_beat():
    one = attempt()
    assert one._take(FakeWork(), ("progress", {"fraction": 0.5}), 0) is None
    one.next_beat = 0
    assert one._beat_if_due() is None
    assert one.store.calls[-1][:4] == ("beat", "1", "t", {"fraction": 0.5})
    one.next_beat = 0
    one._beat_if_due()
    assert one.store.calls[-1][:4] == ("beat", "1", "t", None), (
        "the same progress is not sent twice"
    )


def test_a_checkpoint_is_written_before_the_handler_goes_on():
    one, work = attempt(), FakeWork()
    one.next_beat = 0
    assert one._take(work, ("checkpoint", "step", {"n": 1}), 0) is None
    assert one.store.calls[0][:5] == ("checkpoint", "1", "t", "step", {"n": 1})
    assert work.answers == [("checkpoint", "held")]
    assert one.next_beat > time.monotonic(), "a checkpoint is a beat too"


def test_a_checkpoint_of_a_lost_lease_ends_the_work():
    one, work = (
        attempt(store=FakeStore(checkpoint={"verdict": "lost", "reason": "deadline"})),
        FakeWork(),
    )
    assert one._take(work, ("checkpoint", "step", 1), 0) == Ending("lost", "deadline")
    assert work.answers == [("checkpoint", "lost")]


def test_a_checkpoint_that_the_database_cannot_take_now_is_tried_again_in_another_attempt():
    one = attempt(store=FakeStore(checkpoint=RETRY))
    ending = one._take(FakeWork(), ("checkpoint", "step", 1), 0)
    assert (ending.outcome, ending.reason) == ("retry", Reason.TRANSIENT)
    assert "step not written: the database is away" in ending.detail


@pytest.mark.parametrize(("kind", "outcome"), [("image", "retry"), ("strict", "fail")])
def test_a_checkpoint_that_the_database_refuses_is_the_handlers_error(kind, outcome):
    ending = attempt(kind, FakeStore(checkpoint=REFUSED))._take(
        FakeWork(), ("checkpoint", "step", 1), 0
    )
    assert (ending.outcome, ending.reason) == (outcome, Reason.HANDLER_ERROR)


@pytest.mark.parametrize(
    ("how", "reason", "outcome", "strict"),
    [
        ("retry", Reason.TRANSIENT, "retry", "retry"),
        ("fail", Reason.HANDLER_ERROR, "fail", "fail"),
        ("unknown", Reason.HANDLER_ERROR, "retry", "fail"),
        ("lost", Reason.OUT_OF_MEMORY, "retry", "retry"),
        ("lost", Reason.CRASHED, "retry", "retry"),
    ],
)
def test_an_error_ends_the_attempt_as_its_class_or_the_rule_says(how, reason, outcome, strict):
    for kind, expected in (("image", outcome), ("strict", strict)):
        ending = take("error", how, reason, "for the user", "for the operator", None, kind=kind)
        assert ending == Ending(expected, reason, "for the user", "for the operator")


def test_a_retry_may_say_when():
    assert take("error", "retry", Reason.TRANSIENT, "busy", "", 7.5).after == 7.5


def test_a_handler_that_heard_of_the_lost_lease_first_leaves_the_task_alone():
    assert take("error", "gone", Reason.LEASE_LOST, None, "", None) == Ending(
        "lost", Reason.LEASE_LOST
    )


@pytest.mark.parametrize(
    ("code", "most", "reason", "says"),
    [
        (3, 0, Reason.CRASHED, "exit code 3"),
        (0, 0, Reason.CRASHED, "exit code 0"),
        (None, 0, Reason.CRASHED, "exit code None"),
        (-11, 0, Reason.CRASHED, "signal 11"),
        (-9, 0, Reason.CRASHED, "signal 9"),
        (-9, 399_000_000, Reason.OUT_OF_MEMORY, "held 399000000 bytes"),
        (-11, 399_000_000, Reason.CRASHED, "signal 11"),
    ],
)
def test_a_child_that_is_gone_without_a_word_is_told_by_its_exit_code(code, most, reason, says):
    ending = take("gone", code, most=most)
    assert (ending.outcome, ending.reason) == ("retry", reason)
    assert says in ending.detail


@pytest.mark.parametrize("code", guards.KILLED_BY_TERM)
def test_a_child_that_the_same_sigterm_ended_burns_no_attempt(code):
    threading.Timer(
        0.05, shutdown.requested.set
    ).start()  # the signal reaches this process a little later
    assert take("gone", code) == Ending(
        "release", Reason.SHUTDOWN, detail="SIGTERM to the handler as well"
    )


def test_a_message_that_nobody_knows_ends_the_attempt():
    assert take("nonsense", 1).reason == Reason.CRASHED


# -- what the guard sees by itself


def test_sigterm_the_deadline_and_memory_end_the_work_in_this_order():
    one = attempt()
    assert one._look(0) is None
    assert one._look(WATCH.rule("image").memory) is None
    assert one._look(WATCH.rule("image").memory + 1).reason == Reason.OUT_OF_MEMORY
    one.deadline = time.monotonic()
    assert one._look(10**12).reason == Reason.DEADLINE
    shutdown.requested.set()
    assert one._look(10**12) == Ending("release", Reason.SHUTDOWN, detail="SIGTERM")


def test_the_deadline_is_the_rules_but_never_beyond_the_platforms():
    now = time.monotonic()
    assert attempt("selection").deadline == pytest.approx(now + 120, abs=1)
    most = POLICY.timeout - POLICY.margin
    assert attempt("selection", started=now - most + 10).deadline == pytest.approx(now + 10, abs=1)


def test_a_beat_is_sent_when_it_is_due_and_not_before():
    one = attempt()
    assert one._beat_if_due() is None
    assert one.store.calls == []
    one.next_beat = time.monotonic()
    one._beat_if_due()
    assert one.store.verbs() == ["beat"]
    assert one.next_beat == pytest.approx(time.monotonic() + POLICY.beat, abs=1)


def test_a_beat_of_a_lost_lease_ends_the_work():
    one = attempt(store=FakeStore(beat={"verdict": "lost", "reason": "lease_lost"}))
    one.next_beat = 0
    assert one._beat_if_due() == Ending("lost", "lease_lost")


def test_a_checkpoint_leaves_the_deadline_its_time_too():
    one = attempt()
    one.deadline = time.monotonic() + 1
    one._take(FakeWork(), ("checkpoint", "step", 1), 0)
    assert one.store.calls[0][5] <= 1, "the limit of the checkpoint"
    one.deadline = time.monotonic() + 100
    one._take(FakeWork(), ("checkpoint", "step", 1), 0)
    assert one.store.calls[1][5] == guards.BEAT_LIMIT < POLICY.beat


@pytest.mark.parametrize(("error", "kept"), [(RETRY, True), (REFUSED, False)])
def test_a_beat_that_fails_is_soon_repeated_without_what_the_database_refuses(error, kept, log):
    one = attempt(store=FakeStore(beat=error))
    one.progress = {"fraction": 0.5}
    one.next_beat = 0
    assert one._beat_if_due() is None
    assert one.next_beat - time.monotonic() <= 1
    assert (one.progress is not None) is kept
    assert [line["event"] for line in log()] == ["beat_failed"]


def test_a_beat_leaves_the_deadline_its_time():
    one = attempt()
    one.next_beat = 0
    one.deadline = time.monotonic() + 1
    one._beat_if_due()
    assert one.store.calls[0][4] <= 1, "the limit of the beat"


def test_messages_without_end_keep_the_guard_neither_from_its_deadline_nor_from_its_beats():
    one = attempt()
    one.next_beat = 0
    one.deadline = time.monotonic() + 0.05
    flood = FakeWork()
    flood.receive = lambda timeout: ("progress", {})
    assert one._watch_over(flood).reason == Reason.DEADLINE
    assert "beat" in one.store.verbs()


def test_the_final_write_has_what_the_platform_leaves_and_less_on_sigterm():
    now = time.monotonic()
    assert attempt(started=now - 500).time_to_settle() == pytest.approx(98, abs=1)
    assert attempt(started=now - 10_000).time_to_settle() == 5
    shutdown.requested.set()
    assert attempt(started=now - 10).time_to_settle() < 8, "Cloud Run grants 10 s"


# -- how an attempt ends


def settled(state="completed", **more):
    return {
        "verdict": "settled",
        "state": state,
        "reason": None,
        "number": 2,
        "tries": 2,
        "retry_after": None,
    } | more


def test_a_task_runs_from_its_claim_to_its_end(log):
    store = FakeStore(claim=CLAIMED | {"kind": "returns"}, settle=settled())
    answer = guard(store, POLICY, WATCH, "1")
    assert (answer["verdict"], answer["state"]) == ("settled", "completed")
    assert store.verbs() == ["claim", "settle"]
    assert store.calls[-1][1:4] == ("1", "t", "complete")
    assert store.calls[-1][-1]["result"] == {"attempt": 2}
    assert [line["event"] for line in log()] == ["task_claimed", "task_finished"]


@pytest.mark.parametrize("verdict", ["held", "early", "ended", "resting", "missing", "none"])
def test_a_task_that_is_not_claimed_is_left_alone(verdict):
    store = FakeStore(claim={"verdict": verdict, "retry_after": 60})
    assert guard(store, POLICY, WATCH, "1")["verdict"] == verdict
    assert store.verbs() == ["claim"]


def test_a_push_that_comes_a_little_early_waits_for_its_time():
    store = FakeStore(
        claim=[{"verdict": "early", "retry_after": 0.01}, CLAIMED | {"kind": "returns"}],
        settle=settled(),
    )
    assert guard(store, POLICY, WATCH, "1")["state"] == "completed"
    assert store.verbs() == ["claim", "claim", "settle"]


def test_a_claim_that_cannot_reach_the_database_is_the_callers_to_hear():
    with pytest.raises(StoreError):
        guard(FakeStore(claim=RETRY), POLICY, WATCH, "1")


@pytest.mark.parametrize(
    "kind",
    ["image:_base", "image:requests", "selection:handle:x", "", "..", "image.x", "no_such_kind"],
)
def test_a_kind_names_a_module_of_the_handlers_and_nothing_else(kind):
    """In an adopted table whoever inserts rows chooses their kind."""
    store = FakeStore(claim=CLAIMED | {"kind": kind}, settle=settled("failed"))
    guard(store, POLICY, WATCH, "1")
    assert store.calls[-1][3] == "fail"
    assert store.calls[-1][-1]["error"] == "This kind of task cannot be done here."


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("no process left")])
def test_a_guard_that_fails_itself_still_ends_the_attempt(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(guards, "Work", fails)
    store = FakeStore(settle=settled("pending", reason="crashed", retry_after=2))
    assert guard(store, POLICY, WATCH, "1")["state"] == "pending"
    assert store.calls[-1][3] == "retry"
    assert store.calls[-1][-1]["reason"] == Reason.CRASHED
    assert repr(error) in store.calls[-1][-1]["detail"]


def test_even_the_exit_of_the_worker_settles_first(monkeypatch):
    """The sync worker of gunicorn worker raises SystemExit in the request when its time is over."""

    def exits(*_):
        raise SystemExit(1)

    monkeypatch.setattr(guards, "Work", exits)
    store = FakeStore(settle=settled("pending"))
    with pytest.raises(SystemExit):
        guard(store, POLICY, WATCH, "1")
    assert store.verbs() == ["claim", "settle"]


def finish(ending, **answers):
    store = FakeStore(**answers)
    return store, complete(store, WATCH, CLAIMED, ending, seconds=0.1, limit=5.0)


def test_a_lost_attempt_writes_nothing(log):
    store, answer = finish(Ending("lost", "lease_lost"))
    assert (answer, store.calls) == ({"verdict": "lost"}, [])
    assert [line["event"] for line in log()] == ["lease_lost"]


def test_a_result_that_comes_too_late_is_lost(log):
    _, answer = finish(
        Ending("complete", result=1), settle={"verdict": "lost", "reason": "deadline"}
    )
    assert answer["verdict"] == "lost"
    [line] = log()
    assert (line["event"], line["wanted"], line["reason"]) == ("lease_lost", "complete", "deadline")


def test_an_end_that_cannot_be_written_is_left_to_the_sweep_and_said(log):
    _, answer = finish(Ending("complete", result=1), settle=RETRY)
    assert answer == {"verdict": "unwritten"}
    [line] = log()
    assert (line["event"], line["severity"], line["wanted"]) == (
        "settle_failed",
        "ERROR",
        "complete",
    )


def test_a_result_that_the_database_refuses_fails_the_task():
    store, answer = finish(Ending("complete", result="\0"), settle=[REFUSED, settled("failed")])
    assert answer["state"] == "failed"
    _, _, _, outcome, named = store.calls[-1]
    assert (outcome, named["reason"], named["result"]) == ("fail", Reason.HANDLER_ERROR, None)
    assert (named["error"], named["detail"]) == (
        "The result could not be stored.",
        "23514: a check is violated",
    )


def test_a_failure_that_the_database_refuses_is_not_repeated_for_ever():
    store, answer = finish(Ending("fail", "handler_error"), settle=REFUSED)
    assert (answer, store.verbs()) == ({"verdict": "unwritten"}, ["settle"])


@pytest.mark.parametrize(
    ("said", "written"),
    [("a\0b", "a\\0b"), ("\ud800", "?"), ("x" * 100_000, "x" * 8000), ("", None), (None, None)],
)
def test_an_error_text_is_cut_to_what_can_be_stored(said, written):
    store, _ = finish(Ending("fail", "handler_error", said, said), settle=settled("failed"))
    named = store.calls[-1][-1]
    assert (named["error"], named["detail"]) == (written, written)


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, None), (7, 7), (-3, 0), (1e9, 86400), (math.inf, 86400), (math.nan, 0)],
)
def test_a_delay_that_a_handler_asks_for_is_bounded(asked, given):
    store, _ = finish(Ending("retry", "transient", after=asked), settle=settled("pending"))
    assert store.calls[-1][-1]["after"] == given


@pytest.mark.parametrize(("wait", "delay"), [(60.5, 60.5), (None, 0.0)])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_task_that_is_pending_again_is_pushed_as_the_next_attempt(
    monkeypatch, wait, delay, accepted
):
    pushes = []
    monkeypatch.setattr(
        "functions.worker.settle.push", lambda *push: pushes.append(push) or accepted
    )
    _, answer = finish(Ending("retry", "transient"), settle=settled("pending", retry_after=wait))
    assert pushes == [("tasks", "1", 3, delay)]
    assert answer["pushed"] is accepted


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_task_at_its_end_is_not_pushed(monkeypatch, state):
    monkeypatch.setattr("functions.worker.settle.push", pytest.fail)
    _, answer = finish(Ending("complete"), settle=settled(state))
    assert "pushed" not in answer


def test_the_log_says_why_a_task_that_has_no_attempts_left_failed(log):
    finish(Ending("retry", Reason.CRASHED), settle=settled("failed", reason="attempts_exhausted"))
    [line] = log()
    assert (line["reason"], line["cause"], line["severity"]) == (
        "attempts_exhausted",
        "crashed",
        "WARNING",
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (settled("completed"), 200),
        (settled("failed", reason="handler_error"), 200),
        (settled("pending", reason="transient", pushed=True), 200),
        (settled("pending", reason="transient", pushed=False), 503),
        (settled("pending", reason="shutdown", pushed=True), 503),
        ({"verdict": "lost"}, 200),
        ({"verdict": "ended"}, 200),
        ({"verdict": "resting"}, 200),
        ({"verdict": "missing"}, 404),
        ({"verdict": "held"}, 409),
        ({"verdict": "early"}, 409),
        ({"verdict": "unwritten"}, 503),
        ({"verdict": "none"}, 503),
        ({"verdict": "something new"}, 503),
    ],
)
def test_the_answer_tells_the_queue_the_truth(answer, status):
    assert status_of(answer) == status


# -- which errors pass


def named(module, name, parent=Exception):
    """An error of a library that is not installed here."""
    return type(name, (parent,), {"__module__": module})


HTTPX = named("httpx", "ReadTimeout", named("httpx", "TransportError"))
AIOHTTP = named(
    "aiohttp.client_exceptions",
    "ServerDisconnectedError",
    named("aiohttp.client_exceptions", "ClientConnectionError"),
)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        BrokenPipeError(),
        socket.gaierror(),
        requests.Timeout(),
        requests.ReadTimeout(),
        requests.ConnectionError(),
        requests.exceptions.SSLError(),
        requests.exceptions.ChunkedEncodingError(),
        urllib3.exceptions.ProtocolError(),
        http.client.RemoteDisconnected(),
        http.client.IncompleteRead(b""),
        urllib.error.URLError(ConnectionRefusedError()),
        HTTPX(),
        AIOHTTP(),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_timeouts_and_broken_connections_pass(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        OSError("no space"),
        FileNotFoundError(),
        requests.HTTPError(),
        requests.exceptions.InvalidURL(),
        requests.exceptions.JSONDecodeError("", "", 0),
        urllib.error.URLError("unknown url type"),
        urllib.error.URLError(FileNotFoundError()),
        UnicodeDecodeError("utf-8", b"", 0, 1, "why"),
        MemoryError(),
        named("somebody.elses", "Timeout")(),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_other_errors_do_not_pass_by_themselves(error):
    assert not is_transient(error)


# -- where handlers run: the same in a thread and in a process


def returns(ctx, task_input):
    return {"attempt": ctx.attempt}


async def returns_later(ctx, task_input):
    await asyncio.sleep(0)
    return task_input


def says_who(ctx, task_input):
    return [
        ctx.task_id,
        ctx.kind,
        ctx.attempt,
        os.getpid(),
        os.getppid(),
        0 < ctx.remaining() <= 10,
        ctx.cancelled(),
    ]


def asks_again(ctx, task_input):
    raise Retry("busy", detail="429", after=3)


def gives_up(ctx, task_input):
    raise Fail("impossible", detail="400")


class Busy(Retry):
    def __init__(self):
        """Without its parent's."""


def asks_again_its_way(ctx, task_input):
    raise Busy


def asks_again_with_an_error(ctx, task_input):
    raise Retry(ValueError("busy"))


def asks_for_a_strange_time(ctx, task_input):
    raise Retry("busy", after="soon")


def breaks(ctx, task_input):
    raise ValueError("a bug \ud800 of the handler")


async def breaks_later(ctx, task_input):
    raise ValueError("a bug")


def loses_the_connection(ctx, task_input):
    raise requests.ConnectionError("reset")


def is_greedy(ctx, task_input):
    raise MemoryError


def dies(ctx, task_input):
    os._exit(7)


def leaves(ctx, task_input):
    sys.exit(3)


async def cancels_itself(ctx, task_input):
    raise asyncio.CancelledError


def returns_a_set(ctx, task_input):
    return {1, 2}


def returns_itself(ctx, task_input):
    found = []
    found.append(found)
    return found


def saves(ctx, task_input):
    before = ctx.done("first"), ctx.done("second")
    ctx.checkpoint("second", {"n": (1, 2)})
    ctx.checkpoint("third")
    return [*before, ctx.done("second"), ctx.done("third")]


class Word(str, enum.Enum):  # noqa: UP042 - a class that JSON knows and the guard does not
    ONE = "one"


def saves_its_own_classes(ctx, task_input):
    ctx.progress(1.0, "done", word=Word.ONE)
    ctx.checkpoint("word", {Word.ONE: Word.ONE})
    return type(ctx.done("word")["one"]).__name__


def saves_a_set(ctx, task_input):
    ctx.checkpoint("set", {1, 2})


def saves_nan(ctx, task_input):
    ctx.checkpoint("nan", math.nan)


def tells_nan(ctx, task_input):
    ctx.progress(math.nan)


def saves_from_many_threads(ctx, task_input):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ctx.checkpoint(f"step {n}", n), range(40)))
    return sum(ctx.done(f"step {n}") for n in range(40))


def works_for_ever(ctx, task_input):
    ctx.progress(0.0)
    while True:
        time.sleep(0.01)


def ignores_errors(ctx, task_input):
    try:
        ctx.checkpoint("first")
    except Exception:  # noqa: BLE001 - what handlers do
        return "swallowed"


def begin(handler, isolation, *, checkpoints=None, task_input=None):
    name = handler if isinstance(handler, str) else f"{__name__}:{handler.__name__}"
    return Work(
        Job(name, "task-1", "image", 2, task_input, checkpoints or {}, 10.0, 400_000_000), isolation
    )


def hear(work, answer="held"):
    """All messages to the last, checkpoints answered with `answer`."""
    messages = []
    try:
        while not messages or messages[-1][0] not in {"result", "error", "gone"}:
            messages.append(eventually(lambda: work.receive(1), 20))
            if messages[-1][0] == "checkpoint":
                work.answer("checkpoint", answer)
    finally:
        work.end()
    return messages


def said(handler, isolation="thread", **more):
    return hear(begin(handler, isolation, **more))[-1]


both = pytest.mark.parametrize("isolation", ["thread", "process"])


@both
@pytest.mark.parametrize(
    ("handler", "task_input"), [(returns, {"attempt": 2}), (returns_later, {"attempt": 2})]
)
def test_a_handlers_result_comes_back_as_json(isolation, handler, task_input):
    assert said(handler, isolation, task_input=task_input) == ("result", '{"attempt": 2}')


def test_a_handler_runs_in_a_process_of_its_own_or_in_a_thread_of_ours():
    for where, inside in (("thread", True), ("process", False)):
        word, text = said(says_who, where)
        *who, pid, parent, remaining, cancelled = json.loads(text)
        assert (word, who, remaining, cancelled) == ("result", ["task-1", "image", 2], True, False)
        assert (pid == os.getpid()) is inside
        assert (parent != os.getpid()) or inside, "the forkserver's child"


@both
def test_checkpoints_of_earlier_attempts_are_there_and_new_ones_are_saved_in_order(isolation):
    messages = hear(begin(saves, isolation, checkpoints={"first": 1}))
    assert messages[:2] == [("checkpoint", "second", {"n": [1, 2]}), ("checkpoint", "third", True)]
    assert json.loads(messages[2][1]) == [1, None, {"n": [1, 2]}, True]


@both
def test_a_checkpoint_of_a_lost_lease_stops_the_handler_even_if_it_swallows_errors(isolation):
    messages = hear(begin(ignores_errors, isolation), answer="lost")
    assert messages[-1][:3] == ("error", "gone", Reason.LEASE_LOST)


def test_what_a_handler_saves_and_tells_reaches_the_guard_without_its_classes():
    progress, checkpoint, result = hear(begin(saves_its_own_classes, "thread"))
    assert {type(one) for one in progress[1].values()} == {float, str}
    assert (checkpoint, type(checkpoint[2]["one"])) == (("checkpoint", "word", {"one": "one"}), str)
    assert result == ("result", '"str"')


def test_checkpoints_of_many_threads_each_wait_for_their_own_answer():
    messages = hear(begin(saves_from_many_threads, "thread"))
    assert len(messages) == 41
    assert messages[-1] == ("result", str(sum(range(40))))


@pytest.mark.parametrize(
    ("handler", "how", "reason", "error", "after"),
    [
        (asks_again, "retry", Reason.TRANSIENT, "busy", 3),
        (asks_again_its_way, "retry", Reason.TRANSIENT, "", None),
        (asks_again_with_an_error, "retry", Reason.TRANSIENT, "busy", None),
        (asks_for_a_strange_time, "unknown", Reason.HANDLER_ERROR, None, None),
        (gives_up, "fail", Reason.HANDLER_ERROR, "impossible", None),
        (breaks, "unknown", Reason.HANDLER_ERROR, None, None),
        (breaks_later, "unknown", Reason.HANDLER_ERROR, None, None),
        (loses_the_connection, "retry", Reason.TRANSIENT, None, None),
        (is_greedy, "lost", Reason.OUT_OF_MEMORY, None, None),
        (leaves, "lost", Reason.CRASHED, None, None),
        (cancels_itself, "lost", Reason.CRASHED, None, None),
        (returns_a_set, "unknown", Reason.HANDLER_ERROR, None, None),
        (returns_itself, "unknown", Reason.HANDLER_ERROR, None, None),
        (saves_a_set, "unknown", Reason.HANDLER_ERROR, None, None),
        (saves_nan, "unknown", Reason.HANDLER_ERROR, None, None),
        (tells_nan, "unknown", Reason.HANDLER_ERROR, None, None),
        (
            "tests.no_such_module:handle",
            "fail",
            Reason.HANDLER_ERROR,
            "This kind of task cannot be done here.",
            None,
        ),
        (
            f"{__name__}:no_such_function",
            "fail",
            Reason.HANDLER_ERROR,
            "This kind of task cannot be done here.",
            None,
        ),
        (f"{__name__}:POLICY", "unknown", Reason.HANDLER_ERROR, None, None),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_whatever_a_handler_raises_is_told_by_its_class(handler, how, reason, error, after):
    word, found, why, message, detail, when = said(handler)
    assert (word, found, why, message, when) == ("error", how, reason, error, after)
    assert detail, "the operator is told something"


@pytest.mark.parametrize("handler", [breaks, leaves, is_greedy, returns_a_set])
def test_a_process_tells_it_as_a_thread_does(handler):
    assert said(handler, "process")[:3] == said(handler)[:3]


def test_a_detail_of_the_operator_ends_with_what_was_raised_and_names_the_line():
    detail = said(breaks)[4]
    assert "in breaks" in detail
    assert "a bug" in detail.splitlines()[-1]


@contextmanager
def at_work(isolation):
    """A handler that is at work, until the block ends or the test ends it."""
    work = begin(works_for_ever, isolation)
    try:
        assert eventually(lambda: work.receive(1), 20)[0] == "progress"
        yield work
    finally:
        with suppress(ValueError):  # of a process that was ended
            work.end()


def test_the_memory_of_a_process_is_known_and_that_of_a_thread_is_not():
    with at_work("thread") as thread, at_work("process") as process:
        assert thread.memory() == 0
        assert 5_000_000 < process.memory() < 400_000_000


def test_a_process_is_ended_at_once_and_nothing_is_left():
    with at_work("process") as work:
        pid = work._process.pid
        work.end()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_thread_that_runs_python_code_ends_when_it_is_asked_to():
    with at_work("thread") as work:
        work.end()
        eventually(lambda: not work._thread.is_alive())


def test_a_lost_lease_is_not_an_exception_that_handlers_catch():
    assert not issubclass(LeaseLostError, Exception)


def test_a_process_that_dies_without_a_word_is_told_with_its_exit_code():
    assert said(dies, "process") == ("gone", 7)


def test_the_module_of_main_is_not_imported_again_in_each_child():
    before = vars(sys.modules["__main__"]).copy()
    with child._main_hidden():
        assert not hasattr(sys.modules["__main__"], "__file__")
    after = vars(sys.modules["__main__"])
    assert {name: after.get(name) for name in ("__file__", "__spec__")} == {
        name: before.get(name) for name in ("__file__", "__spec__")
    }
