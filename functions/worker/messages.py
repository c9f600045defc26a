"""What the process of a handler and the guard say to each other, over a pipe."""

from typing import Any, Literal

from functions.core.record import Record
from functions.core.states import Reason, SettleAs


class Checkpoint(Record):
    """A finished step. The handler waits for a CheckpointAnswer."""

    name: str
    data: Any


class Progress(Record):
    progress: dict[str, Any]


class LogLine(Record):
    line: str


class Result(Record):
    """The handler has returned this JSON text."""

    text: str


class Failed(Record):
    """The handler has raised. `error` is for the user, `detail` for the operator; `settle_as` None:
    the rule decides by its `on_error`. `after`: seconds until the next try."""

    settle_as: Literal[SettleAs.RETRY, SettleAs.FAIL] | None
    reason: Reason
    error: str | None
    detail: str
    after: float | None = None


class Stopped(Record):
    """The handler has stopped, since another attempt holds its task."""


class Exited(Record):
    """The process has ended and sent none of the three messages above; None: it was a thread."""

    exit_code: int | None


LastMessage = Result | Failed | Stopped
"""After these a handler sends nothing more."""
Message = Checkpoint | Progress | LogLine | LastMessage | Exited


class CheckpointAnswer(Record):
    """Whether the checkpoint was written: not when the attempt does not hold its task any more."""

    held: bool


class Stop(Record):
    """The work is to stop."""


GuardMessage = CheckpointAnswer | Stop
