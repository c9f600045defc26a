"""The guard: claims a task, runs its handler in another process, sends heartbeats, keeps the
deadline, and settles whatever happens.

The thread of the request is the guard: it waits for the handler's messages and sends heartbeats in
between, so that the work can delay neither. Every way out leads to one settle; a way that does not
(the instance is killed) leads to the sweep."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from functions.core import events, trace
from functions.core.answers import Claimed, Held, Lost, NotClaimed, Settled
from functions.core.dispatch import Dispatcher
from functions.core.policy import Policy, Rule, Watch
from functions.core.record import Record
from functions.core.states import Reason, SettleAs
from functions.errors import StoreError
from functions.store import Store
from functions.worker import shutdown
from functions.worker.child import Work
from functions.worker.claim import claim
from functions.worker.handler_context import Job
from functions.worker.messages import (
    Checkpoint,
    CheckpointAnswer,
    Exited,
    Failed,
    LogLine,
    Message,
    Progress,
    Result,
    Stopped,
)
from functions.worker.settle import AttemptEnd, is_about_the_row, settle

TICK_SECONDS = 0.1
"""Between two measurements of memory and shutdown. One costs 20 µs."""
BEAT_TIMEOUT_SECONDS = 3.0
"""For a heartbeat, so that a silent database cannot hold up the deadline for longer."""
SIGTERM_EXIT_CODES = (-15, 255)
"""Of a child when SIGTERM went to all processes, as systemd's does: its own, or that of its dead
forkserver."""


class Unwritten(Record):
    """The end could not be written: the sweep will end the attempt."""

    verdict: Literal["unwritten"] = "unwritten"


def guard(
    store: Store,
    policy: Policy,
    dispatcher: Dispatcher,
    watch: Watch,
    task_id: str | None,
    kinds: list[str] | None = None,
    *,
    worker: str,
) -> NotClaimed | Settled | Lost | Unwritten:
    """Runs a task, or the next one, to the end of one attempt.

    `worker` is the name of this worker in the ledger. Raises StoreError when the claim cannot reach
    the database."""
    started = time.monotonic()
    claimed = claim(store, watch, task_id, kinds, worker=worker)
    if isinstance(claimed, NotClaimed):
        return claimed
    attempt = _Attempt(store, policy, dispatcher, watch, claimed, started)
    end: AttemptEnd | Lost = _crashed("the guard itself failed")
    try:
        end = attempt.run()
    except Exception as error:  # noqa: BLE001 - nothing may keep an attempt from its end
        end = _crashed(f"the guard failed: {error!r}")
    finally:
        answer = attempt.settle(end)
    return answer


def _crashed(detail: str) -> AttemptEnd:
    return AttemptEnd(SettleAs.RETRY, Reason.CRASHED, detail=detail)


def _out_of_memory(detail: str) -> AttemptEnd:
    return AttemptEnd(SettleAs.RETRY, Reason.OUT_OF_MEMORY, detail=detail)


def _shut_down(detail: str) -> AttemptEnd:
    return AttemptEnd(SettleAs.RELEASE, Reason.SHUTDOWN, detail=detail)


def _lost_or_none(answer: Held | Lost) -> Lost | None:
    return answer if isinstance(answer, Lost) else None


@dataclass
class _Attempt:
    store: Store
    policy: Policy
    dispatcher: Dispatcher
    watch: Watch
    claimed: Claimed
    started: float
    progress: Any = None
    next_beat: float = field(init=False)
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.next_beat = self.started + self.policy.beat
        # Of the request, not of this moment: the claim may have waited for the task's time.
        request_end = self.started + self.policy.timeout - self.policy.margin
        self.deadline = min(time.monotonic() + self.rule.run_for, request_end)

    @property
    def rule(self) -> Rule:
        return self.watch.rule(self.claimed.kind)

    def run(self) -> AttemptEnd | Lost:
        claimed = self.claimed
        job = Job(
            self.watch.handler(claimed.kind),
            claimed.task_id,
            claimed.kind,
            claimed.number,
            claimed.input,
            claimed.checkpoint,
            self.deadline - time.monotonic(),
            self.rule.memory,
            trace.current.get(),
            not events.printed(),
        )
        work = Work(job, self.rule.isolation, self.watch.handlers)
        try:
            return self._watch_over(work)
        finally:
            work.end()

    def settle(self, end: AttemptEnd | Lost) -> Settled | Lost | Unwritten:
        seconds, timeout = time.monotonic() - self.started, self._time_to_settle()
        try:
            return settle(
                self.store,
                self.dispatcher,
                self.watch,
                self.claimed,
                end,
                seconds=seconds,
                timeout=timeout,
            )
        except StoreError:
            return Unwritten()

    def _time_to_settle(self) -> float:
        """Seconds: short on SIGTERM, which grants 10 s; else what the platform's timeout leaves."""
        if shutdown.requested.is_set():
            return 6.0
        return max(5.0, self.started + self.policy.timeout - 2.0 - time.monotonic())

    def _watch_over(self, work: Work) -> AttemptEnd | Lost:
        most_memory = 0
        while True:
            now = time.monotonic()
            pause = max(0.0, min(TICK_SECONDS, self.deadline - now, self.next_beat - now))
            message = work.receive(pause)
            if message and (end := self._take(work, message, most_memory)):
                return end
            most_memory = max(most_memory, work.memory())
            if end := self._end_by_limits(most_memory) or self._beat_if_due():
                return end

    def _end_by_limits(self, memory: int) -> AttemptEnd | None:
        if shutdown.requested.is_set():
            return _shut_down("SIGTERM")
        if time.monotonic() >= self.deadline:
            detail = f"still at work after {self.rule.run_for:g} s"
            return AttemptEnd(SettleAs.RETRY, Reason.DEADLINE, detail=detail)
        if memory > self.rule.memory:
            return _out_of_memory(f"held {memory} bytes of {self.rule.memory}")
        return None

    def _beat_timeout(self) -> float:
        return min(BEAT_TIMEOUT_SECONDS, max(0.1, self.deadline - time.monotonic()))

    def _beat_if_due(self) -> Lost | None:
        if time.monotonic() < self.next_beat:
            return None
        self.next_beat = time.monotonic() + self.policy.beat
        task_id, token = self.claimed.task_id, self.claimed.token
        timeout = self._beat_timeout()
        try:
            answer = self.store.beat(self.watch, task_id, token, self.progress, timeout)
        except StoreError as error:
            self.next_beat = time.monotonic() + min(1.0, self.policy.beat)
            if is_about_the_row(error):
                self.progress = None  # most likely it holds a NUL: the next heartbeat goes without
            about = {"watch": self.watch.name, "error": str(error)}
            events.emit(events.BEAT_FAILED, **vars(self.claimed) | about)
            return None
        self.progress = None
        return _lost_or_none(answer)

    def _take(self, work: Work, message: Message, most_memory: int) -> AttemptEnd | Lost | None:
        """One message of the handler: the end of the attempt, or None when the work goes on."""
        match message:
            case Checkpoint():
                return self._checkpoint(work, message)
            case Progress():
                self.progress = message.progress
                return None
            case LogLine():
                events.emit_lines([message.line])
                return None
            case Result():
                return AttemptEnd(SettleAs.COMPLETE, result=json.loads(message.text))
            case Failed():
                return self._failed(message)
            case Stopped():
                return Lost(reason=Reason.LEASE_LOST)
            case Exited():
                return self._exited(message.exit_code, most_memory)
            case _:
                assert_never(message)

    def _checkpoint(self, work: Work, step: Checkpoint) -> AttemptEnd | Lost | None:
        task_id, token = self.claimed.task_id, self.claimed.token
        timeout = self._beat_timeout()
        try:
            answer = self.store.checkpoint(
                self.watch, task_id, token, step.name, step.data, timeout
            )
        except StoreError as error:
            detail = f"checkpoint {step.name} not written: {error}"
            if is_about_the_row(error):
                return AttemptEnd(self._settle_by_rule(), Reason.HANDLER_ERROR, detail=detail)
            return AttemptEnd(SettleAs.RETRY, Reason.TRANSIENT, detail=detail)
        work.send(CheckpointAnswer(isinstance(answer, Held)))
        self.next_beat = time.monotonic() + self.policy.beat
        return _lost_or_none(answer)

    def _failed(self, failure: Failed) -> AttemptEnd:
        settle_as = failure.settle_as or self._settle_by_rule()
        return AttemptEnd(settle_as, failure.reason, failure.error, failure.detail, failure.after)

    def _settle_by_rule(self) -> SettleAs:
        return SettleAs(self.rule.on_error)

    def _exited(self, exit_code: int | None, most_memory: int) -> AttemptEnd:
        """The handler's process ended and did not say how the work ended."""
        if exit_code in SIGTERM_EXIT_CODES and shutdown.wait(0.5):
            # The signal reaches the handler and this process in any order.
            return _shut_down("SIGTERM to the handler as well")
        if exit_code == -9 and most_memory > 0.8 * self.rule.memory:
            return _out_of_memory(f"killed by the system while it held {most_memory} bytes")
        if exit_code is not None and exit_code < 0:
            return _crashed(f"the handler's process ended with signal {-exit_code}")
        return _crashed(f"the handler's process ended with exit code {exit_code}")
