"""What the process of a handler and the guard say to each other, over a pipe: JSON, and nothing
that runs code where it is read. The handler's process may be in the hands of a stranger (who found
a mistake in a parser), so the guard takes these messages alone, with fields of their types."""

import json
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from functions.core.record import Record
from functions.core.states import Reason, SettleAs
from functions.core.trace import Trace

MOST_BYTES = 40_000_000
"""Of one message: more than the largest result that a handler may hand over, in any encoding."""


class Job(Record):
    """What travels to where the handler runs. `seconds`: until the deadline. `memory`: bytes.
    `attempt`: the number of this attempt."""

    handler: str
    task_id: str
    kind: str
    attempt: int
    task_input: Any
    checkpoints: Mapping[str, Any]
    seconds: float
    memory: int
    trace: Trace | None = None
    logs_via_guard: bool = False
    """Sends log lines over the pipe to the guard, which owns the client of Cloud Logging; else they
    are printed."""
    secrets: tuple[str, ...] = ()
    """Those secrets of Unstuck's configuration that the handler's process may see."""


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
    """What the handler says. The guard makes the event of it, so that it can be no other event.
    `where`: file, line and function; `labels`: those of the log record."""

    severity: str
    text: str
    logger: str
    where: dict[str, Any]
    labels: dict[str, Any]


class Result(Record):
    """The handler has returned this JSON text."""

    text: str


HandlerReason = Literal[
    Reason.HANDLER_ERROR, Reason.TRANSIENT, Reason.NO_HANDLER, Reason.OUT_OF_MEMORY, Reason.CRASHED
]
"""What a handler's process may give as its reason. The others are words of the guard, the sweep and
people."""


class Failed(Record):
    """The handler has raised. `error` is for the user, `detail` for the operator; `settle_as` None:
    the rule decides, by `on_lost` where a request got no answer (`transient`), else by `on_error`.
    `after`: seconds until the next try."""

    settle_as: Literal[SettleAs.RETRY, SettleAs.RETURN, SettleAs.FAIL] | None
    reason: HandlerReason
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
_BY_NAME: dict[str, type[Record]] = {
    kind.__name__: kind
    for union in (ChildMessage, GuardMessage)
    for kind in get_args(union)
    if kind is not Exited  # which nobody sends
}


def encode(message: ChildMessage | GuardMessage) -> bytes:
    return json.dumps([type(message).__name__, vars(message)]).encode()


def decode(data: bytes) -> Any:
    """The message. Raises ValueError for what is none."""
    try:
        name, values = json.loads(data)
        kind = _BY_NAME[name]
        fields = {
            field: _checked(values[field], kind.field_types[field]) for field in kind.field_types
        }
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"what came over the pipe is no message: {error!r:.200}") from None
    return kind(**fields)


def _checked(value: Any, field_type: Any) -> Any:
    """The value of a field. Raises ValueError or TypeError when it is not of its type."""
    if field_type is Any:
        return value
    if get_origin(field_type) in {Union, UnionType}:
        if value is None:
            return None
        (field_type,) = (kind for kind in get_args(field_type) if kind is not type(None))
    if get_origin(field_type) is Literal:
        (member,) = (member for member in get_args(field_type) if member == value)
        return member
    if issubclass(field_type := get_origin(field_type) or field_type, Enum):
        return field_type(value)
    if type(value) is not field_type and (type(value), field_type) != (int, float):
        raise TypeError(f"{field_type.__name__} expected")
    return value
