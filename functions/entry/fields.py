"""Checks of what callers name: watches, task ids, tokens, kinds."""

import importlib.util
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from functions.core.policy import Policy, Watch
from functions.entry.http import text
from functions.errors import BadRequestError


def watch_of(policy: Policy, fields: Mapping[str, Any]) -> Watch:
    """The watch that `watch` names, else the first. Raises BadRequestError."""
    name = text(fields, "watch")
    try:
        return policy.watch(name)
    except KeyError:
        raise BadRequestError(
            f"No watch is called {name!r}. There are: {', '.join(policy.watches)}."
        ) from None


def task_id_of(watch: Watch, value: Any) -> str:
    """The id in the form of the watch's key. Raises BadRequestError."""
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value):
        raise BadRequestError(
            '`task_id` is missing. Send {"task_id": "..."}, or ?task_id=... to task_status.'
        )
    try:
        return _KEY_FORMS[watch.key_type](str(value))
    except ValueError:
        raise BadRequestError(f"`task_id` must be a {watch.key_type}.") from None


def token_of(fields: Mapping[str, Any]) -> str:
    """The token of an attempt. Raises BadRequestError."""
    try:
        return str(uuid.UUID(text(fields, "token") or ""))
    except ValueError:
        raise BadRequestError(
            "`token` must be the uuid that claim_task gave with the task."
        ) from None


def _whole_number(text: str, bits: int) -> str:
    number = int(text)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise ValueError(text)
    return str(number)


def _storable_text(text: str) -> str:
    text.encode()  # fails on half a surrogate pair
    if "\0" in text:
        raise ValueError(text)
    return text


_KEY_FORMS: dict[str, Callable[[str], str]] = {
    "uuid": lambda text: str(uuid.UUID(text)),
    "text": _storable_text,
    "integer": lambda text: _whole_number(text, 32),
    "bigint": lambda text: _whole_number(text, 64),
}
"""By the type of the key: the one form of an id, or ValueError for what is no such key."""


def kind_of(watch: Watch, fields: Mapping[str, Any]) -> str:
    """A kind that has a handler here. Raises BadRequestError."""
    kind = text(fields, "kind")
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
