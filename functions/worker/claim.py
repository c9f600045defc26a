"""claim: makes a worker the holder of a task, or says why not."""

import time
from typing import Any

from functions.core import events
from functions.core.policy import Watch
from functions.core.report import report
from functions.store import Answer, Store
from functions.worker.instance import instance

SOON = 5.0
"""A push that comes this many seconds early is waited for: the queue's clock is not the database's.
"""


def claim(
    store: Store,
    watch: Watch,
    task_id: str | None,
    kinds: list[str] | None = None,
    *,
    worker: str | None = None,
    token: str | None = None,
) -> Answer:
    """Verdict claimed, held, early, ended, resting, missing or none. Raises StoreError.

    `worker` is this one, unless the worker is elsewhere. `token` repeats a claim whose answer was
    lost."""
    worker = worker or instance()
    answer = store.claim(watch, task_id, worker, kinds, token)
    if answer["verdict"] == "early" and answer["retry_after"] <= SOON:
        time.sleep(answer["retry_after"])
        answer = store.claim(watch, task_id, worker, kinds, token)
    report(watch, answer.get("rescued") or [], by="claim")
    _say(watch, task_id, worker, answer)
    return answer


def _say(watch: Watch, task_id: str | None, worker: str, answer: dict[str, Any]) -> None:
    known = {"watch": watch.name, "task_id": task_id, **answer}
    if answer["verdict"] == "claimed":
        events.emit(events.TASK_CLAIMED, worker=worker, **known)
    elif answer["verdict"] != "none":
        events.emit(events.CLAIM_REFUSED, **known)
