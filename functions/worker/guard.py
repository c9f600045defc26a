"""The guard: claims a task, runs its handler in another process, sends heartbeats, keeps the
deadline, and settles whatever happens.

The thread of the request is the guard: it waits for the handler's messages and sends heartbeats in
between, so that the work can delay neither. Every way out leads to one settle; a way that does not
(the instance is killed) leads to the sweep.

The handler begins only by the guard's word, which is given while the lease is certain. So the guard
knows whether it began: before, nothing can be done twice; after, what ends it without its own word
is a loss, and the rule's `on_lost` decides."""

import json
import time
from typing import Any, Literal, assert_never

from functions.core import events, trace
from functions.core.answers import Claimed, Held, Lost, NotClaimed, Settled
from functions.core.dispatch import Dispatcher
from functions.core.policy import Policy, Rule, Watch
from functions.core.record import Record
from functions.core.states import Reason, SettleAs
from functions.errors import StoreError
from functions.store import Store
from functions.worker import handler_log, lease_clock, shutdown
from functions.worker.child import EXIT_SECONDS, Work
from functions.worker.claim import claim
from functions.worker.messages import (
    Begin,
    Cancel,
    Checkpoint,
    CheckpointAnswer,
    Exited,
    Failed,
    Job,
    LogLine,
    Message,
    Progress,
    Ready,
    Result,
    Stopped,
)
from functions.worker.settle import AttemptEnd, is_about_the_row, settle, unreadable_input

TICK_SECONDS = 0.1
"""Between two measurements of memory and shutdown. One costs 20 µs."""
BEAT_TIMEOUT_SECONDS = 3.0
"""For a heartbeat, so that a silent database cannot hold up the deadline for longer."""
FRESH_SHARE = 0.5
"""Of the lease: when the database was last heard longer ago than that, the guard asks it by a
heartbeat before the handler begins."""
FINISH_SECONDS = 5.0
"""After SIGTERM, for a handler that must not be repeated. The final write has the rest."""
SETTLE_SECONDS = 6.0
"""The most that the final write may take after SIGTERM."""
LEAST_END_SECONDS = 0.2
"""For the end of the handler's process, however little is left of the lease."""
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
    chooses: bool = False,
) -> NotClaimed | Settled | Lost | Unwritten:
    """Runs a task, or the next one, to the end of one attempt. With `chooses` the task only says
    that there is work (`claim`).

    `worker` is the name of this worker in the ledger. Raises StoreError when the claim cannot reach
    the database."""
    started, contact = time.monotonic(), lease_clock.now()
    claimed = claim(store, watch, task_id, kinds, worker=worker, chooses=chooses)
    if isinstance(claimed, NotClaimed):
        return claimed
    attempt = _Attempt(store, policy, dispatcher, watch, claimed, started, contact)
    end: AttemptEnd | Lost | None = None
    try:
        end = attempt.run()
    except RecursionError:  # what is nested more than some 500 times goes to no other process
        end = unreadable_input()
    except Exception as error:  # noqa: BLE001 - nothing may keep an attempt from its end
        end = attempt.cut(Reason.CRASHED, f"the guard failed: {error!r}")
    finally:
        answer = attempt.settle(end or attempt.cut(Reason.CRASHED, "the guard itself failed"))
    return answer


class _Attempt:
    def __init__(
        self,
        store: Store,
        policy: Policy,
        dispatcher: Dispatcher,
        watch: Watch,
        claimed: Claimed,
        started: float,
        contact: float | None = None,
    ) -> None:
        self.store, self.policy, self.dispatcher = store, policy, dispatcher
        self.watch, self.claimed, self.started = watch, claimed, started
        self.contact = lease_clock.now() if contact is None else contact
        """By lease_clock: the lease holds from then. Just before the last call that the database
        answered."""
        self.progress: Any = None
        self.waiting_step: Checkpoint | None = None
        """The handler waits for it to be written."""
        self.waits_to_begin = False
        self.begun = False
        self.told_to_cancel = False
        self.next_beat = started + policy.beat
        # Of the request, not of this moment: the claim may have waited for the task's time.
        request_end = started + policy.timeout - policy.margin
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
            self.rule.secrets,
        )
        # The forkserver has no secrets: a module that may need one is imported in each child.
        preload = False if self.rule.secrets and not self.rule.preload else self.rule.preload
        work = Work(job, self.rule.isolation, preload)
        try:
            return self._watch_over(work)
        finally:
            work.end(self._time_to_end())

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
                wait=self._wait,
            )
        except StoreError:
            return Unwritten()

    def _time_to_end(self) -> float:
        """Seconds in which the handler's process must end, since no heartbeat is sent meanwhile."""
        left = self.contact + FRESH_SHARE * self.rule.lease - lease_clock.now()
        return max(LEAST_END_SECONDS, min(EXIT_SECONDS, left))

    def _wait(self, seconds: float) -> None:
        """The work is done and its end cannot be written yet: the lease is kept meanwhile."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if now >= self.next_beat:
                self._beat()
            time.sleep(max(0.0, min(until, self.next_beat) - time.monotonic()))

    def _time_to_settle(self) -> float:
        """Seconds: short on SIGTERM, which grants 10 s; else what the platform's timeout leaves."""
        if shutdown.requested.is_set():
            left = shutdown.GRANTED_SECONDS - 0.5 - shutdown.requested.seconds_ago()
            return max(1.0, min(SETTLE_SECONDS, left))
        return max(5.0, self.started + self.policy.timeout - 2.0 - time.monotonic())

    def _watch_over(self, work: Work) -> AttemptEnd | Lost:
        most_memory = 0
        next_look = 0.0
        while True:
            now = time.monotonic()
            pause = max(0.0, min(TICK_SECONDS, self.deadline - now, self.next_beat - now))
            message = work.receive(pause)
            if message and (end := self._take(work, message, most_memory)):
                return end
            self._begin_if_certain(work)
            if message and time.monotonic() < next_look:
                continue  # of a flood: a look at the limits for each message would take longer
            next_look = time.monotonic() + TICK_SECONDS
            most_memory = max(most_memory, work.memory())
            if end := self._end_by_limits(most_memory) or self._beat_if_due(work):
                return end
            self._cancel_if_shut_down(work)

    def cut(self, reason: Reason, detail: str) -> AttemptEnd:
        """The attempt ends without a word of the handler."""
        if self.waiting_step:
            detail += f"; checkpoint {self.waiting_step.name} was not written yet"
        if not self.begun:
            return AttemptEnd(SettleAs.RETURN, reason, detail=f"before the handler began: {detail}")
        settle_as = SettleAs.RELEASE if reason is Reason.SHUTDOWN else SettleAs.RETRY
        return AttemptEnd(settle_as, reason, detail=detail)

    def _end_by_limits(self, memory: int) -> AttemptEnd | None:
        if shutdown.requested.is_set() and self._time_to_finish() <= 0:
            return self.cut(Reason.SHUTDOWN, "SIGTERM")
        if time.monotonic() >= self.deadline:
            detail = f"still at work after {self.rule.run_for:g} s"
            return self.cut(Reason.DEADLINE, detail)
        if memory > self.rule.memory:
            return self.cut(Reason.OUT_OF_MEMORY, f"held {memory} bytes of {self.rule.memory}")
        return None

    def _time_to_finish(self) -> float:
        """Seconds that the handler may still work after SIGTERM, which ends at once what may be
        repeated."""
        if not self.begun or self.rule.on_lost == "retry":
            return 0.0
        return FINISH_SECONDS - shutdown.requested.seconds_ago()

    def _cancel_if_shut_down(self, work: Work) -> None:
        if shutdown.requested.is_set() and not self.told_to_cancel:
            self.told_to_cancel = True
            work.send(Cancel())

    def _begin_if_certain(self, work: Work) -> None:
        if self.waits_to_begin and self._is_fresh():
            self.waits_to_begin, self.begun = False, True
            work.send(Begin(self.contact + self.rule.lease))

    def _is_fresh(self) -> bool:
        return lease_clock.now() - self.contact <= FRESH_SHARE * self.rule.lease

    def _beat_timeout(self) -> float:
        left = self.deadline - time.monotonic()
        if shutdown.requested.is_set():
            left = min(left, self._time_to_finish())
        return min(BEAT_TIMEOUT_SECONDS, max(0.1, left))

    def _beat_if_due(self, work: Work) -> Lost | None:
        if time.monotonic() < self.next_beat:
            return None
        return self._checkpoint(work) if self.waiting_step else self._beat()

    def _beat(self) -> Lost | None:
        task_id, token = self.claimed.task_id, self.claimed.token
        asked = lease_clock.now()
        try:
            answer = self.store.beat(
                self.watch, task_id, token, self.progress, self._beat_timeout()
            )
        except StoreError as error:
            if is_about_the_row(error):
                self.progress = None  # most likely it holds a NUL: the next heartbeat goes without
            self._beat_failed(error)
            return None
        self.progress = None
        return self._heard(answer, asked)

    def _beat_failed(self, error: StoreError) -> None:
        """It is asked again soon: only the database knows whether the lease is lost."""
        self.next_beat = time.monotonic() + min(1.0, self.policy.beat)
        about = {"watch": self.watch.name, "error": str(error)}
        events.emit(events.BEAT_FAILED, **vars(self.claimed) | about)

    def _heard(self, answer: Held | Lost, asked: float) -> Lost | None:
        self.next_beat = time.monotonic() + self.policy.beat
        if isinstance(answer, Lost):
            return answer
        self.contact = asked
        return None

    def _take(self, work: Work, message: Message, most_memory: int) -> AttemptEnd | Lost | None:
        """One message of the handler: the end of the attempt, or None when the work goes on."""
        match message:
            case Ready():
                self._ready()
                return None
            case Checkpoint():
                self.waiting_step = message
                return self._checkpoint(work)
            case Progress():
                self.progress = message.progress
                return None
            case LogLine():
                events.emit_lines([handler_log.line(work.job, message)])
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

    def _ready(self) -> None:
        """The handler has not begun: it also asks when the guard's word came too late to it."""
        self.waits_to_begin, self.begun = True, False
        if not self._is_fresh():
            self.next_beat = time.monotonic()

    def _checkpoint(self, work: Work) -> Lost | None:
        """Writes the step that the handler waits for. It is a heartbeat too, and asked again like
        one while the database is away."""
        step, task_id, token = self.waiting_step, self.claimed.task_id, self.claimed.token
        assert step, "somebody waits"
        asked = lease_clock.now()
        try:
            answer = self.store.checkpoint(
                self.watch, task_id, token, step.name, step.data, self._beat_timeout()
            )
        except StoreError as error:
            if not is_about_the_row(error):
                self._beat_failed(error)
                return None
            self.waiting_step = None
            work.send(
                CheckpointAnswer(held=True, error=f"checkpoint {step.name} not stored: {error}")
            )
            return None
        self.waiting_step = None
        work.send(CheckpointAnswer(isinstance(answer, Held)))
        return self._heard(answer, asked)

    def _failed(self, failure: Failed) -> AttemptEnd:
        if failure.reason in {Reason.CRASHED, Reason.OUT_OF_MEMORY}:
            return self.cut(failure.reason, failure.detail)
        if failure.settle_as is None and shutdown.requested.is_set():
            # Most likely its programs or connections ended by the same signal.
            return self.cut(Reason.SHUTDOWN, f"an error after SIGTERM: {failure.detail}")
        if failure.settle_as is None and failure.reason is Reason.TRANSIENT:
            return self._request_failed(failure)
        settle_as = failure.settle_as or SettleAs(self.rule.on_error)
        return AttemptEnd(settle_as, failure.reason, failure.error, failure.detail, failure.after)

    def _request_failed(self, failure: Failed) -> AttemptEnd:
        """A request of the handler got no answer: it may have done its work or not."""
        if self.begun and self.rule.on_lost == "uncertain":
            return AttemptEnd(SettleAs.FAIL, Reason.UNCERTAIN, detail=failure.detail)
        return AttemptEnd(SettleAs.RETRY, failure.reason, failure.error, failure.detail)

    def _exited(self, exit_code: int | None, most_memory: int) -> AttemptEnd:
        """The handler's process ended and did not say how the work ended."""
        if exit_code in SIGTERM_EXIT_CODES and shutdown.wait(0.5):
            # The signal reaches the handler and this process in any order.
            return self.cut(Reason.SHUTDOWN, "SIGTERM to the handler as well")
        if exit_code == -9 and most_memory > 0.8 * self.rule.memory:
            detail = f"killed by the system while it held {most_memory} bytes"
            return self.cut(Reason.OUT_OF_MEMORY, detail)
        how = f"exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            how = f"signal {-exit_code}"
        return self.cut(Reason.CRASHED, f"the handler's process ended with {how}")
