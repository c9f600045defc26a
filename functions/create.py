"""create: writes a pending task and pushes it. The row comes first: a push that is lost is sent again by the sweep."""

import datetime
from typing import Any

from functions import events
from functions.dispatch import push
from functions.errors import BadRequestError, StoreError
from functions.ids import kind_of, watch_of
from functions.price import cost_of, refused
from functions.store import policy, store
from functions.web import Response, body, reply, text


def respond(request: Any) -> Response:
    """POST {kind, input, idempotency_key?, priority?, scheduled_at?, cost?, watch?}: 201, or 200 when the key was used
    before. 402 when the owner's credits are too few, 409 when the price is another one."""
    found = body(request)
    watch = watch_of(policy(), found)
    if not watch.own:
        raise BadRequestError(f"Tasks of {watch.table} are created by its own application.")
    kind, task_input = kind_of(watch, found), found.get("input", {})
    if not isinstance(task_input, dict):
        raise BadRequestError("`input` must be a JSON object.")
    delay, cost = _delay(found.get("scheduled_at")), cost_of(watch, kind, found)
    try:
        answer = store().create(
            watch,
            kind,
            task_input,
            key=text(found, "idempotency_key"),
            priority=_priority(found.get("priority", 0)),
            delay=delay,
            metadata={"cost": cost} if cost else None,
        )
    except StoreError as error:
        raise refused(error) or error from None
    if answer["verdict"] == "conflict":
        raise BadRequestError("`idempotency_key` was used for another task.", status=409, code="conflict")
    if answer["verdict"] == "created":
        events.emit(events.TASK_CREATED, watch=watch.name, task_id=answer["task_id"], kind=kind)
    if answer["state"] == "pending":
        push(watch.name, answer["task_id"], 1, delay)
    return reply(
        {"task_id": answer["task_id"], "state": answer["state"]},
        201 if answer["verdict"] == "created" else 200,
    )


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -1000 <= value <= 1000:
        raise BadRequestError("`priority` must be a whole number from -1000 to 1000.")
    return value


def _delay(value: Any) -> float:
    """Seconds until an ISO time with a zone; 0 for none, or for one that has passed."""
    if value is None:
        return 0.0
    try:
        at = datetime.datetime.fromisoformat(value)
        delay = (at - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (TypeError, ValueError):
        raise BadRequestError("`scheduled_at` must be a time with a zone, such as 2026-01-31T12:00:00Z.") from None
    if delay > 30 * 86400:
        raise BadRequestError("`scheduled_at` may be 30 days ahead at most.")
    return max(0.0, delay)
