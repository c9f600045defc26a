"""Reports what became of overdue tasks, whoever rescued them, and pushes those that are pending
again."""

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
        events.emit_lines([_line(watch, task, by) for task in rescued])
    if dispatcher is not None:
        push_all(dispatcher, pushes_of(watch, rescued))


def pushes_of(watch: Watch, rescued: list[Rescued]) -> list[Push]:
    """The pushes of the tasks that are pending again."""
    return [
        Push(watch.name, task.task_id, task.number + 1, task.retry_after or 0.0)
        for task in rescued
        if task.state is RescuedState.PENDING and watch.is_pushed(task.kind)
    ]


def _line(watch: Watch, task: Rescued, by: str) -> str:
    event, level = _EVENTS[task.state]
    return event.line({**vars(task), "watch": watch.name, "by": by}, level)


_EVENTS = {
    RescuedState.PENDING: (events.TASK_REQUEUED, None),
    RescuedState.FAILED: (events.TASK_FINISHED, events.WARNING),
    RescuedState.CANCELLED: (events.TASK_FINISHED, None),
    RescuedState.OVERTAKEN: (events.TASK_OVERTAKEN, None),
}
