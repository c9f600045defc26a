"""Hides what looks like a secret in what people are shown of a task, and in what is logged. The
page, the command line and the events use this one module."""

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

SECRET_WORDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
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
SECRET_NAMES = {"auth", "pass", "pin", "sig"}
"""Keys that are hidden when they are the whole key: as a part they stand in many words."""
HIDDEN = "••• hidden •••"
MAX_LEVELS = 100
"""Of objects and lists in each other; what lies deeper is hidden."""
_WORDS = (
    r"(?:api|access|account|private|secret)[_-]?key|(?-i:[A-Z][A-Z\d_]{1,60}_KEY)|[?&]key|token|"
    r"secret|passw(?:or)?d|passphrase|pwd|signature|credentials?|\bsig"
)
_QUOTE = r"\\{0,4}[\"']"
"""Perhaps inside another text, where backslashes stand before it."""
_FORMS = (
    # the password in a URL; of a web page what is behind the first slash is none
    (
        ("://",),
        re.compile(r"(://[^\s:/@'\"]{0,200}:)(?!password@)[^\s'\"/]{1,500}@"),
        rf"\1{HIDDEN}@",
    ),
    (
        ("://",),
        re.compile(
            r"(?i)((?<!http)(?<!https)://[^\s:/@]{0,200}:)(?!password@)(?:(?!://)\S){1,500}@"
        ),
        rf"\1{HIDDEN}@",
    ),
    # a token in the place of a user
    (("://",), re.compile(r"(?i)(https?://)[^\s:/@'\"]{12,500}@"), rf"\1{HIDDEN}@"),
    # an address that anybody may post to
    (
        ("//hooks.slack.com/",),
        re.compile(r"(?i)(//hooks\.slack\.com/)[\w/-]{1,200}"),
        rf"\1{HIDDEN}",
    ),
    (
        ("-----begin ",),
        re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[\w\s+/=\\:,.-]{1,20000}"),
        rf"\1{HIDDEN}",
    ),
    # a header
    (("bearer", "basic"), re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (
        ("authorization", "cookie"),
        re.compile(
            r"(?i)((?:authorization|cookie)[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\r\n\"']{1,2000}"
        ),
        rf"\1{HIDDEN}",
    ),
    # name='a value', name=value, "name": "value", <name>value, --name value
    (
        ("key", "token", "secret", "passw", "passphrase", "pwd", "sig", "credential"),
        re.compile(
            rf"(?i)((?:{_WORDS})(?:(?:{_QUOTE})?\s{{0,3}}(?:=|:|%3[AD])\s{{0,3}}|>)"
            rf"|--(?=\w)[\w-]{{0,40}}(?:{_WORDS})\s{{1,3}})"
            rf"(?:({_QUOTE})(?:(?!\2)[^\r\n]){{1,2000}}|[^\s\"'&,;(){{}}\[\]<]+)"
        ),
        rf"\1\2{HIDDEN}",
    ),
    # a JWT
    (("eyj",), re.compile(r"eyJ[\w-]{5,2000}\.[\w-]{1,8000}\.[\w-]{0,2000}"), HIDDEN),
    # the keys of well-known services
    (
        (
            *("rk-", "rk_", "sk-", "sk_", "sb_secret_", "whsec_", "gho_", "ghp_", "ghs_", "ghu_"),
            *("github_pat_", "xox", "akia", "aiza", "glpat-"),
        ),
        re.compile(
            r"\b(?:[rs]k[-_]|sb_secret_|whsec_|gh[opsu]_|github_pat_|xox[abprs]-|AKIA|AIza|glpat-)"
            r"[\w-]{8,}"
        ),
        HIDDEN,
    ),
)
"""The known forms of secrets in a text, each with lower-case words: an ASCII text that has none of
them does not have the form, and to look for them takes a hundredth of the time, which is the
guard's. Each repetition has a bound, so that no text is slow."""


def redacted(value: Any, more_words: Iterable[str] = ()) -> Any:
    """`value` with secrets hidden: by their keys, and in texts by their form (`Bearer ...`,
    `?token=...`)."""
    words = (*SECRET_WORDS, *map(_letters, more_words))
    return _walk(value, words, 0)


def redacted_text(text: str, more_words: Iterable[str] = ()) -> str:
    return str(redacted(text, more_words))


def shown(value: Any, more_words: Iterable[str] = ()) -> str:
    """As indented JSON, redacted."""
    return json.dumps(redacted(value, more_words), indent=2, ensure_ascii=False)


def _walk(part: Any, words: tuple[str, ...], level: int) -> Any:
    if isinstance(part, str):
        return _without_secrets(part, words, level)
    if not isinstance(part, dict | list):
        return part
    if level >= MAX_LEVELS:
        return HIDDEN
    if isinstance(part, list):
        return [_walk(member, words, level + 1) for member in part]
    if _names_a_secret(part, words):
        part = part | {"value": HIDDEN}
    return {
        key: HIDDEN if _is_secret(key, words) else _walk(member, words, level + 1)
        for key, member in part.items()
    }


def _without_secrets(text: str, words: tuple[str, ...], level: int) -> str:
    if text.lstrip()[:1] in {"{", "[", '"'}:  # JSON in a text: its keys count too
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            inner = None
        if isinstance(inner, dict | list | str):
            return json.dumps(_walk(inner, words, level + 1), ensure_ascii=False)
    lower = text.lower() if text.isascii() else ""
    for hints, form, replacement in _FORMS:
        if not lower or any(hint in lower for hint in hints):
            text = form.sub(replacement, text)
    return text


def _names_a_secret(part: dict[str, Any], words: tuple[str, ...]) -> bool:
    """`{"name": "Authorization", "value": ...}`, as HTTP clients write headers."""
    name = part.get("name") or part.get("key")
    return "value" in part and isinstance(name, str) and _is_secret(name, words)


def _is_secret(key: str, words: tuple[str, ...]) -> bool:
    letters = _letters(key)
    return letters in SECRET_NAMES or any(word in letters for word in words)


def _letters(key: str) -> str:
    """A key without case and hyphens: apikey for API-Key."""
    plain = unicodedata.normalize("NFKC", str(key)).lower()
    return re.sub(r"[^a-z0-9]", "", plain)
