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
from types import SimpleNamespace

import pytest
import requests
import urllib3

from functions.core.answers import Claimed, ClaimRefusal, Held, Lost, NotClaimed, Settled
from functions.core.dispatch import NoDispatch
from functions.core.policy import DEFAULT, parse
from functions.core.record import replace
from functions.core.states import Reason, SettleAs, State
from functions.entry.worker import ShuttingDown, status_of
from functions.errors import Fail, LeaseLostError, Retry, StoreError
from functions.worker import guard as guards
from functions.worker import lease_clock, shutdown
from functions.worker.child import EXIT_SECONDS, Work, is_transient
from functions.worker.guard import LEAST_END_SECONDS, Unwritten, _Attempt, guard
from functions.worker.messages import (
    Begin,
    Cancel,
    Checkpoint,
    CheckpointAnswer,
    Exited,
    Failed,
    Job,
    LastMessage,
    Progress,
    Ready,
    Result,
    Stopped,
)
from functions.worker.settle import AttemptEnd, settle
from tests.waiting import eventually
from tests.worker import first_message, next_message

POLICY = parse(
    DEFAULT.read_text(encoding="utf-8")
    + f"""
      returns: {{handler: "{__name__}:returns", isolation: thread}}
      strict: {{on_error: fail}}
      mail: {{on_lost: uncertain}}
      fragile: {{on_lost: fail}}
"""
)
WATCH = POLICY.watch()
CLAIMED = Claimed("1", "image", State.RUNNING, "t", 2, 2, {}, {})
RETRY = StoreError("the database is away", retryable=True)
REFUSED = StoreError("a check is violated", retryable=False, code="23514")


class FakeStore:
    """Answers each verb with what the test has put there; an exception is raised. `calls` are the
    verbs and their values."""

    def __init__(self, **answers):
        self.answers = {"claim": CLAIMED, "beat": Held(), "checkpoint": Held()} | answers
        self.calls = []

    def __getattr__(self, verb):
        def answer(watch, *values, **named):
            self.calls.append((verb, *values, named))
            result = self.answers[verb]
            if isinstance(result, list):
                result = result.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        return answer

    def verbs(self):
        return [verb for verb, *_ in self.calls]


class FakeWork:
    def __init__(self, *messages):
        self.messages, self.sent = list(messages), []

    def receive(self, timeout):
        return self.messages.pop(0) if self.messages else None

    def send(self, message):
        self.sent.append(message)

    def memory(self):
        return 0


@pytest.fixture(autouse=True)
def nobody_asks_to_stop(monkeypatch):
    monkeypatch.setattr(shutdown, "requested", shutdown.Request())


@pytest.fixture
def log(capfd):
    return lambda: [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def claimed(kind):
    return Claimed(**vars(CLAIMED) | {"kind": kind})


def attempt(kind="image", store=None, started=None, *, begun=True):
    started = time.monotonic() if started is None else started
    held = _Attempt(
        store or FakeStore(), POLICY, NoDispatch(), WATCH, claimed(kind), started, lease_clock.now()
    )
    held.begun = begun
    return held


def take(message, kind="image", most_memory=0, *, begun=True):
    return attempt(kind, begun=begun)._take(FakeWork(), message, most_memory)


# -- what a message of the handler leads to


def test_a_result_completes_the_task():
    assert take(Result('{"a": [1, null]}')) == AttemptEnd(
        SettleAs.COMPLETE, result={"a": [1, None]}
    )


def test_progress_goes_on_and_is_sent_with_the_next_beat():
    one = attempt()
    assert one._take(FakeWork(), Progress({"fraction": 0.5}), 0) is None
    one.next_beat = 0
    assert one._beat_if_due(FakeWork()) is None
    assert one.store.calls[-1][:4] == ("beat", "1", "t", {"fraction": 0.5})
    one.next_beat = 0
    one._beat_if_due(FakeWork())
    assert one.store.calls[-1][:4] == ("beat", "1", "t", None), (
        "the same progress is not sent twice"
    )


def test_a_checkpoint_is_written_before_the_handler_goes_on():
    one, work = attempt(), FakeWork()
    one.next_beat = 0
    assert one._take(work, Checkpoint("step", {"n": 1}), 0) is None
    assert one.store.calls[0][:5] == ("checkpoint", "1", "t", "step", {"n": 1})
    assert work.sent == [CheckpointAnswer(held=True)]
    assert one.next_beat > time.monotonic(), "a checkpoint is a beat too"


def test_a_checkpoint_of_a_lost_lease_ends_the_work():
    one, work = (attempt(store=FakeStore(checkpoint=Lost(reason="deadline"))), FakeWork())
    assert one._take(work, Checkpoint("step", 1), 0) == Lost(reason="deadline")
    assert work.sent == [CheckpointAnswer(held=False)]


def test_a_checkpoint_is_asked_again_like_a_beat_until_the_database_is_back(log):
    one, work = attempt(store=FakeStore(checkpoint=[RETRY, RETRY, Held()])), FakeWork()
    assert one._take(work, Checkpoint("step", {"n": 1}), 0) is None
    for written in (False, True):
        assert work.sent == [], "the handler waits"
        assert 0 < one.next_beat - time.monotonic() <= 1
        one.next_beat = 0
        assert one._beat_if_due(work) is None
        assert (one.waiting_step is None) is written
    assert work.sent == [CheckpointAnswer(held=True)]
    assert [call[:5] for call in one.store.calls] == [
        ("checkpoint", "1", "t", "step", {"n": 1})
    ] * 3
    assert [line["event"] for line in log()] == ["beat_failed"] * 2


def test_a_checkpoint_that_waits_ends_its_attempt_at_the_deadline_and_says_so():
    one = attempt(store=FakeStore(checkpoint=RETRY))
    one._take(FakeWork(), Checkpoint("step", 1), 0)
    one.deadline = 0
    ending = one._end_by_limits(0)
    assert (ending.settle_as, ending.reason) == ("retry", Reason.DEADLINE)
    assert "checkpoint step was not written yet" in ending.detail


def test_data_that_the_database_refuses_is_the_error_of_the_line_that_saved_it():
    one, work = attempt(store=FakeStore(checkpoint=REFUSED)), FakeWork()
    assert one._take(work, Checkpoint("step", 1), 0) is None
    assert work.sent == [
        CheckpointAnswer(held=True, error="checkpoint step not stored: a check is violated")
    ]
    assert one.waiting_step is None


@pytest.mark.parametrize(
    ("settle_as", "reason", "image", "strict"),
    [
        (SettleAs.RETRY, Reason.TRANSIENT, SettleAs.RETRY, SettleAs.RETRY),
        (SettleAs.FAIL, Reason.HANDLER_ERROR, SettleAs.FAIL, SettleAs.FAIL),
        (None, Reason.HANDLER_ERROR, SettleAs.RETRY, SettleAs.FAIL),
        (None, Reason.TRANSIENT, SettleAs.RETRY, SettleAs.RETRY),
    ],
)
def test_an_error_ends_the_attempt_as_its_class_or_the_rule_says(settle_as, reason, image, strict):
    failure = Failed(settle_as, reason, "for the user", "for the operator")
    for kind, expected in (("image", image), ("strict", strict)):
        ending = AttemptEnd(expected, reason, "for the user", "for the operator")
        assert take(failure, kind=kind) == ending


def test_a_request_without_an_answer_is_uncertain_where_a_second_one_could_do_it_twice():
    failure = Failed(None, Reason.TRANSIENT, None, "a timeout")
    assert take(failure, "mail") == AttemptEnd(SettleAs.FAIL, Reason.UNCERTAIN, detail="a timeout")
    assert take(failure, "mail", begun=False).settle_as is SettleAs.RETRY, "of an import"
    retry = Failed(SettleAs.RETRY, Reason.TRANSIENT, "busy", "429")
    assert take(retry, "mail").settle_as is SettleAs.RETRY, "the handler's own word"


@pytest.mark.parametrize("reason", [Reason.CRASHED, Reason.OUT_OF_MEMORY])
@pytest.mark.parametrize(("begun", "expected"), [(True, "retry"), (False, "return")])
def test_an_exit_or_a_lack_of_memory_is_a_loss_only_once_the_handler_has_begun(
    reason, begun, expected
):
    ending = take(Failed(SettleAs.RETRY, reason, None, "why"), begun=begun)
    assert (ending.settle_as, ending.reason) == (expected, reason)
    assert ending.detail.endswith("why")


def test_a_retry_may_say_when():
    assert take(Failed(SettleAs.RETRY, Reason.TRANSIENT, "busy", "", 7.5)).after == 7.5


def test_a_handler_that_heard_of_the_lost_lease_first_leaves_the_task_alone():
    assert take(Stopped()) == Lost(reason=Reason.LEASE_LOST)


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
def test_a_child_that_exits_without_a_last_message_is_judged_by_its_exit_code(
    code, most, reason, says
):
    ending = take(Exited(code), most_memory=most)
    assert (ending.settle_as, ending.reason) == ("retry", reason)
    assert says in ending.detail


@pytest.mark.parametrize("code", guards.SIGTERM_EXIT_CODES)
def test_a_child_that_the_same_sigterm_ended_burns_no_attempt(code):
    threading.Timer(
        0.05, shutdown.requested.set
    ).start()  # the signal reaches this process a little later
    assert take(Exited(code)) == AttemptEnd(
        SettleAs.RELEASE, Reason.SHUTDOWN, detail="SIGTERM to the handler as well"
    )


def test_a_message_that_nobody_knows_is_a_failure_of_the_guard():
    with pytest.raises(AssertionError):
        take("nonsense")


# -- what the guard sees by itself


def test_sigterm_the_deadline_and_memory_end_the_work_in_this_order():
    one = attempt()
    assert one._end_by_limits(0) is None
    assert one._end_by_limits(WATCH.rule("image").memory) is None
    assert one._end_by_limits(WATCH.rule("image").memory + 1).reason == Reason.OUT_OF_MEMORY
    one.deadline = time.monotonic()
    assert one._end_by_limits(10**12).reason == Reason.DEADLINE
    shutdown.requested.set()
    assert one._end_by_limits(10**12) == AttemptEnd(
        SettleAs.RELEASE, Reason.SHUTDOWN, detail="SIGTERM"
    )


def test_the_deadline_is_the_rules_but_never_beyond_the_platforms():
    now = time.monotonic()
    assert attempt("selection").deadline == pytest.approx(now + 120, abs=1)
    most = POLICY.timeout - POLICY.margin
    assert attempt("selection", started=now - most + 10).deadline == pytest.approx(now + 10, abs=1)


def test_a_beat_is_sent_when_it_is_due_and_not_before():
    one = attempt()
    assert one._beat_if_due(FakeWork()) is None
    assert one.store.calls == []
    one.next_beat = time.monotonic()
    one._beat_if_due(FakeWork())
    assert one.store.verbs() == ["beat"]
    assert one.next_beat == pytest.approx(time.monotonic() + POLICY.beat, abs=1)


def test_a_beat_of_a_lost_lease_ends_the_work():
    one = attempt(store=FakeStore(beat=Lost(reason="lease_lost")))
    one.next_beat = 0
    assert one._beat_if_due(FakeWork()) == Lost(reason="lease_lost")


def test_a_checkpoint_leaves_the_deadline_its_time_too():
    one = attempt()
    one.deadline = time.monotonic() + 1
    one._take(FakeWork(), Checkpoint("step", 1), 0)
    assert one.store.calls[0][5] <= 1, "the timeout of the checkpoint"
    one.deadline = time.monotonic() + 100
    one._take(FakeWork(), Checkpoint("step", 1), 0)
    assert one.store.calls[1][5] == guards.BEAT_TIMEOUT_SECONDS < POLICY.beat


@pytest.mark.parametrize(("error", "kept"), [(RETRY, True), (REFUSED, False)])
def test_a_beat_that_fails_is_soon_repeated_without_what_the_database_refuses(error, kept, log):
    one = attempt(store=FakeStore(beat=error))
    one.progress = {"fraction": 0.5}
    one.next_beat = 0
    assert one._beat_if_due(FakeWork()) is None
    assert one.next_beat - time.monotonic() <= 1
    assert (one.progress is not None) is kept
    assert [line["event"] for line in log()] == ["beat_failed"]


def test_a_beat_leaves_the_deadline_its_time():
    one = attempt()
    one.next_beat = 0
    one.deadline = time.monotonic() + 1
    one._beat_if_due(FakeWork())
    assert one.store.calls[0][4] <= 1, "the timeout of the beat"


def test_messages_without_end_keep_the_guard_neither_from_its_deadline_nor_from_its_beats():
    one = attempt()
    one.next_beat = 0
    one.deadline = time.monotonic() + 0.05
    flood = FakeWork()
    flood.receive = lambda timeout: Progress({})
    assert one._watch_over(flood).reason == Reason.DEADLINE
    assert "beat" in one.store.verbs()


def test_a_flood_of_messages_is_taken_without_a_look_at_the_limits_for_each():
    """A look measures the memory of all processes, which takes longer than most messages."""
    one = attempt()
    flood = FakeWork(*[Progress({})] * 1000, Result("1"))
    looks = []
    flood.memory = lambda: looks.append(1) or 0
    assert one._watch_over(flood).settle_as is SettleAs.COMPLETE
    assert len(looks) < 100


def test_an_error_after_sigterm_is_taken_for_a_part_of_the_shutdown():
    """Whoever signals each process ends the programs of the handler as well."""
    shutdown.requested.set()
    error = Failed(None, Reason.HANDLER_ERROR, None, "ffmpeg was killed")
    for kind in ("image", "mail", "fragile"):
        end = take(error, kind)
        assert (end.settle_as, end.reason) == (SettleAs.RELEASE, Reason.SHUTDOWN)
    own_word = Failed(SettleAs.FAIL, Reason.HANDLER_ERROR, "No.", "")
    assert take(own_word, "mail").settle_as is SettleAs.FAIL


def test_before_the_handler_begins_every_end_is_free_of_loss():
    one = attempt("mail", begun=False)
    one.deadline = 0
    assert one._end_by_limits(0).settle_as is SettleAs.RETURN
    assert take(Exited(3), "mail", begun=False).settle_as is SettleAs.RETURN
    shutdown.requested.set()
    ending = one._end_by_limits(0)
    assert (ending.settle_as, ending.reason) == ("return", Reason.SHUTDOWN)


@pytest.mark.parametrize("kind", ["mail", "fragile"])
def test_sigterm_lets_a_handler_that_must_not_be_repeated_finish_while_time_is_left(
    kind, monkeypatch
):
    one, work = attempt(kind), FakeWork()
    shutdown.requested.set()
    assert one._end_by_limits(0) is None
    one._cancel_if_shut_down(work)
    one._cancel_if_shut_down(work)
    assert work.sent == [Cancel()], "it may stop by itself"
    assert one._beat_timeout() <= guards.FINISH_SECONDS
    monkeypatch.setattr(shutdown.requested, "_at", time.monotonic() - guards.FINISH_SECONDS)
    ending = one._end_by_limits(0)
    assert (ending.settle_as, ending.reason) == ("release", Reason.SHUTDOWN)
    assert 3 < one._time_to_settle() < 5, "the platform grants 10 s in all"


def test_a_handler_begins_by_the_guards_word_which_holds_until_the_lease_may_have_passed():
    one, work = attempt(begun=False), FakeWork()
    one._begin_if_certain(work)
    assert (one.begun, work.sent) == (False, []), "it is not ready yet"
    one._take(work, Ready(), 0)
    one._begin_if_certain(work)
    assert one.begun
    assert work.sent == [Begin(until=one.contact + POLICY.lease)]
    assert one.store.verbs() == [], "the claim has only just been answered"


def test_a_guard_that_has_waited_asks_before_the_handler_begins():
    one, work = attempt(begun=False), FakeWork()
    one.contact -= POLICY.lease
    one._take(work, Ready(), 0)
    one._begin_if_certain(work)
    assert not one.begun
    assert one._beat_if_due(work) is None
    one._begin_if_certain(work)
    assert one.begun
    assert work.sent[0].until > lease_clock.now() + POLICY.lease - 1
    assert one.store.verbs() == ["beat"]


@pytest.mark.parametrize("answer", [Lost(reason="uncertain"), RETRY])
def test_a_handler_does_not_begin_while_the_lease_is_lost_or_cannot_be_asked_for(answer):
    one, work = attempt(store=FakeStore(beat=answer), begun=False), FakeWork()
    one.contact -= POLICY.lease
    one._take(work, Ready(), 0)
    assert one._beat_if_due(work) == (answer if isinstance(answer, Lost) else None)
    one._begin_if_certain(work)
    assert (one.begun, work.sent) == (False, [])


def test_a_handler_that_was_frozen_beyond_its_lease_asks_again_and_has_not_begun():
    one, work = attempt(), FakeWork()
    assert one._take(work, Ready(), 0) is None
    assert not one.begun


def test_the_final_write_has_what_the_platform_leaves_and_less_on_sigterm():
    now = time.monotonic()
    assert attempt(started=now - 500)._time_to_settle() == pytest.approx(98, abs=1)
    assert attempt(started=now - 10_000)._time_to_settle() == 5
    shutdown.requested.set()
    assert attempt(started=now - 10)._time_to_settle() < 8, "Cloud Run grants 10 s"


def test_the_end_of_the_process_takes_at_most_half_of_the_lease_since_no_heartbeat_is_sent():
    """A forkserver that is frozen does not tell that the process has ended."""
    one = attempt()
    one.contact = lease_clock.now() - WATCH.rule("image").lease
    assert one._time_to_end() == LEAST_END_SECONDS
    one.contact = lease_clock.now()
    assert one._time_to_end() == EXIT_SECONDS


def test_an_input_that_cannot_go_to_another_process_fails_its_task_once(monkeypatch):
    def pickled(*_):
        raise RecursionError

    monkeypatch.setattr(guards, "Work", pickled)
    store = FakeStore(claim=claimed("returns"), settle=settled("failed"))
    guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w")
    assert store.calls[-1][1:4] == ("1", "t", "fail")


# -- how an attempt ends


def settled(state="completed", reason=None, retry_after=None, pushed=None):
    return Settled(State(state), reason, None, 2, 2, "image", 0.1, retry_after, pushed=pushed)


def test_a_task_runs_from_its_claim_to_its_end(log):
    store = FakeStore(claim=claimed("returns"), settle=settled())
    answer = guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w")
    assert answer == replace(settled(), task_id="1")
    assert store.verbs() == ["claim", "settle"]
    assert store.calls[-1][1:4] == ("1", "t", "complete")
    assert store.calls[-1][-1]["result"] == {"attempt": 2}
    assert [line["event"] for line in log()] == ["task_claimed", "task_finished"]


@pytest.mark.parametrize("verdict", list(ClaimRefusal))
def test_a_task_that_is_not_claimed_is_left_alone(verdict):
    refusal = NotClaimed(verdict, retry_after=60)
    store = FakeStore(claim=refusal)
    assert guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w") == refusal
    assert store.verbs() == ["claim"]


def test_a_push_that_comes_a_little_early_waits_for_its_time():
    store = FakeStore(
        claim=[NotClaimed(ClaimRefusal.EARLY, retry_after=0.01), claimed("returns")],
        settle=settled(),
    )
    assert guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w").state == "completed"
    assert store.verbs() == ["claim", "claim", "settle"]


def test_a_claim_that_cannot_reach_the_database_is_the_callers_to_hear():
    with pytest.raises(StoreError):
        guard(FakeStore(claim=RETRY), POLICY, NoDispatch(), WATCH, "1", worker="w")


@pytest.mark.parametrize(
    "kind",
    ["image:_base", "image:requests", "selection:handle:x", "", "..", "image.x", "no_such_kind"],
)
def test_a_kind_names_a_module_of_the_handlers_and_nothing_else(kind):
    """In an adopted table whoever inserts rows chooses their kind."""
    store = FakeStore(claim=claimed(kind), settle=settled("failed"))
    guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w")
    assert store.calls[-1][3] == "return"
    assert store.calls[-1][-1]["reason"] == "no_handler"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("no process left")])
def test_a_guard_that_fails_itself_still_ends_the_attempt(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(guards, "Work", fails)
    store = FakeStore(settle=settled("pending", reason="crashed", retry_after=2))
    assert guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w").state == "pending"
    assert store.calls[-1][3] == "return", "the handler has not begun"
    assert store.calls[-1][-1]["reason"] == Reason.CRASHED
    assert repr(error) in store.calls[-1][-1]["detail"]


def test_even_the_exit_of_the_worker_settles_first(monkeypatch):
    """The sync worker of gunicorn worker raises SystemExit in the request when its time is over."""

    def exits(*_):
        raise SystemExit(1)

    monkeypatch.setattr(guards, "Work", exits)
    store = FakeStore(settle=settled("pending"))
    with pytest.raises(SystemExit):
        guard(store, POLICY, NoDispatch(), WATCH, "1", worker="w")
    assert store.verbs() == ["claim", "settle"]


def finish(ending, **answers):
    store = FakeStore(**answers)
    return store, settle(store, NoDispatch(), WATCH, CLAIMED, ending, seconds=0.1, timeout=5.0)


def test_a_lost_attempt_writes_nothing(log):
    store, answer = finish(Lost(reason="lease_lost"))
    assert (answer, store.calls) == (Lost(reason="lease_lost", task_id="1"), [])
    assert [line["event"] for line in log()] == ["lease_lost"]


def test_a_result_that_comes_too_late_is_lost(log):
    _, answer = finish(AttemptEnd(SettleAs.COMPLETE, result=1), settle=Lost(reason="deadline"))
    assert answer == Lost(reason="deadline", task_id="1")
    [line] = log()
    assert (line["event"], line["wanted"], line["reason"]) == ("lease_lost", "complete", "deadline")


def test_an_end_that_cannot_be_written_is_left_to_the_sweep_and_said(log):
    store = FakeStore(claim=claimed("returns"), settle=RETRY)
    assert attempt(store=store).settle(AttemptEnd(SettleAs.COMPLETE, result=1)) == Unwritten()
    [line] = log()
    assert (line["event"], line["severity"], line["wanted"]) == (
        "settle_failed",
        "ERROR",
        "complete",
    )


def test_a_result_that_the_database_refuses_fails_the_task():
    store, answer = finish(
        AttemptEnd(SettleAs.COMPLETE, result="\0"), settle=[REFUSED, settled("failed")]
    )
    assert answer.state == "failed"
    _, _, _, outcome, named = store.calls[-1]
    assert (outcome, named["reason"], named["result"]) == ("fail", Reason.HANDLER_ERROR, None)
    assert (named["error"], named["detail"]) == (
        "The result could not be stored.",
        "23514: a check is violated",
    )


def test_an_end_that_waits_for_a_person_keeps_its_lease_meanwhile(monkeypatch):
    """A right is missing, or a migration is under way: the work is done, and must not be taken for
    dead while its end cannot be written."""
    now = [time.monotonic()]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    for module in ("guard", "settle"):
        monkeypatch.setattr(f"functions.worker.{module}.time", clock)
    denied = StoreError("permission denied", retryable=False, code="42501")
    store = FakeStore(settle=[*[denied] * 7, settled("completed")])
    one = attempt(store=store)
    assert one.settle(AttemptEnd(SettleAs.COMPLETE, result=1)).state == "completed"
    waited = now[0] - one.started
    assert waited > POLICY.lease
    assert store.verbs().count("beat") >= waited // POLICY.beat


def test_a_failure_that_the_database_refuses_is_not_repeated_for_ever():
    store = FakeStore(settle=REFUSED)
    assert attempt(store=store).settle(AttemptEnd(SettleAs.FAIL)) == Unwritten()
    assert store.verbs() == ["settle"]


@pytest.mark.parametrize(
    ("said", "written"),
    [("a\0b", "a\\0b"), ("\ud800", "?"), ("x" * 100_000, "x" * 8000), ("", None), (None, None)],
)
def test_an_error_text_is_cut_to_what_can_be_stored(said, written):
    store, _ = finish(
        AttemptEnd(SettleAs.FAIL, "handler_error", said, said), settle=settled("failed")
    )
    named = store.calls[-1][-1]
    assert (named["error"], named["detail"]) == (written, written)


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, None), (7, 7), (-3, 0), (1e9, 86400), (math.inf, 86400), (math.nan, 0)],
)
def test_a_delay_that_a_handler_asks_for_is_bounded(asked, given):
    store, _ = finish(
        AttemptEnd(SettleAs.RETRY, "transient", after=asked), settle=settled("pending")
    )
    assert store.calls[-1][-1]["after"] == given


@pytest.mark.parametrize(("wait", "delay"), [(60.5, 60.5), (None, 0.0)])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_task_that_is_pending_again_is_pushed_as_the_next_attempt(
    monkeypatch, wait, delay, accepted
):
    pushes = []
    monkeypatch.setattr(
        "functions.worker.settle.push", lambda _, *push: pushes.append(push) or accepted
    )
    _, answer = finish(
        AttemptEnd(SettleAs.RETRY, "transient"), settle=settled("pending", retry_after=wait)
    )
    assert pushes == [("tasks", "1", 3, delay)]
    assert answer.pushed is accepted


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_task_at_its_end_is_not_pushed(monkeypatch, state):
    monkeypatch.setattr("functions.worker.settle.push", pytest.fail)
    _, answer = finish(AttemptEnd(SettleAs.COMPLETE), settle=settled(state))
    assert answer.pushed is None


def test_the_log_says_why_a_task_that_has_no_attempts_left_failed(log):
    finish(
        AttemptEnd(SettleAs.RETRY, Reason.CRASHED),
        settle=settled("failed", reason="attempts_exhausted"),
    )
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
        (settled("failed", reason="shutdown"), 200),
        (Lost(), 200),
        (NotClaimed(ClaimRefusal.ENDED), 200),
        (NotClaimed(ClaimRefusal.RESTING), 200),
        (NotClaimed(ClaimRefusal.MISSING), 404),
        (NotClaimed(ClaimRefusal.HELD), 409),
        (NotClaimed(ClaimRefusal.EARLY), 409),
        (NotClaimed(ClaimRefusal.NONE), 503),
        (Unwritten(), 503),
        (ShuttingDown(), 503),
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


def takes_no_input(ctx): ...


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


def hear(work, held=True):
    """All messages to the last; `held` answers each checkpoint."""
    messages = []
    try:
        while not messages or not isinstance(messages[-1], LastMessage | Exited):
            messages.append(next_message(work))
            if isinstance(messages[-1], Checkpoint):
                work.send(CheckpointAnswer(held))
            elif messages[-1] == Ready():
                work.send(Begin(until=math.inf))
                messages.pop()
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
    assert said(handler, isolation, task_input=task_input) == Result('{"attempt": 2}')


def test_a_handler_runs_in_a_process_of_its_own_or_in_a_thread_of_ours():
    for where, inside in (("thread", True), ("process", False)):
        *who, pid, parent, remaining, cancelled = json.loads(said(says_who, where).text)
        assert (who, remaining, cancelled) == (["task-1", "image", 2], True, False)
        assert (pid == os.getpid()) is inside
        assert (parent != os.getpid()) or inside, "the forkserver's child"


@both
def test_checkpoints_of_earlier_attempts_are_there_and_new_ones_are_saved_in_order(isolation):
    messages = hear(begin(saves, isolation, checkpoints={"first": 1}))
    assert messages[:2] == [Checkpoint("second", {"n": [1, 2]}), Checkpoint("third", True)]
    assert json.loads(messages[2].text) == [1, None, {"n": [1, 2]}, True]


@both
def test_a_checkpoint_of_a_lost_lease_stops_the_handler_even_if_it_swallows_errors(isolation):
    messages = hear(begin(ignores_errors, isolation), held=False)
    assert messages[-1] == Stopped()


def test_what_a_handler_saves_and_tells_reaches_the_guard_without_its_classes():
    progress, checkpoint, result = hear(begin(saves_its_own_classes, "thread"))
    assert {type(value) for value in progress.progress.values()} == {float, str}
    assert checkpoint == Checkpoint("word", {"one": "one"})
    assert type(checkpoint.data["one"]) is str
    assert result == Result('"str"')


def test_checkpoints_of_many_threads_each_wait_for_their_own_answer():
    messages = hear(begin(saves_from_many_threads, "thread"))
    assert len(messages) == 41
    assert messages[-1] == Result(str(sum(range(40))))


@pytest.mark.parametrize(
    ("handler", "settle_as", "reason", "error", "after"),
    [
        (asks_again, SettleAs.RETRY, Reason.TRANSIENT, "busy", 3),
        (asks_again_its_way, SettleAs.RETRY, Reason.TRANSIENT, "", None),
        (asks_again_with_an_error, SettleAs.RETRY, Reason.TRANSIENT, "busy", None),
        (asks_for_a_strange_time, None, Reason.HANDLER_ERROR, None, None),
        (gives_up, SettleAs.FAIL, Reason.HANDLER_ERROR, "impossible", None),
        (breaks, None, Reason.HANDLER_ERROR, None, None),
        (breaks_later, None, Reason.HANDLER_ERROR, None, None),
        (loses_the_connection, None, Reason.TRANSIENT, None, None),
        (is_greedy, SettleAs.RETRY, Reason.OUT_OF_MEMORY, None, None),
        (leaves, SettleAs.RETRY, Reason.CRASHED, None, None),
        (cancels_itself, SettleAs.RETRY, Reason.CRASHED, None, None),
        (
            returns_a_set,
            SettleAs.FAIL,
            Reason.HANDLER_ERROR,
            "The result could not be stored.",
            None,
        ),
        (
            returns_itself,
            SettleAs.FAIL,
            Reason.HANDLER_ERROR,
            "The result could not be stored.",
            None,
        ),
        (
            saves_a_set,
            SettleAs.FAIL,
            Reason.HANDLER_ERROR,
            "The checkpoint set could not be stored.",
            None,
        ),
        (
            saves_nan,
            SettleAs.FAIL,
            Reason.HANDLER_ERROR,
            "The checkpoint nan could not be stored.",
            None,
        ),
        (tells_nan, SettleAs.FAIL, Reason.HANDLER_ERROR, "The progress could not be stored.", None),
        ("tests.no_such_module:handle", SettleAs.RETURN, Reason.NO_HANDLER, None, 60),
        (f"{__name__}:no_such_function", SettleAs.RETURN, Reason.NO_HANDLER, None, 60),
        ("tests.worker.lacks_a_library:handle", SettleAs.RETURN, Reason.TRANSIENT, None, 60),
        (f"{__name__}:POLICY", SettleAs.RETURN, Reason.NO_HANDLER, None, 60),
        (f"{__name__}:takes_no_input", SettleAs.RETURN, Reason.NO_HANDLER, None, 60),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_whatever_a_handler_raises_is_told_by_its_class(handler, settle_as, reason, error, after):
    failure = said(handler)
    assert failure == Failed(settle_as, reason, error, failure.detail, after)
    assert failure.detail, "the operator is told something"


@pytest.mark.parametrize("handler", [breaks, leaves, is_greedy, returns_a_set])
def test_a_process_tells_it_as_a_thread_does(handler):
    by_process, by_thread = said(handler, "process"), said(handler)
    assert by_process.settle_as is by_thread.settle_as
    assert by_process.reason is by_thread.reason


def test_a_detail_of_the_operator_ends_with_what_was_raised_and_names_the_line():
    detail = said(breaks).detail
    assert "in breaks" in detail
    assert "a bug" in detail.splitlines()[-1]


@contextmanager
def at_work(isolation):
    """A handler that is at work, until the block ends or the test ends it."""
    work = begin(works_for_ever, isolation)
    try:
        assert isinstance(first_message(work), Progress)
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
    assert said(dies, "process") == Exited(7)
