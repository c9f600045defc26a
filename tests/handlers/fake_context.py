"""A Context without Unstuck behind it: one attempt of a task, in memory. `next_attempt` keeps what
was checkpointed."""

import json
import logging
from collections.abc import Callable
from typing import Any

from functions.context import Context


class Killed(BaseException):
    """The process of the attempt is gone: what a SIGKILL looks like from the outside."""


class FakeContext(Context):
    """`left` is what `remaining` answers, in seconds; with `step` each question uses up so many of
    them.

    `on_checkpoint(name)` is called before a checkpoint is saved; let it raise Killed for a kill at
    that point."""

    def __init__(
        self,
        *,
        task_id: str = "task-1",
        left: float = 60.0,
        step: float = 0.0,
        on_checkpoint: Callable[[str], None] | None = None,
    ) -> None:
        self.task_id, self.kind, self.attempt = task_id, "image", 1
        self.logger = logging.getLogger("tests.handlers")
        self.left, self.step, self.stopped = left, step, False
        self.on_checkpoint = on_checkpoint
        self.saved: dict[str, str] = {}
        self.reports: list[tuple[float | None, str]] = []

    def checkpoint(self, name: str, data: Any = None) -> None:
        if self.on_checkpoint:
            self.on_checkpoint(name)
        self.saved[name] = json.dumps(data, allow_nan=False)

    def done(self, name: str) -> Any:
        if name not in self.saved:
            return None
        data = json.loads(self.saved[name])
        return True if data is None else data

    def progress(self, fraction: float | None = None, message: str = "", **more: Any) -> None:
        assert fraction is None or 0 <= fraction <= 1
        self.reports.append((fraction, message))

    def remaining(self) -> float:
        self.left -= self.step
        return self.left

    def cancelled(self) -> bool:
        return self.stopped

    def next_attempt(self, *, left: float = 60.0) -> "FakeContext":
        context = FakeContext(task_id=self.task_id, left=left)
        context.attempt, context.saved = self.attempt + 1, self.saved
        return context
