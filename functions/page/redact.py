"""Hides what looks like a secret in what the page shows of a task."""

import json
import re
from collections.abc import Iterable
from typing import Any

SECRET_WORDS = (
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
"""A key that contains one of them, in whatever case and with or without hyphens, has its value
hidden. PAGE_REDACT adds more."""
HIDDEN = "••• hidden •••"
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_SIGNED = re.compile(r"(?i)([?&](?:[\w-]*(?:signature|token|key|secret|sig))=)[^&\s\"]+")


def redacted(value: Any, more_words: Iterable[str] = ()) -> Any:
    """`value` with secrets hidden: by their keys, and in texts by their form (`Bearer ...`,
    `?token=...`)."""
    words = [*SECRET_WORDS, *map(_letters, more_words)]

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: HIDDEN if _is_secret(key, words) else walk(part[key]) for key in part}
        if isinstance(part, list):
            return [walk(member) for member in part]
        return _redacted_text(part) if isinstance(part, str) else part

    return walk(value)


def shown(value: Any, more_words: Iterable[str] = ()) -> str:
    """As indented JSON, redacted."""
    return json.dumps(redacted(value, more_words), indent=2, ensure_ascii=False)


def _redacted_text(text: str) -> str:
    if text.lstrip()[:1] in {"{", "["}:  # JSON in a text: its keys count too
        try:
            return json.dumps(redacted(json.loads(text)), ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return _SIGNED.sub(rf"\1{HIDDEN}", _BEARER.sub(rf"\1 {HIDDEN}", text))


def _is_secret(key: str, words: list[str]) -> bool:
    letters = _letters(key)
    return any(word in letters for word in words)


def _letters(key: str) -> str:
    """A key without case and hyphens: apikey for API-Key."""
    return re.sub(r"[^a-z0-9]", "", str(key).lower())
