"""The guard: claims a task, runs its handler apart, beats, keeps the deadline, and settles whatever
happens.

The thread of the request is the guard: it waits for the handler's messages and beats in between, so
the work can starve neither. Every way out leads to one settle; a way that does not (the instance is
killed) leads to the sweep."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from functions.core import events, trace
from functions.core.policy import Policy, Rule, Watch
from functions.core.settings import settings
from functions.core.states import Reason
from functions.errors import StoreError
from functions.store import Answer, Store
from functions.worker import shutdown
from functions.worker.child import Work
from functions.worker.claim import claim
from functions.worker.handler_context import Job
from functions.worker.settle import Ending, complete

TICK = 0.1
"""Seconds between looks at memory and shutdown. A look costs 20 µs."""
BEAT_LIMIT = 3.0
"""Seconds that a beat may take, so that a silent database cannot hold up the deadline for longer.
"""

KILLED_BY_TERM = (-15, 255)
"""Exit codes of a child when SIGTERM went to all processes, as systemd's does: its own, or that of
its dead forkserver."""


def guard(
    store: Store, policy: Policy, watch: Watch, task_id: str | None, kinds: list[str] | None = None
) -> Answer:
    """Runs a task, or the next one, to the end of one attempt.

    The verdict is settled (with `state`), lost, unwritten, or the claim's own when the task was not
    claimed. Raises StoreError when the claim cannot reach the database."""
    started = time.monotonic()
    claimed = claim(store, watch, task_id, kinds)
    if claimed["verdict"] != "claimed":
        return claimed
    attempt = _Attempt(store, policy, watch, claimed, started)
    ending = Ending("retry", Reason.CRASHED, detail="the guard itself failed")
    try:
        ending = attempt.run()
    except Exception as error:  # noqa: BLE001 - nothing may keep an attempt from its end
        ending = Ending("retry", Reason.CRASHED, detail=f"the guard failed: {error!r}")
    finally:
        answer = complete(
            store,
            watch,
            claimed,
            ending,
            seconds=time.monotonic() - started,
            limit=attempt.time_to_settle(),
        )
    return {**claimed, "state": None, **answer}


def _asked_to_stop() -> bool:
    """The signal reaches the handler and this process in any order: half a second to tell it from a
    crash."""
    return shutdown.wait(0.5)


@dataclass
class _Attempt:
    store: Store
    policy: Policy
    watch: Watch
    claimed: Answer
    started: float
    progress: Any = None
    next_beat: float = field(init=False)
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.next_beat = self.started + self.policy.beat
        left = (
            self.started + self.policy.timeout - self.policy.margin
        )  # the claim may have waited for a task's time
        self.deadline = min(time.monotonic() + self.rule.run_for, left)

    @property
    def rule(self) -> Rule:
        return self.watch.rule(self.claimed["kind"])

    def run(self) -> Ending:
        kind, claimed = self.claimed["kind"], self.claimed
        work = Work(
            Job(
                self.watch.handler(kind),
                claimed["task_id"],
                kind,
                claimed["number"],
                claimed["input"],
                claimed["checkpoint"],
                self.deadline - time.monotonic(),
                self.rule.memory,
                trace.current.get(),
                settings().log_api,
            ),
            self.rule.isolation,
            self.watch.handlers,
        )
        try:
            return self._watch_over(work)
        finally:
            work.end()

    def time_to_settle(self) -> float:
        """Seconds: short on SIGTERM, which grants 10 s; else what the platform's timeout leaves."""
        if shutdown.requested.is_set():
            return 6.0
        return max(5.0, self.started + self.policy.timeout - 2.0 - time.monotonic())

    def _watch_over(self, work: Work) -> Ending:
        most = 0
        while True:
            now = time.monotonic()
            message = work.receive(max(0.0, min(TICK, self.deadline - now, self.next_beat - now)))
            if message and (ending := self._take(work, message, most)):
                return ending
            most = max(most, work.memory())
            if ending := self._look(most) or self._beat_if_due():
                return ending

    def _look(self, memory: int) -> Ending | None:
        if shutdown.requested.is_set():
            return Ending("release", Reason.SHUTDOWN, detail="SIGTERM")
        if time.monotonic() >= self.deadline:
            return Ending(
                "retry", Reason.DEADLINE, detail=f"still at work after {self.rule.run_for:g} s"
            )
        if memory > self.rule.memory:
            return Ending(
                "retry", Reason.OUT_OF_MEMORY, detail=f"held {memory} bytes of {self.rule.memory}"
            )
        return None

    def _beat_if_due(self) -> Ending | None:
        if time.monotonic() < self.next_beat:
            return None
        self.next_beat = time.monotonic() + self.policy.beat
        limit = min(BEAT_LIMIT, max(0.1, self.deadline - time.monotonic()))
        try:
            answer = self.store.beat(
                self.watch, self.claimed["task_id"], self.claimed["token"], self.progress, limit
            )
        except StoreError as error:
            self.next_beat = time.monotonic() + min(1.0, self.policy.beat)
            if not error.retryable:
                self.progress = None  # a NUL in it, most likely: it must not cost the next beat too
            events.emit(
                events.BEAT_FAILED, **self.claimed | {"watch": self.watch.name, "error": str(error)}
            )
            return None
        self.progress = None
        return self._lost(answer)

    @staticmethod
    def _lost(answer: Answer) -> Ending | None:
        return Ending("lost", answer.get("reason")) if answer["verdict"] == "lost" else None

    def _take(self, work: Work, message: tuple[Any, ...], most: int) -> Ending | None:
        """One message of the handler: an ending, or None when the work goes on."""
        match message:
            case ("checkpoint", name, data):
                return self._checkpoint(work, name, data)
            case ("progress", progress):
                self.progress = progress
                return None
            case ("log", line):
                events.emit_lines([line])
                return None
            case ("result", text):
                return Ending("complete", result=json.loads(text))
            case ("error", how, reason, error, detail, after):
                return self._error(how, reason, error, detail, after)
            case ("gone", code):
                return self._gone(code, most)
        return Ending("retry", Reason.CRASHED, detail=f"the handler's process said {message!r}")

    def _checkpoint(self, work: Work, name: str, data: Any) -> Ending | None:
        limit = min(BEAT_LIMIT, max(0.1, self.deadline - time.monotonic()))
        try:
            answer = self.store.checkpoint(
                self.watch, self.claimed["task_id"], self.claimed["token"], name, data, limit
            )
        except StoreError as error:
            outcome, reason = (
                ("retry", Reason.TRANSIENT)
                if error.retryable
                else (self.rule.on_error, Reason.HANDLER_ERROR)
            )
            return Ending(outcome, reason, detail=f"checkpoint {name} not written: {error}")
        work.answer("checkpoint", answer["verdict"])
        self.next_beat = time.monotonic() + self.policy.beat
        return self._lost(answer)

    def _error(
        self, how: str, reason: str, error: str | None, detail: str, after: float | None
    ) -> Ending:
        match how:
            case "gone":
                return Ending("lost", reason)
            case "fail":
                return Ending("fail", reason, error, detail)
            case "unknown":
                return Ending(self.rule.on_error, reason, error, detail)
        return Ending("retry", reason, error, detail, after)

    def _gone(self, code: int | None, most: int) -> Ending:
        """The child ended without a word."""
        if code in KILLED_BY_TERM and _asked_to_stop():
            return Ending("release", Reason.SHUTDOWN, detail="SIGTERM to the handler as well")
        if code == -9 and most > 0.8 * self.rule.memory:
            return Ending(
                "retry",
                Reason.OUT_OF_MEMORY,
                detail=f"killed by the system while it held {most} bytes",
            )
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return Ending("retry", Reason.CRASHED, detail=f"the handler's process ended with {how}")
