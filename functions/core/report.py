"""Reports what became of overdue tasks, whoever rescued them, and pushes those that are pending
again."""

from functions.core import events
from functions.core.answers import Rescued, RescuedState
from functions.core.dispatch import Dispatcher, push
from functions.core.policy import Watch


def report(dispatcher: Dispatcher | None, watch: Watch, rescued: list[Rescued], *, by: str) -> None:
    """Writes one event for each task. `by` is sweep, status, create or claim. Without a dispatcher
    nothing is pushed: a claim takes the task itself."""
    if rescued:
        events.emit_lines([_line(watch, task, by) for task in rescued])
    if dispatcher is not None:
        for task in rescued:
            if task.state is RescuedState.PENDING and not push(
                dispatcher, watch.name, task.task_id, task.number + 1, task.retry_after or 0.0
            ):
                # A queue that does not answer may hold up one push, not 500: the sweep sends the
                # others again.
                return


def _line(watch: Watch, task: Rescued, by: str) -> str:
    event, level = _EVENTS[task.state]
    return event.line({**vars(task), "watch": watch.name, "by": by}, level)


_EVENTS = {
    RescuedState.PENDING: (events.TASK_REQUEUED, None),
    RescuedState.FAILED: (events.TASK_FINISHED, events.WARNING),
    RescuedState.OVERTAKEN: (events.TASK_OVERTAKEN, None),
}
