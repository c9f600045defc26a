"""Tells people how tasks ended, many in one message, and backends that a task of theirs did. From:
the outbox, which each transaction that ends an attempt fills as the policy says. To: NOTIFY_URL,
the other addresses and the callbacks of tasks, as JSON that Slack shows, signed by the rules of
Standard Webhooks.

No end is left out. A receiver sees a message twice only when its answer came too late, or when this
process died, or could not reach the database, after the message was sent and before that was
recorded; `webhook-id` is the same then. Nothing here makes a sweep fail."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from functions.core import events
from functions.core.answers import Message, ToldEnd
from functions.core.policy import Policy
from functions.core.record import plain
from functions.core.settings import Settings
from functions.errors import StoreError
from functions.store import Store
from functions.sweep.time_share import within

LEASE_SECONDS = 60.0
"""So long a message belongs to the sweep that took it. A call takes 2 * TIMEOUT_SECONDS at most."""
LEAST_TIMEOUT_SECONDS, TIMEOUT_SECONDS = 1.0, 5.0
"""To connect, and again to the answer: half of the time that is left, within these bounds."""
LISTED_TASKS = 50
"""Tasks that a message to people names; it counts the others."""
TEXT_LINES = 10
DEFAULT, CALLBACK = "default", "callback"
"""The addresses of NOTIFY_URL, and of the URLs that tasks bring along."""
NOTICE = "notice"
"""The state of what is of no task."""
ORDER = ("failed", "retried", "cancelled", "completed")

Target = tuple[str, str | None]
"""A URL, and the secret that signs what is sent to it."""


def notify(store: Store, policy: Policy, settings: Settings, until: float) -> None:
    """Sends what waits, until `until` (time.monotonic). An address that does not take a message is
    left alone until the next run."""
    targets = _targets(settings)
    watches = list(policy.watches) if policy.own_part else None
    try:
        while (
            targets
            and (left := until - time.monotonic()) > 2 * LEAST_TIMEOUT_SECONDS
            and (message := store.outbox_take(LEASE_SECONDS, watches, _asked(targets)))
        ):
            target = targets[message.address]
            if message.url:
                target = message.url, target[1]
            is_sent = _send(store, settings, message, target, min(TIMEOUT_SECONDS, left / 2))
            if not is_sent and message.address != CALLBACK:  # another callback is another receiver
                del targets[message.address]
    except StoreError as error:
        events.emit(
            events.NOTIFICATION_FAILED,
            outcome="retried",
            address=None,
            count=None,
            times=None,
            error=str(error),
        )


def tell_at_once(settings: Settings, message: str, code: str, text: str) -> None:
    """Sends a sentence to NOTIFY_URL past the outbox. It fails nothing; nobody tries it again."""
    notice = ToldEnd("", "", 0, "", code, text, _now(), NOTICE)
    target = settings.notify_url or "", settings.notify_secret
    error = _post(settings, Message(message, 1, [notice]), target, LEAST_TIMEOUT_SECONDS)
    if error is None:
        events.emit(events.NOTIFICATION_SENT, address=DEFAULT, count=0, times=1)
        return
    events.emit(
        events.NOTIFICATION_FAILED,
        outcome="not tried again",
        address=DEFAULT,
        count=0,
        times=1,
        error=error,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _targets(settings: Settings) -> dict[str, Target]:
    """By the name of the address."""
    targets: dict[str, Target] = {}
    if settings.notify_url:
        targets[DEFAULT] = settings.notify_url, settings.notify_secret
    targets |= settings.notify_others
    if settings.callback_hosts:
        targets[CALLBACK] = "", settings.callback_secret
    return targets


def _asked(targets: dict[str, Target]) -> list[str] | None:
    """None for the default address alone, as the SQL of the last release knows it."""
    return None if list(targets) == [DEFAULT] else list(targets)


def _send(
    store: Store, settings: Settings, message: Message, target: Target, timeout: float
) -> bool:
    error = _post(settings, message, target, timeout)
    about: dict[str, Any] = {
        "address": message.address,
        "count": len(message.tasks),
        "times": message.times,
    }
    if error is None:
        store.outbox_end(message.message)
        events.emit(events.NOTIFICATION_SENT, **about)
        return True
    again = message.retry_after is not None
    store.outbox_end(message.message, error, message.retry_after)
    events.emit(
        events.NOTIFICATION_FAILED,
        level=None if again else events.ERROR,
        outcome="retried" if again else "given up",
        error=error,
        **about,
    )
    return False


def _post(settings: Settings, message: Message, target: Target, timeout: float) -> str | None:
    """What went wrong, in words without the URL: Slack's is a secret. A receiver that answers byte
    by byte never reaches a time limit of its own, so it is left alone after two of them."""
    errors: list[str | None] = ["the receiver's answer has no end"]

    def call(_: float) -> None:
        errors[0] = _call(settings, message, target, timeout)

    within(time.monotonic() + 2 * timeout, call)
    return errors[0]


def _call(settings: Settings, message: Message, target: Target, timeout: float) -> str | None:
    import requests

    content = json.dumps(body(message)).encode()
    url, secret = target
    try:
        session = _session(settings, message, url)
        headers = {"Content-Type": "application/json", **signed(secret, message.message, content)}
        with (
            session,
            session.post(
                url,
                data=content,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as answer,
        ):
            if 200 <= answer.status_code < 300:
                return None
            return f"the receiver answered {answer.status_code}"
    except (requests.RequestException, ValueError) as error:  # ValueError: no URL, no secret
        return f"the receiver cannot be reached: {type(error).__name__}"


def _session(settings: Settings, message: Message, url: str) -> Any:
    """The URL of a callback was named by a caller: it may lead to no private address."""
    if message.address == CALLBACK:
        from functions.sweep import callback

        return callback.session(url, settings.callback_hosts)
    import requests

    return requests.Session()


def body(message: Message) -> dict[str, Any]:
    tasks = message.tasks
    listed = tasks if message.address == CALLBACK else tasks[:LISTED_TASKS]
    return {
        "text": _text(tasks),
        "id": message.message,
        "count": len(tasks),
        "tasks": plain(listed),
        "more": len(tasks) - len(listed),
    }


def _text(tasks: list[ToldEnd]) -> str:
    """`2 tasks failed:`, and a line for each table, kind and reason, the most frequent first."""
    notices = dict.fromkeys(task.cause or task.reason for task in tasks if task.state == NOTICE)
    ends = [task for task in tasks if task.state != NOTICE]
    if not ends:
        return "\n".join(notices)
    groups = Counter((task.watch, task.kind, task.reason) for task in ends).most_common()
    lines = [
        f"{count} x {_escaped(kind)} of {watch}: {reason}"
        for (watch, kind, reason), count in groups[:TEXT_LINES]
    ]
    rest = sum(count for _, count in groups[TEXT_LINES:])
    lines += [f"and {rest} more"] if rest else []
    return "\n".join([*notices, f"{_counted(ends)}:", *lines])


def _counted(ends: list[ToldEnd]) -> str:
    """`2 tasks failed, 1 task completed`."""
    counts = Counter(end.state for end in ends)
    return ", ".join(
        f"{counts[state]} task{'s' * (counts[state] > 1)} {state}"
        for state in ORDER
        if counts[state]
    )


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
