"""What a person does to many tasks at once: one call for all; where the database refuses that, one
call for each task, so that a bad row is reported and never stops the others."""

from functions.core.policy import Watch
from functions.core.record import Record
from functions.errors import StoreError
from functions.store.verbs import Store


class Refusal(Record):
    """A task that the database did not move, and its reason."""

    task_id: str
    error: StoreError


def operate(
    store: Store, watch: Watch, action: str, task_ids: list[str], because: str | None = None
) -> tuple[list[str], list[Refusal]]:
    """`action` is a key of `ACTIONS`; `because` is the sentence for the user. Returns the tasks
    that moved, and the refusals; the state of a task in neither list no longer fits the action.

    Once the database cannot be reached (`error.retryable`), the rest is refused without a call."""
    try:
        return store.operate(watch, action, task_ids, because), []
    except StoreError as error:
        if error.retryable or len(task_ids) == 1:
            return [], [Refusal(task_id, error) for task_id in task_ids]
    moved: list[str] = []
    refusals: list[Refusal] = []
    for position, task_id in enumerate(task_ids):
        try:
            moved += store.operate(watch, action, [task_id], because)
        except StoreError as error:
            if error.retryable:
                return moved, refusals + [Refusal(left, error) for left in task_ids[position:]]
            refusals.append(Refusal(task_id, error))
    return moved, refusals
