"""The states of a task and the legal moves between them. SQL enforces them; this is the list to
read.

| from      | to        | by which verb                                                     |
|-----------|-----------|-------------------------------------------------------------------|
| -         | pending   | create                                                            |
| pending   | running   | claim                                                             |
| pending   | failed    | sweep, status, create: never_claimed; operate                     |
| running   | completed | settle                                                            |
| running   | failed    | settle; sweep, status, claim, create when it is overdue; operate  |
| running   | pending   | settle as retry, release or return; sweep, status, claim, create  |
|           |           | when it is overdue; operate (requeue)                             |
| failed    | pending   | operate (retry)                                                   |
| cancelled | pending   | operate (retry)                                                   |
| resting   | pending   | a person, outside Unstuck: resting tasks are never swept          |

Pending, running and resting tasks also become cancelled, by cancel or operate. `operate` is what a
person does by a command or on the page. A create looks at one task of others: the open one of the
same owner, where a kind may have only one.
"""

from enum import StrEnum


class State(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RESTING = "resting"


OPEN = frozenset({State.PENDING, State.RUNNING})
ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

MOVES: frozenset[tuple[State, State]] = frozenset(
    {
        (State.PENDING, State.RUNNING),
        (State.PENDING, State.FAILED),
        (State.PENDING, State.CANCELLED),
        (State.RUNNING, State.COMPLETED),
        (State.RUNNING, State.FAILED),
        (State.RUNNING, State.PENDING),
        (State.RUNNING, State.CANCELLED),
        (State.FAILED, State.PENDING),
        (State.CANCELLED, State.PENDING),
        (State.RESTING, State.PENDING),
        (State.RESTING, State.CANCELLED),
    }
)


class Outcome(StrEnum):
    """How an attempt ended (`unstuck.attempts.outcome`)."""

    COMPLETED = "completed"
    FAILED = "failed"
    RETRIED = "retried"
    RELEASED = "released"
    CANCELLED = "cancelled"
    OVERTAKEN = "overtaken"
    """Somebody who does not use the guard moved the task; the attempt ended without touching it."""


class SettleAs(StrEnum):
    """How a worker asks for its attempt to end; the rule may decide otherwise."""

    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    """Counts against the tries that the rule allows."""
    RELEASE = "release"
    """Does not count: the worker was shut down. Work that must not be repeated is lost then."""
    RETURN = "return"
    """The handler had not begun, so that nothing is uncertain. Counts unless the worker was shut
    down."""


class Reason(StrEnum):
    """Why it ended: the short code beside the sentence for a person."""

    NEVER_CLAIMED = "never_claimed"
    LEASE_LOST = "lease_lost"
    DEADLINE = "deadline"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    SHUTDOWN = "shutdown"
    HANDLER_ERROR = "handler_error"
    NO_HANDLER = "no_handler"
    TRANSIENT = "transient"
    TRANSIENT_EXHAUSTED = "transient_exhausted"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    STALE = "stale"
    CANCELLED = "cancelled"
    UNCERTAIN = "uncertain"
    BY_HAND = "by_hand"


ACTIONS = {
    "retry": (State.FAILED, State.CANCELLED),
    "requeue": (State.RUNNING,),
    "cancel": (State.PENDING, State.RUNNING, State.RESTING),
    "fail": (State.PENDING, State.RUNNING),
}
"""In which states a person may do what (functions/sql/operate.sql decides)."""
