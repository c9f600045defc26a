"""create_task: writes a pending task and pushes it. The row comes first: a push that is lost is
sent again by the sweep."""

import datetime
from math import ceil
from typing import Any, assert_never

from functions.core import events
from functions.core.answers import Active, Conflict, Created, Exists, Limited
from functions.core.dispatch import push
from functions.core.policy import Watch
from functions.core.states import State
from functions.entry import auth, input_schema
from functions.entry.app import App
from functions.entry.fields import kind_of, watch_of
from functions.entry.http import Response, body, reply, text
from functions.entry.price import cost_of, refused
from functions.errors import BadRequestError, StoreError

LONGEST_DELAY_SECONDS = 30 * 86400.0
"""Of `scheduled_at`: Cloud Tasks takes nothing for later."""


def respond(app: App, request: Any) -> Response:
    """POST {kind, input, idempotency_key?, priority?, scheduled_at?, cost?, callback_url?, watch?}:
    201, or 200 when the key was used before. 402 when the owner's credits are too few, 409 when the
    price is another one, or one of the kind is active, 429 limited, 422 for an input that its
    schema refuses. `owner` only where no user is asked for a token, or by the service role."""
    user, fields = auth.user(app, request), body(request)
    watch = watch_of(app.policy, fields)
    if not watch.own:
        raise BadRequestError(f"Tasks of {watch.table} are created by its own application.")
    kind, task_input = kind_of(watch, fields), fields.get("input", {})
    if not isinstance(task_input, dict):
        raise BadRequestError("`input` must be a JSON object.")
    input_schema.check(watch, kind, task_input)
    at, cost = _time(fields.get("scheduled_at")), cost_of(watch, kind, fields)
    try:
        answer = app.store.create(
            watch,
            kind,
            task_input,
            owner=_owner(user, fields),
            key=text(fields, "idempotency_key"),
            priority=_priority(fields.get("priority", 0)),
            at=at,
            metadata={"cost": cost} if cost else None,
            callback=_callback(app, watch, fields),
        )
    except StoreError as error:
        raise refused(error) or error from None
    if answer.rescued:  # what stood in the way was overdue
        from functions.core.report import report

        report(app.dispatcher, watch, answer.rescued, by="create")
    task = accepted(kind, answer)
    if isinstance(task, Created):
        events.emit(events.TASK_CREATED, watch=watch.name, task_id=task.task_id, kind=kind)
    if task.state is State.PENDING and watch.is_pushed(kind):
        push(app.dispatcher, watch.name, task.task_id, 1, task.due_in)
    status = 201 if isinstance(task, Created) else 200
    return reply({"task_id": task.task_id, "state": task.state}, status)


def _owner(user: str | None, fields: dict[str, Any]) -> str | None:
    named = text(fields, "owner")
    if user and named not in {None, user}:
        raise BadRequestError("`owner` is you: leave it out.", status=403, code="another_owner")
    return user or named


def _callback(app: App, watch: Watch, fields: dict[str, Any]) -> str | None:
    """The URL, where it may be told of the end of the task."""
    if fields.get("callback_url") is None:
        return None
    from functions.core.callback_url import LONGEST_URL, is_allowed

    url = text(fields, "callback_url", longest=LONGEST_URL) or ""

    if "callback" not in watch.columns:
        raise BadRequestError(f"Tasks of {watch.name} have no `callback_url`.")
    if not is_allowed(url, app.settings.callback_hosts):
        raise BadRequestError(
            "`callback_url` must be https://HOST/..., with a host that is allowed (CALLBACK_HOSTS)."
        )
    return url


def accepted(kind: str, answer: Created | Exists | Conflict | Active | Limited) -> Created | Exists:
    """The task. Raises BadRequestError where there is none."""
    match answer:
        case Created() | Exists():
            return answer
        case Conflict():
            raise BadRequestError(
                "`idempotency_key` was used for another task.", status=409, code="conflict"
            )
        case Active():
            raise BadRequestError(
                f"There is an open task of {kind} already. Wait for its end.",
                status=409,
                code="active",
                task_id=answer.task_id,
                state=answer.state,
            )
        case Limited():
            wait = {"Retry-After": str(max(1, ceil(answer.retry_after)))}
            why = "These are too many tasks for a minute. Wait a little."
            raise BadRequestError(why, status=429, code="too_many", headers=wait)
        case _:
            assert_never(answer)


def _priority(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value // 1 or not -1000 <= value <= 1000:  # 1.0 is 1 in JSON
        raise BadRequestError("`priority` must be a whole number from -1000 to 1000.")
    return int(value)


def _time(value: Any) -> str | None:
    """An ISO time with a zone, in UTC. The database compares it with its clock; ours only sees that
    it is not absurdly far."""
    if value is None:
        return None
    try:
        at = datetime.datetime.fromisoformat(value)
        delay = (at - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (TypeError, ValueError):
        raise BadRequestError(
            "`scheduled_at` must be a time with a zone, such as 2026-01-31T12:00:00Z."
        ) from None
    if delay > LONGEST_DELAY_SECONDS:
        raise BadRequestError("`scheduled_at` may be 30 days ahead at most.")
    return at.isoformat() if delay > -LONGEST_DELAY_SECONDS else None
