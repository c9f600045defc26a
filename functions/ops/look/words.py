"""Which state a status word means. Pure: from the words of a column to states, and what is doubtful
about it.

A sure word means the same in every table of the field. A torn word (`ready` means pending in two
projects and done in another) is decided by the company it keeps, and that is said. A word nobody
knows is left alone: resting, and said."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from functions.core.states import State
from functions.ops.look.vocabulary import (
    squashed,
    sure_words,
    tokens,
    torn_words,
    usual,
    vocabulary,
)

P, R, C, F, X, Z = (
    State.PENDING,
    State.RUNNING,
    State.COMPLETED,
    State.FAILED,
    State.CANCELLED,
    State.RESTING,
)


@dataclass
class Reading:
    """What the words of a column mean. `strong` are the states that a sure word stands for."""

    states: dict[Any, State] = field(default_factory=dict)
    strong: set[State] = field(default_factory=set)
    doubts: dict[Any, str] = field(default_factory=dict)

    def of(self, state: State) -> list[Any]:
        return [word for word, one in self.states.items() if one == state]


def read(
    words: Sequence[Any], default: Any = None, *, ordered: bool = True, due: bool = False
) -> Reading:
    """`ordered` says that the list tells the way of a task (an enum, a CHECK); `due`, that a column
    says when a task is due."""
    reading = Reading()
    torn: dict[Any, str] = {}
    for word in words:
        meaning, sure = _meaning(word)
        if isinstance(meaning, State):
            reading.states[word] = meaning
            reading.strong |= {meaning} if sure else set()
            if not sure:
                reading.doubts[word] = f"{word!r} is read as {meaning}"
        else:
            torn[word] = meaning
    for word, group in torn.items():
        company = _Company(word, list(words), reading, torn, default, ordered=ordered, due=due)
        state, why = _DECIDE[group](company)
        reading.states[word] = state
        if not why or (state == R and group in {"active", "uploading"}):
            reading.strong.add(state)
        if why:
            reading.doubts[word] = f"{word!r} is read as {state} ({why})"
    _lead(reading, default)
    return reading


def _lead(reading: Reading, default: Any) -> None:
    """The first word of a state is the one to write: the default, else the usual one (FAILED before
    DEAD_LETTER and ERROR)."""
    main = {squashed(word): rank for state in State for rank, word in enumerate(usual(state))}

    def place(word: Any) -> tuple[bool, bool, int]:
        return word != default, word in reading.doubts, main.get(squashed(word), len(main))

    order = sorted(reading.states, key=place)
    reading.states = {word: reading.states[word] for word in order}


def _meaning(word: Any) -> tuple[State | str, bool]:
    """A state and whether that is sure, or the group of a torn word."""
    if (sure := sure_words().get(squashed(word))) is not None:
        return sure[0], True
    if (group := torn_words().get(squashed(word))) is not None:
        return group, False
    return _compound(tokens(word))


def _listed(section: str) -> set[str]:
    return set(vocabulary()[section])


def _compound(parts: tuple[str, ...]) -> tuple[State | str, bool]:  # noqa: C901 - one line for each shape
    """processing_ocr, upload_failed, completed_with_warnings, awaiting_payment, ready_for_pickup."""
    states = [sure_words()[part][0] if part in sure_words() else None for part in parts]
    if "with" in parts[1:]:
        return _meaning(" ".join(parts[: parts.index("with")]))
    if any(part.startswith("partial") for part in parts):
        return "part", False
    if len(parts) > 1 and parts[0] in _listed("waits"):
        return (P, False) if set(parts[1:]) <= _listed("soon") else (Z, False)
    if F in states:
        return (
            (P, False)
            if {"retry", "retrying", "retryable", "temporary", "temporarily"} & set(parts)
            else (F, True)
        )
    if X in states:
        return X, False
    if len(parts) > 1 and parts[0] in {"not", "to", "ready", "un"}:
        return P, False
    if {"queue", "queued", "enqueued", "pending"} & set(parts):
        return P, False
    if len(parts) > 1 and _listed("by_people") & set(parts):
        return Z, False
    if R in states and parts[-1] not in {"completed", "complete", "done", "finished"}:
        return R, True
    if any(
        re.fullmatch(r"[a-z]{3,}ing", part) and part not in _listed("no_work") for part in parts
    ):
        return R, True
    if C in states or any(re.fullmatch(r"[a-z]{4,}ed", part) for part in parts):
        return "milestone", False
    return "unknown", False


@dataclass(frozen=True)
class _Company:
    """A torn word among the others of its list."""

    word: Any
    words: list[Any]
    reading: Reading
    torn: dict[Any, str]
    default: Any
    ordered: bool
    due: bool

    def has(self, state: State) -> bool:
        return any(
            one == state
            for word, one in self.reading.states.items()
            if word not in self.reading.doubts
        )

    @property
    def born(self) -> bool:
        """Whether rows are born with this word."""
        return self.default is not None and self.word == self.default

    def before(self, state: State) -> bool:
        """Whether it stands before all words of `state`, in a list that tells an order."""
        at = [self.words.index(word) for word, one in self.reading.states.items() if one == state]
        return self.ordered and bool(at) and self.words.index(self.word) < min(at)


def _end_or_pending(one: _Company) -> tuple[State, str]:
    if one.born:
        return P, "rows are born with it"
    if one.has(C) and not one.has(P):
        return P, "no other word is for waiting tasks"
    if one.has(P) and not one.has(C):
        return C, "no other word is for a good end"
    if one.before(R):
        return P, "it stands before the running words"
    return (
        (Z, "there are other words for waiting and for done")
        if one.has(C)
        else (C, "no other word is for a good end")
    )


def _active(one: _Company) -> tuple[State, str]:
    if not one.has(R) and one.has(F) and (one.has(P) or one.has(C)):
        return R, "no other word is for running tasks"
    return Z, "it may say anything"


def _open(one: _Company) -> tuple[State, str]:
    if one.born or (not one.has(P) and one.has(R) and one.has(F)):
        return P, "rows are born with it" if one.born else "no other word is for waiting tasks"
    return Z, "it may say anything"


def _handed(one: _Company) -> tuple[State, str]:
    if one.born or not one.has(P) or squashed(one.word) == "retrying":
        return P, "rows are born with it" if one.born else "it waits for its next try or its start"
    return (
        (P, "it stands before the other waiting words")
        if one.before(P)
        else (R, "it stands between waiting and done")
    )


def _milestone(one: _Company) -> tuple[State, str]:
    if one.born:
        return P, "rows are born with it"
    if not one.has(C) and not one.before(R):
        return C, "no other word is for a good end"
    if one.before(R) and not one.has(P):
        return P, "it stands before the running words"
    return Z, "it seems to be a station on the way"


def _due(one: _Company) -> tuple[State, str]:
    if one.due or one.born or not one.has(P):
        return P, "it waits for its time"
    return Z, "no column tells when it is due"


def _part(one: _Company) -> tuple[State, str]:
    return (
        (Z, "an end that somebody should look at")
        if one.has(C)
        else (C, "no other word is for a good end")
    )


def _weak_failed(one: _Company) -> tuple[State, str]:
    return F, "a bad end, by the sound of it" if one.has(R) else "somebody said no"


def _expired(one: _Company) -> tuple[State, str]:
    return (X, "nobody needs it any more") if one.has(F) else (F, "no other word is for a bad end")


def _given_up(one: _Company) -> tuple[State, str]:
    return (
        (F, "another word is for cancelled")
        if one.has(X)
        else (X, "somebody or something ended it early")
    )


def _waiting(one: _Company) -> tuple[State, str]:
    """Before the work it waits for a worker; after it, nobody knows for what."""
    if one.born or not one.has(P) or one.before(R):
        return P, ""
    return Z, "there is another word for tasks that wait for a worker"


def _uploading(one: _Company) -> tuple[State, str]:
    if one.born or one.before(P):
        return Z, "it stands before the waiting words: a browser may be at it"
    return R, "by the sound of it; if a browser does it, it is resting"


def _stopping(_: _Company) -> tuple[State, str]:
    return R, "a worker is asked to stop, and may never answer"


def _limited(_: _Company) -> tuple[State, str]:
    return Z, "it waits for something else"


def _unknown(one: _Company) -> tuple[State, str]:
    if one.born:
        return P, "rows are born with it, but the word is not known"
    return Z, "the word is not known: it is left alone"


_DECIDE = {
    "end_or_pending": _end_or_pending,
    "active": _active,
    "open": _open,
    "handed": _handed,
    "milestone": _milestone,
    "due": _due,
    "part": _part,
    "weak_failed": _weak_failed,
    "expired": _expired,
    "given_up": _given_up,
    "waiting": _waiting,
    "uploading": _uploading,
    "stopping": _stopping,
    "limited": _limited,
    "unknown": _unknown,
}


def assumed(state: State, known: Sequence[Any]) -> tuple[str, ...]:
    """The usual words for a state that nothing in the table tells, in the language and case of the
    words that are known."""
    languages = [
        sure_words()[squashed(word)][1] for word in known if squashed(word) in sure_words()
    ]
    common = frozenset.intersection(*languages) if languages else frozenset()
    example = next((word for word in known if isinstance(word, str) and word), "")
    return tuple(_styled(word, example) for word in usual(state, common))


def _styled(word: str, example: str) -> str:
    separator = " " if " " in example else "-" if "-" in example else "_"
    if example.isupper():
        return word.upper().replace(" ", separator)
    if example[:1].isupper():
        return (
            word.title()
            if separator == " " or "_" not in example
            else word.title().replace(" ", "_")
        )
    return word.replace(" ", separator)


def trades(words: Sequence[Any]) -> list[Any]:
    """The words that people use for goods and money."""
    known = {squashed(word) for word in vocabulary()["trade"]}
    return [word for word in words if squashed(word) in known]
