"""For the commands that are about one task: its status, a sentence about it, its attempts."""

import argparse
import shlex
from typing import Any, NamedTuple

from functions.core.answers import Attempt, TaskStatus
from functions.core.explain import explain
from functions.core.policy import Watch
from functions.core.states import OPEN, State
from functions.errors import PolicyError, StoreError
from functions.ops.cli import target
from functions.ops.cli.out import PROGRAM, print_message, print_table, span
from functions.store import Store
from functions.store.verbs import NO_SUCH_FUNCTION

ATTEMPT = (
    "number",
    "tries",
    "worker",
    "started_at",
    "ended_at",
    "age",
    "took",
    "beats",
    "outcome",
    "reason",
    "cause",
    "error",
    "detail",
    "evidence",
    "progress",
    "checkpoints",
    "sweep_id",
)
"""The keys of an attempt in JSON."""


NOT_A_KEY = {"22P02", "22003"}
"""SQLSTATEs of a text that is no uuid or no number, and of a number that is too large."""


class Task(NamedTuple):
    """A task as people see it. `explanation` is a sentence: why it is where it is."""

    status: TaskStatus
    explanation: str
    attempts: list[Attempt]
    same_watch: str = ""
    """What the next command needs to be about the same watch."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="the task's key")
    target.arguments(parser)


def read(options: argparse.Namespace) -> Task:
    """Reads the task and changes nothing; without --in from whichever watch has it. Raises
    StoreError when there is none, PolicyError when several have one of that key."""
    store, policy, _ = target.target(options)
    watches = target.watches(options, policy)
    holders = _statuses(store, watches, options.id)
    if not holders:
        tables = ", ".join(watch.table for watch in watches)
        raise StoreError(
            f"There is no task {options.id} in {tables}. `list` shows those that are open.",
            retryable=False,
        )
    if len(holders) > 1:
        names = " and ".join(watch.name for watch, _ in holders)
        raise PolicyError(f"There is a task {options.id} in {names}. Give one of them with --in.")
    [(watch, status)] = holders
    if len(watches) > 1 and watch != watches[0]:
        options.name = watch.name
    history = store.history(watch, status.task_id)
    return Task(status, explain(policy, watch, status), history, target.again(options))


def _statuses(store: Store, watches: list[Watch], key: str) -> list[tuple[Watch, TaskStatus]]:
    """The task of that key in each watch that has one. A watch that is not installed yet is an
    error only where no other has the task."""
    statuses: list[tuple[Watch, TaskStatus]] = []
    refusals, missing = [], []
    for watch in watches:
        try:
            status = store.status(watch, key, heal=False)
        except StoreError as error:
            if error.code in NO_SUCH_FUNCTION:
                missing.append(error)
            elif error.code in NOT_A_KEY:
                refusals.append(error)
            else:
                raise
        else:
            statuses += [(watch, status)] if status else []
    if missing and not statuses:
        raise missing[0]
    if len(refusals) == len(watches):  # it is a key of none of the tables
        raise refusals[0]
    return statuses


def sentence(task: Task) -> str:
    status = task.status
    return f"{status.kind or 'task'} {status.task_id} is {status.word}. {task.explanation}"


def print_next(task: Task) -> None:
    """The command that most people need next, on stderr."""
    status = task.status
    if status.overdue:
        words = "sweep"
    elif status.state in {State.FAILED, State.CANCELLED}:
        words = f"retry --id {shlex.quote(status.task_id)}"
    elif status.state in OPEN:
        words = f"cancel --id {shlex.quote(status.task_id)}"
    else:
        return
    print_message(f"Next: {PROGRAM} {words}{task.same_watch}")


def print_timeline(attempts: list[Attempt]) -> None:
    """Prints a table of the attempts; nothing when there were none."""
    if attempts:
        columns = ("attempt", "started (UTC)", "took", "worker", "outcome", "cause", "detail")
        print_table(columns, [_row(attempt) for attempt in attempts])


def _row(attempt: Attempt) -> list[Any]:
    return [
        attempt.number,
        attempt.started_at[:19],
        span(attempt.took if attempt.ended_at else attempt.age),
        _short(attempt.worker),
        attempt.outcome or "live",
        attempt.cause or attempt.reason,
        attempt.evidence or attempt.detail or attempt.error,
    ]


def _short(worker: str | None) -> str | None:
    """The id of a Cloud Run instance is as long as a line."""
    if worker is None or len(worker) <= 40:
        return worker
    return f"{worker[:39]}…"
