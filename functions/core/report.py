"""Says what became of overdue tasks, whoever rescued them, and pushes those that are pending again."""

from typing import Any

from functions.core import events
from functions.core.dispatch import push
from functions.core.policy import Watch


def report(watch: Watch, rescued: list[dict[str, Any]], *, by: str) -> None:
    """Writes one event for each task. `by` is sweep, status or claim; a claim takes the task
    itself: no push."""
    if rescued:
        events.emit_lines([_line(watch, task, by) for task in rescued])
    if by != "claim":
        for task in rescued:
            if task["state"] == "pending" and not push(
                watch.name, task["task_id"], task["number"] + 1, task["retry_after"]
            ):
                # a queue that is away may hold up one push, not 500: the sweep sends the others
                # again
                return


def _line(watch: Watch, task: dict[str, Any], by: str) -> str:
    event, level = _EVENTS[task["state"]]
    return event.line({**task, "watch": watch.name, "by": by}, level)


_EVENTS = {
    "pending": (events.TASK_REQUEUED, None),
    "failed": (events.TASK_FINISHED, events.WARNING),
    "overtaken": (events.TASK_OVERTAKEN, None),
}
