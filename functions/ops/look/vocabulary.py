"""Loads vocabulary.yaml, and brings words and names into the one form in which they are compared."""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from functions.core.states import State


@lru_cache
def vocabulary() -> dict[str, Any]:
    text = Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return found


def tokens(name: Any) -> tuple[str, ...]:
    """In Progress, in_progress, IN-PROGRESS and inProgress are all (in, progress); accents go."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name))
    plain = "".join(
        one for one in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(one)
    )
    return tuple(re.findall(r"[^\W_]+", plain.casefold()))


def squashed(name: Any) -> str:
    """Without any separator: `createdat`, which an unquoted createdAt becomes, is `created at`."""
    return "".join(tokens(name))


@lru_cache
def sure_words() -> dict[str, tuple[State, frozenset[str]]]:
    """What each sure word stands for, and in which languages."""
    found: dict[str, tuple[State, frozenset[str]]] = {}
    for state, languages in vocabulary()["states"].items():
        for language, words in languages.items():
            for word in words:
                known = found.get(squashed(word))
                if known is None:
                    found[squashed(word)] = (State(state), frozenset({language}))
                elif known[0] == state:
                    found[squashed(word)] = (known[0], known[1] | {language})
    return found


@lru_cache
def torn_words() -> dict[str, str]:
    return {
        squashed(word): group for group, words in vocabulary()["torn"].items() for word in words
    }


@lru_cache
def names(section: str) -> dict[str, int]:
    """The names of a list with their rank."""
    return {squashed(name): rank for rank, name in reversed(list(enumerate(vocabulary()[section])))}


@lru_cache
def column_names(role: str) -> dict[str, int]:
    return {
        squashed(name): rank
        for rank, name in reversed(list(enumerate(vocabulary()["columns"].get(role, ()))))
    }


def usual(state: State, languages: frozenset[str] = frozenset()) -> list[str]:
    """The words that the field mostly uses for a state, in the language of the words that are
    known."""
    known = vocabulary()["states"][state]
    language = "en" if "en" in languages or not languages else min(languages)
    return list(known.get(language, known["en"]))[: _USUAL.get(state, 1)]


_USUAL = {
    State.PENDING: 2,
    State.RUNNING: 3,
    State.COMPLETED: 4,
    State.FAILED: 2,
    State.CANCELLED: 2,
}
"""pending, queued; processing, running, in progress; completed, done, succeeded, success; failed,
error; cancelled, canceled: together the words of 80 of the 95 tables in the field."""
