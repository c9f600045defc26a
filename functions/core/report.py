"""Reports what became of overdue tasks, whoever rescued them, and pushes those that are pending
again."""

from typing import Any

from functions.core import events
from functions.core.answers import Pause, Rescued, RescuedState
from functions.core.dispatch import Dispatcher, Push, push_all
from functions.core.policy import Watch


def tell_pause(pause: Pause, verdict: str) -> None:
    """The event of a pause that began (`paused`), is over (`resumed`) or is `forgotten`."""
    event_by_verdict = {
        "paused": events.KIND_PAUSED,
        "resumed": events.KIND_RESUMED,
        "forgotten": events.PAUSE_FORGOTTEN,
    }
    events.emit(event_by_verdict[verdict], **vars(pause) | {"age": round(pause.age)})


def report(dispatcher: Dispatcher | None, watch: Watch, rescued: list[Rescued], *, by: str) -> None:
    """Writes one event for each task. `by` is sweep, status, create or claim. Without a dispatcher
    nothing is pushed: a claim takes the task itself, and a sweep pushes later."""
    if rescued:
        events.emit_lines(_lines(watch, rescued, by))
    if dispatcher is not None:
        push_all(dispatcher, pushes_of(watch, rescued))


def pushes_of(watch: Watch, rescued: list[Rescued]) -> list[Push]:
    """The pushes of the tasks that are pending again."""
    return [
        Push(watch.name, task.task_id, task.number + 1, task.retry_after or 0.0)
        for task in rescued
        if task.state is RescuedState.PENDING and watch.is_pushed(task.kind)
    ]


def _lines(watch: Watch, rescued: list[Rescued], by: str) -> list[str]:
    """A mass of tasks mostly ends in a few ways."""
    lines = []
    by_end: dict[tuple[Any, ...], events.LinesAlike] = {}
    for task in rescued:
        end = (task.state, task.kind, task.reason, task.cause, task.number, task.tries)
        alike = by_end.get(end)
        if alike is None:
            event, level = _EVENTS[task.state]
            values = {**vars(task), "watch": watch.name, "by": by}
            alike = by_end[end] = events.LinesAlike(event, values, level)
        lines.append(alike.line(task.task_id, task.retry_after))
    return lines


_EVENTS = {
    RescuedState.PENDING: (events.TASK_REQUEUED, None),
    RescuedState.FAILED: (events.TASK_FINISHED, events.WARNING),
    RescuedState.CANCELLED: (events.TASK_FINISHED, None),
    RescuedState.OVERTAKEN: (events.TASK_OVERTAKEN, None),
}
