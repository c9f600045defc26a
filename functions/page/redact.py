"""Hides what looks like a secret in what the page shows of a task."""

import json
import re
from collections.abc import Iterable
from typing import Any

WORDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "authorization",
    "cookie",
    "credential",
    "apikey",
    "privatekey",
    "accesskey",
    "signature",
    "session",
)
"""A key that contains one of them, whatever its case and its hyphens, has its value hidden.
PAGE_REDACT adds more."""
HIDDEN = "••• hidden •••"
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_SIGNED = re.compile(r"(?i)([?&](?:[\w-]*(?:signature|token|key|secret|sig))=)[^&\s\"]+")


def redacted(value: Any, more: Iterable[str] = ()) -> Any:
    """`value` with secrets hidden: by their keys, and in texts by their form (`Bearer ...`,
    `?token=...`)."""
    words = [*WORDS, *(_plain(one) for one in more)]

    def walk(found: Any) -> Any:
        if isinstance(found, dict):
            return {
                key: HIDDEN if any(word in _plain(key) for word in words) else walk(one)
                for key, one in found.items()
            }
        if isinstance(found, list):
            return [walk(one) for one in found]
        return _text(found) if isinstance(found, str) else found

    return walk(value)


def shown(value: Any, more: Iterable[str] = ()) -> str:
    """As indented JSON, redacted."""
    return json.dumps(redacted(value, more), indent=2, ensure_ascii=False)


def _text(found: str) -> str:
    if found.lstrip()[:1] in {"{", "["}:  # JSON in a text: its keys count too
        try:
            return json.dumps(redacted(json.loads(found)), ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return _SIGNED.sub(rf"\1{HIDDEN}", _BEARER.sub(rf"\1 {HIDDEN}", found))


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(key).lower())
