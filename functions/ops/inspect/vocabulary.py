"""Loads vocabulary.yaml, and brings words and names into the form in which they are compared."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from functions.core.states import State


@lru_cache
def vocabulary() -> dict[str, Any]:
    text = Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sections: dict[str, Any] = yaml.load(text, loader)  # noqa: S506 - both are safe
    return sections


def tokens(name: Any) -> tuple[str, ...]:
    """In Progress, in_progress, IN-PROGRESS and inProgress are all (in, progress); accents go."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name))
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", spaced)
        if not unicodedata.combining(character)
    )
    return tuple(re.findall(r"[^\W_]+", plain.casefold()))


def squashed(name: Any) -> str:
    """Without any separator: `createdat`, which an unquoted createdAt becomes, is `created at`."""
    return "".join(tokens(name))


@lru_cache
def core(name: str) -> str:
    """A column's name without what only says that it is a time: created_at, createDate, ts_created
    and created_ms are all about `created` or `create`. Empty where nothing else is left."""
    marks = _marks("time_marks")
    parts = list(tokens(name))
    while parts and parts[-1] in marks:
        parts.pop()
    while parts and parts[0] in marks:
        parts.pop(0)
    return "".join(parts)


@lru_cache
def cores(role: str) -> dict[str, int]:
    """What the names of a role are about, with their rank."""
    names_of_role = vocabulary()["columns"].get(role, [])
    ranks = _ranked(list(map(core, names_of_role)))
    return {key: rank for key, rank in ranks.items() if key}


def without_marks(squashed_name: str, cores_of_role: dict[str, int]) -> str | None:
    """The same of a name without separators: `createat` is about `create`."""
    for mark in _marks("time_marks"):
        for rest in (squashed_name.removesuffix(mark), squashed_name.removeprefix(mark)):
            if rest != squashed_name and rest in cores_of_role:
                return rest
    return None


@lru_cache
def _marks(section: str) -> frozenset[str]:
    return frozenset(squashed(name) for name in vocabulary()[section])


def is_among(part: str, section: str) -> bool:
    """Whether a token is one of a list."""
    return part in _marks(section)


@lru_cache
def sure_words() -> dict[str, tuple[State, frozenset[str]]]:
    """What each sure word stands for, and in which languages."""
    meanings: dict[str, tuple[State, frozenset[str]]] = {}
    for state, languages in vocabulary()["states"].items():
        for language, words in languages.items():
            for word in words:
                meaning = meanings.get(squashed(word))
                if meaning is None:
                    meanings[squashed(word)] = (State(state), frozenset({language}))
                elif meaning[0] == state:
                    meanings[squashed(word)] = (meaning[0], meaning[1] | {language})
    return meanings


@dataclass(frozen=True)
class Rule:
    """What an ambiguous word means where the condition holds. An empty reason leaves no doubt."""

    condition: str
    state: State
    reason: str
    strong: bool


@lru_cache
def ambiguous_words() -> dict[str, str]:
    """The group of each word that means different states in different tables."""
    groups = vocabulary()["ambiguous"].items()
    return {squashed(word): group for group, section in groups for word in section["words"]}


@lru_cache
def rules(group: str) -> tuple[Rule, ...]:
    """The rules of a group: the first whose condition holds decides, and the last always holds."""
    return tuple(_rule(**entry) for entry in vocabulary()["ambiguous"][group]["rules"])


def _rule(*, strong: bool = False, **entry: str | None) -> Rule:
    condition = entry.pop("if", None) or ""
    [(state, reason)] = entry.items()
    return Rule(condition, State(state), reason or "", strong or not reason)


@lru_cache
def names(section: str) -> dict[str, int]:
    """The names of a list with their rank."""
    return _ranked(vocabulary()[section])


@lru_cache
def column_names(role: str) -> dict[str, int]:
    """The names of the columns that have a role, with their rank."""
    return _ranked(vocabulary()["columns"].get(role, []))


def _ranked(names: list[str]) -> dict[str, int]:
    return {squashed(name): rank for rank, name in reversed(list(enumerate(names)))}


def rank_in(state: State, word: Any) -> int:
    """The place of a word in its language's list: the usual ones come first."""
    for words in vocabulary()["states"][state].values():
        ranks = _ranked(words)
        if squashed(word) in ranks:
            return ranks[squashed(word)]
    return len(vocabulary()["states"][state]["en"])


def usual(state: State, languages: frozenset[str] = frozenset()) -> list[str]:
    """The words that real tables mostly use for a state, in English unless `languages` lack it."""
    words = vocabulary()["states"][state]
    language = "en" if "en" in languages or not languages else min(languages)
    return list(words.get(language, words["en"]))[: _USUAL_WORDS.get(state, 1)]


_USUAL_WORDS = {
    State.PENDING: 2,
    State.RUNNING: 3,
    State.COMPLETED: 4,
    State.FAILED: 2,
    State.CANCELLED: 2,
}
"""How many words of a list are usual. They are those of 80 of the 95 real tables that we read:
pending, queued; processing, running, in progress; completed, done, succeeded, success; failed,
error; cancelled, canceled."""
