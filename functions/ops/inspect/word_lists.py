"""The words that the catalogue lists for a status column: closed lists of CHECKs, and hints in
indexes, triggers and comments. Pure: PostgreSQL prints its expressions in one way, so reading them
back is safe."""

import re
import unicodedata
from collections.abc import Iterable

from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.vocabulary import ambiguous_words, squashed, sure_words

_TEXT = r"'((?:[^']|'')*)'"
_NAME = r"(?:\"[^\"]+\"|[a-z_]\w*)"
_CAST = rf"::\s*{_NAME}(?:\.{_NAME})?(?: varying| precision)?(?:\(\d+\))?(?:\[\])*"
_COMPARED = r"(?::=|=|<>|!=|is distinct from|in|not in)"
_ALLOWED = r"\b(check|any|array|or|and|is|null|lower|upper|btrim|value|not valid|no inherit|true)\b"


def closed(check: str, column: str) -> list[str] | None:
    """The values that a CHECK (or the check of a domain) allows and no others; None when it is not
    such a list."""
    texts = [text.replace("''", "'") for text in re.findall(_TEXT, check)]
    rest = re.sub(_TEXT, " ? ", check)
    pattern = re.search(r"~\*?\s*\?", rest)
    if pattern and len(texts) == 1:
        return _alternatives(texts[0])
    rest = re.sub(_CAST, " ", rest, flags=re.IGNORECASE)
    rest = re.sub(rf'"{re.escape(column)}"|\b{re.escape(column)}\b', " ", rest)
    rest = re.sub(r"is not null", " ", rest, flags=re.IGNORECASE)
    numbers = re.findall(r"-?\d+", rest)
    rest = re.sub(_ALLOWED, " ", re.sub(r"-?\d+", " ", rest), flags=re.IGNORECASE)
    if re.search(r"[^\s()\[\],=?]", rest) or not (texts or numbers):
        return None
    return list(dict.fromkeys(texts or numbers))


def closed_lists(table: Facts, column: str) -> list[list[str]]:
    """The lists of values that the CHECKs of a table, or of the column's domain, allow."""
    checks = [check.text for check in table.checks if check.columns == (column,)]
    lists = [closed(text, column) for text in (*checks, *table.domain_checks.get(column, ()))]
    return [words for words in lists if words]


def _alternatives(pattern: str) -> list[str] | None:
    """`^(pending|done)$`"""
    inner = re.fullmatch(r"\^\(?(?:\?:)?([\w \-|]+)\)?\$", pattern)
    return inner[1].split("|") if inner and "|" in inner[1] else None


def hints(text: str, column: str) -> list[str]:
    """The words with which the column is compared, or that it is given, in a predicate or in the
    body of a function."""
    name = rf'(?:"{re.escape(column)}"|\b{re.escape(column)}\b)'
    listed = rf"(?:{_TEXT}(?:{_CAST})?\s*,?\s*)+"
    comparisons = re.finditer(
        rf"{name}\)*(?:{_CAST})?\s*{_COMPARED}\s*(?:any\s*)?\(*(?:array\s*\[)?{listed}",
        text,
        re.IGNORECASE,
    )
    words = [
        word.replace("''", "'") for match in comparisons for word in re.findall(_TEXT, match[0])
    ]
    return list(dict.fromkeys(word for word in words if word))


def spoken(comments: Iterable[str]) -> list[str]:
    """The words of a comment that lists three states or more: `pending | processing | done`."""
    words = []
    for comment in comments:
        text = unicodedata.normalize("NFKC", comment)
        parts = [part.strip(" '\"`.()") for part in re.split(r"[,、;|/\n]|->|→|\bor\b|:", text)]
        words += [
            word
            for word in parts
            if squashed(word) in sure_words() or squashed(word) in ambiguous_words()
        ]
    return list(dict.fromkeys(words)) if len(set(words)) >= 3 else []


def numbered(comment: str) -> dict[int, str]:
    """`0 = pending, 1 = running, 2: done`, in the signs of any script; or the words first."""
    text = unicodedata.normalize("NFKC", comment)
    word, sign = r"([^\W\d]\w*(?:[ -][a-z]+)?)", r"\s*(?:=>|->|→|[=:.)、-])\s*['\"]?"
    pairs = re.findall(rf"(-?\d+){sign}{word}", text)
    turned = re.findall(rf"{word}['\"]?\s*(?:=>|->|→|[=:(])\s*(-?\d+)", text)
    if len(turned) > len(pairs):
        pairs = [(number, name) for name, number in turned]
    if len(pairs) < 2:
        pairs = _bare_pairs(text)
    return {int(number): name for number, name in pairs}


def _bare_pairs(text: str) -> list[tuple[str, str]]:
    """`pending 0, running 1, done 2`, or the numbers first: three or more, between commas."""
    before, after, word = r"(?:^|[,;/|(:\n])\s*", r"(?=\s*(?:[,;/|).\n]|$))", r"([^\W\d][\w-]*)"
    turned = re.findall(rf"{before}{word}\s+(-?\d+){after}", text)
    pairs = re.findall(rf"{before}(-?\d+)\s+{word}{after}", text)
    pairs = max(pairs, [(number, name) for name, number in turned], key=len)
    return pairs if len(pairs) >= 3 else []


def coded(comment: str, words: Iterable[str] = ()) -> dict[str, str]:
    """`Q = queued, R: running`, `0=pending`: short codes of a text column, and the words that they
    stand for. Of a closed list, only when it tells all of them."""
    pairs = re.findall(
        r"(?<![\w-])([A-Za-z]{1,3}|-?\d{1,3})\s*(?:=>|->|[=:])\s*"
        r"['\"]?([^\W\d]\w{2,}(?:[ -][a-z]+)?)",
        unicodedata.normalize("NFKC", comment),
    )
    meanings = dict(pairs)
    return meanings if len(meanings) >= 3 and set(words) <= set(meanings) else {}


def default_word(default: str | None) -> str | None:
    """`'pending'::text`, `'Queued'::task_status`, `0`, `true`."""
    if not default:
        return None
    if text := re.match(_TEXT, default):
        return text[1].replace("''", "'")
    plain = re.fullmatch(rf"\(?(-?\d+|true|false)\)?(?:{_CAST})?", default)
    return plain[1] if plain else None
