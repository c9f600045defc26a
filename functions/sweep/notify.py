"""Tells people of the tasks that a sweep failed, many in one message. From: the outbox, which the
sweep's own transaction fills where a watch has `notify: true`. To: NOTIFY_URL, as JSON that Slack
shows, signed with NOTIFY_SECRET by the rules of Standard Webhooks.

No failure is left out. A receiver sees a message twice only when this process died, or could not
reach the database, after the message was sent and before that was recorded; `webhook-id` is the
same then. Nothing here makes a sweep fail."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from typing import Any

from functions.core import events
from functions.core.answers import FailedTask, Message
from functions.core.policy import Policy
from functions.core.record import plain
from functions.core.settings import Settings
from functions.errors import StoreError
from functions.store import Store

LEASE_SECONDS = 60.0
"""So long a message belongs to the sweep that took it. A call takes 2 * TIMEOUT_SECONDS at most."""
LEAST_TIMEOUT_SECONDS, TIMEOUT_SECONDS = 1.0, 5.0
"""To connect, and again to the answer: half of the time that is left, within these bounds."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 3600.0
"""Before a message is tried again: doubled after each try, up to the longest."""
MAX_TRIES = 12
"""Then a message is given up, after about 5 hours."""
LISTED_TASKS = 50
"""Tasks that a message names; it counts the others."""
TEXT_LINES = 10


def notify(store: Store, policy: Policy, settings: Settings, until: float) -> None:
    """Sends what waits, until `until` (time.monotonic), or until the receiver does not take one."""
    if not settings.notify_url or not any(watch.notify for watch in policy.watches.values()):
        return
    watches = list(policy.watches) if policy.own_part else None
    try:
        while (left := until - time.monotonic()) > 2 * LEAST_TIMEOUT_SECONDS and (
            message := store.outbox_take(LEASE_SECONDS, watches)
        ):
            if not _send(store, settings, message, min(TIMEOUT_SECONDS, left / 2)):
                return
    except StoreError as error:
        events.emit(
            events.NOTIFICATION_FAILED, outcome="retried", count=None, times=None, error=str(error)
        )


def _send(store: Store, settings: Settings, message: Message, timeout: float) -> bool:
    error = _post(settings, message, timeout)
    about: dict[str, Any] = {"count": len(message.tasks), "times": message.times}
    if error is None:
        store.outbox_end(message.message)
        events.emit(events.NOTIFICATION_SENT, **about)
        return True
    again = message.times < MAX_TRIES
    after = (
        min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (message.times - 1))
        if again
        else None
    )
    store.outbox_end(message.message, error, after)
    events.emit(
        events.NOTIFICATION_FAILED,
        level=None if again else events.ERROR,
        outcome="retried" if again else "given up",
        error=error,
        **about,
    )
    return False


def _post(settings: Settings, message: Message, timeout: float) -> str | None:
    """What went wrong, in words without the URL: Slack's is a secret."""
    import requests

    content = json.dumps(body(message)).encode()
    try:
        headers = {
            "Content-Type": "application/json",
            **signed(settings.notify_secret, message.message, content),
        }
        with requests.post(
            settings.notify_url or "",
            data=content,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        ) as answer:
            if 200 <= answer.status_code < 300:
                return None
            return f"the receiver answered {answer.status_code}"
    except (requests.RequestException, ValueError) as error:  # ValueError: no URL, no secret
        return f"the receiver cannot be reached: {type(error).__name__}"


def body(message: Message) -> dict[str, Any]:
    tasks = message.tasks
    return {
        "text": _text(tasks),
        "id": message.message,
        "count": len(tasks),
        "tasks": plain(tasks[:LISTED_TASKS]),
        "more": max(0, len(tasks) - LISTED_TASKS),
    }


def _text(tasks: list[FailedTask]) -> str:
    """`2 tasks failed:`, and a line for each table, kind and reason, the most frequent first."""
    groups = Counter((task.watch, task.kind, task.reason) for task in tasks).most_common()
    lines = [
        f"{count} x {_escaped(kind)} of {watch}: {reason}"
        for (watch, kind, reason), count in groups[:TEXT_LINES]
    ]
    rest = sum(count for _, count in groups[TEXT_LINES:])
    lines += [f"and {rest} more"] if rest else []
    return "\n".join([f"{len(tasks)} task{'s' * (len(tasks) > 1)} failed:", *lines])


def _escaped(kind: str) -> str:
    """A kind is data: it begins no line, and Slack must not read it as a link, as a mention of
    everybody or as bold. What is no simple word stands as code, in which Slack finds none."""
    if re.fullmatch(r"[\w-]{1,100}", kind, re.ASCII):
        return kind
    from functions.core.visible import visible  # of the few runs that tell of such a kind

    text = visible(kind)[:100].replace("`", "'")
    return f"`{text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}`"


def signed(secret: str | None, message: str, content: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks. A secret is `whsec_` and base64, or any text; without one
    there is no signature.

    Raises ValueError for a secret that is not base64 after `whsec_`, or nothing.
    """
    at = str(int(time.time()))
    headers = {"webhook-id": message, "webhook-timestamp": at}
    if not secret:
        return headers
    coded = secret.removeprefix("whsec_")
    key = base64.b64decode(coded, validate=True) if coded != secret else secret.encode()
    if not key:
        raise ValueError("an empty secret")
    digest = hmac.new(key, f"{message}.{at}.".encode() + content, hashlib.sha256).digest()
    return headers | {"webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}
