"""What the process of a handler and the guard say to each other, over a pipe."""

from typing import Any, Literal

from functions.core.record import Record
from functions.core.states import Reason, SettleAs

MOST_BYTES = 40_000_000
"""Of one message: more than the largest result that a handler may hand over, in any encoding."""


class Imported(Record):
    """The handler's module was imported; `left_open` says what it has left open."""

    seconds: float
    left_open: str


class Ready(Record):
    """All is loaded. The handler begins when Begin is here, and not before."""


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
    the rule decides, by `on_lost` where a request got no answer (`transient`), else by `on_error`.
    `after`: seconds until the next try."""

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
Message = Ready | Checkpoint | Progress | LogLine | LastMessage | Exited
ChildMessage = Message | Imported


class Begin(Record):
    """The handler may begin while the lease is certain: until `until` of lease_clock. Later it asks
    again, by another Ready."""

    until: float


class CheckpointAnswer(Record):
    """Whether the checkpoint was written. `held`: whether the attempt still holds its task.
    `error`: why the database refuses this very data, else None."""

    held: bool
    error: str | None = None


class Cancel(Record):
    """The work should stop by itself: `ctx.cancelled()` is true from now on."""


class Stop(Record):
    """The work is to stop now."""


GuardMessage = Begin | CheckpointAnswer | Cancel | Stop
