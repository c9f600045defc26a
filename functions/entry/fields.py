"""Checks of what callers name: watches, task ids, kinds."""

import importlib.util
import re
import uuid
from collections.abc import Callable
from typing import Any

from functions.core.policy import Policy, Watch
from functions.entry.http import text
from functions.errors import BadRequestError


def watch_of(policy: Policy, found: dict[str, Any]) -> Watch:
    name = text(found, "watch")
    if name and name not in policy.watches:
        raise BadRequestError(
            f"No watch is called {name!r}. There are: {', '.join(policy.watches)}."
        )
    return policy.watch(name)


def task_id_of(watch: Watch, value: Any) -> str:
    """The id in the form of the watch's key. Raises BadRequestError."""
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value):
        raise BadRequestError(
            '`task_id` is missing. Send {"task_id": "..."}, or ?task_id=... to task_status.'
        )
    found = str(value)
    try:
        return _FORMS[watch.key_type](found)
    except ValueError:
        raise BadRequestError(f"`task_id` must be a {watch.key_type}.") from None


def token_of(found: dict[str, Any]) -> str:
    """The token of an attempt. Raises BadRequestError."""
    try:
        return str(uuid.UUID(text(found, "token") or ""))
    except ValueError:
        raise BadRequestError(
            "`token` must be the uuid that claim_task gave with the task."
        ) from None


def _whole(found: str, bits: int) -> str:
    number = int(found)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise ValueError(found)
    return str(number)


def _plain(found: str) -> str:
    found.encode()  # fails on half a surrogate pair
    if "\0" in found:
        raise ValueError(found)
    return found


_FORMS: dict[str, Callable[[str], str]] = {
    "uuid": lambda found: str(uuid.UUID(found)),
    "text": _plain,
    "integer": lambda found: _whole(found, 32),
    "bigint": lambda found: _whole(found, 64),
}


def kind_of(watch: Watch, found: dict[str, Any]) -> str:
    """A kind that has a handler here. Raises BadRequestError."""
    kind = text(found, "kind")
    if not kind:
        raise BadRequestError('`kind` is missing. Send {"kind": "...", "input": {...}}.')
    if watch.rule(kind).handler or kind in watch.rules.keys() - {"*"}:
        return kind
    if not re.fullmatch(r"[a-z][a-z0-9_]*", kind) or not importlib.util.find_spec(
        f"functions.handlers.{kind}"
    ):
        raise BadRequestError(
            f"No handler is called {kind!r}. Put one in functions/handlers/{kind}.py.",
            code="unknown_kind",
        )
    return kind
