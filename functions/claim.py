"""claim: makes this worker the holder of a task, or says why not."""

import time
from typing import Any

from functions import events
from functions.policy import Watch
from functions.report import report
from functions.settings import settings
from functions.store import Answer, Store

SOON = 5.0
"""A push that comes this many seconds early is waited for: the queue's clock is not the database's."""


def claim(store: Store, watch: Watch, task_id: str | None, kinds: list[str] | None = None) -> Answer:
    """Verdict claimed, held, early, ended, resting, missing or none. Raises StoreError."""
    answer = store.claim(watch, task_id, settings().instance, kinds)
    if answer["verdict"] == "early" and answer["retry_after"] <= SOON:
        time.sleep(answer["retry_after"])
        answer = store.claim(watch, task_id, settings().instance, kinds)
    report(watch, answer.get("rescued") or [], by="claim")
    _say(watch, task_id, answer)
    return answer


def _say(watch: Watch, task_id: str | None, answer: dict[str, Any]) -> None:
    known = {"watch": watch.name, "task_id": task_id, **answer}
    if answer["verdict"] == "claimed":
        events.emit(events.TASK_CLAIMED, worker=settings().instance, **known)
    elif answer["verdict"] != "none":
        events.emit(events.CLAIM_REFUSED, **known)
