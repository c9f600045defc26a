"""Which state a status word means. Pure: from the words of a column to states, and what is doubtful
about it.

A sure word means the same in every table that we know. An ambiguous word (`ready` means pending in
two projects and done in another) is decided by the other words of its column, with the rules of
vocabulary.yaml, and a person is told. A word that nobody knows is left alone: it is taken for
resting, and a person is told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from functions.core.states import State
from functions.ops.inspect.vocabulary import (
    ambiguous_words,
    is_among,
    rank_in,
    rules,
    squashed,
    sure_words,
    tokens,
    usual,
    vocabulary,
)


@dataclass
class Reading:
    """What the words of a column mean. `strong` are the states by which a task table is known."""

    states: dict[Any, State] = field(default_factory=dict)
    stages: set[Any] = field(default_factory=set)
    """Words of one stage of the work: `exporting_failed` is not the general word for failed."""
    stopping: set[Any] = field(default_factory=set)
    """Words of a task whose user asked to stop it."""
    strong: set[State] = field(default_factory=set)
    doubts: dict[Any, str] = field(default_factory=dict)

    def of(self, state: State) -> list[Any]:
        return [word for word, meaning in self.states.items() if meaning == state]


def read(
    words: Sequence[Any], default: Any = None, *, ordered: bool = True, due: bool = False
) -> Reading:
    """`ordered` says that the list tells the way of a task (an enum, a CHECK); `due`, that a column
    says when a task is due."""
    reading = Reading()
    ambiguous: dict[Any, str] = {}
    for word in words:
        meaning, sure = _meaning(word)
        if not isinstance(meaning, State):
            ambiguous[word] = meaning
            continue
        reading.states[word] = meaning
        if _is_of_a_stage(word, meaning):
            reading.stages.add(word)
        if sure:
            reading.strong.add(meaning)
        else:
            reading.doubts[word] = f"{word!r} is read as {meaning}"
    unknown = [word for word, group in ambiguous.items() if group == "unknown"]
    for word, group in sorted(ambiguous.items(), key=lambda item: item[1] == "unknown"):
        context = _Context(
            word, list(words), reading, default, ordered=ordered, due=due, alone=len(unknown) == 1
        )
        rule = next(rule for rule in rules(group) if context.fulfils(rule.condition))
        reading.states[word] = rule.state
        if rule.strong:
            reading.strong.add(rule.state)
        if group == "stopping":
            reading.stopping.add(word)
        if rule.reason:
            reading.doubts[word] = f"{word!r} is read as {rule.state} ({rule.reason})"
    _leave_what_sounds_less(reading)
    _sort(reading, default)
    return reading


def _leave_what_sounds_less(reading: Reading) -> None:
    """Where no word is sure to be a good end, `All Done` is one before `Called Off` is: the other
    is left alone."""
    guesses = [word for word in reading.of(State.COMPLETED) if word in reading.doubts]
    likely = [word for word in guesses if State.COMPLETED in sure_states(word)]
    for word in guesses if likely else ():
        if word not in likely and len(tokens(word)) > 1:
            reading.states[word] = State.RESTING
            reading.doubts[word] = f"{word!r} is read as resting (another word is for a good end)"


def _sort(reading: Reading, default: Any) -> None:
    """The first word of a state is the one to write: the default, else the usual one (FAILED before
    DEAD_LETTER and ERROR), and that of a stage last."""

    def place(word: Any) -> tuple[bool, bool, bool, int]:
        rank = rank_in(reading.states[word], word)
        return word != default, word in reading.stages, word in reading.doubts, rank

    order = sorted(reading.states, key=place)
    reading.states = {word: reading.states[word] for word in order}


def _meaning(word: Any) -> tuple[State | str, bool]:
    """A state and whether that is sure, or the group of an ambiguous word."""
    if (meaning := sure_words().get(squashed(word))) is not None:
        return meaning[0], True
    if (group := ambiguous_words().get(squashed(word))) is not None:
        return group, False
    return _compound(tokens(word))


def _compound(parts: tuple[str, ...]) -> tuple[State | str, bool]:
    """processing_ocr, upload_failed, completed_with_warnings, awaiting_payment, ready_for_pickup"""
    if "with" in parts[1:]:
        return _meaning(" ".join(parts[: parts.index("with")]))
    if any(part.startswith("partial") for part in parts):
        return "part", False
    if len(parts) > 1 and parts[0] in vocabulary()["waits"]:
        comes_alone = set(parts[1:]) <= set(vocabulary()["soon"])
        return State.PENDING if comes_alone else State.RESTING, False
    return _by_its_parts(parts)


def _by_its_parts(parts: tuple[str, ...]) -> tuple[State | str, bool]:
    states = [sure_words()[part][0] for part in parts if part in sure_words()]
    asked = any(is_among(part, "asked") for part in parts)
    if asked and any(is_among(part, "stops") for part in parts):
        return "stopping", False
    if State.FAILED in states:
        again = not _RETRIED.isdisjoint(parts)
        return (State.PENDING, False) if again else (State.FAILED, True)
    if State.CANCELLED in states:
        return State.CANCELLED, False
    if (len(parts) > 1 and parts[0] in _NOT_YET) or not _QUEUED.isdisjoint(parts):
        return State.PENDING, False
    if len(parts) > 1 and not set(vocabulary()["by_people"]).isdisjoint(parts):
        return State.RESTING, False
    working = [part for part in parts if _says_work(part)]
    if working and parts[-1] not in {"completed", "complete", "done", "finished"}:
        return State.RUNNING, True
    if any(_is_work(part) for part in parts):
        return State.RUNNING, True
    if State.COMPLETED in states or any(re.fullmatch(r"[a-z]{4,}ed", part) for part in parts):
        return "milestone", False
    return "unknown", False


_RETRIED = {"retry", "retrying", "retryable", "temporary", "temporarily"}
_NOT_YET = {"not", "to", "ready", "un"}
_QUEUED = {"queue", "queued", "enqueued", "pending"}


def sure_states(word: Any) -> set[State]:
    """The states that the parts of a word sound like."""
    return {sure_words()[part][0] for part in tokens(word) if part in sure_words()}


def _says_work(part: str) -> bool:
    """`processing` and `started` do in any company; a noun (`dry_run`, `progress_saved`) does
    not."""
    is_verb = part.endswith(("ing", "ed")) or part in {"ongoing", "inprogress"}
    return is_verb and part in sure_words() and sure_words()[part][0] == State.RUNNING


def _is_of_a_stage(word: Any, meaning: State) -> bool:
    """`exporting_failed`, `generating_metadata`: more than the state and what tasks in general
    do."""
    parts = tokens(word)
    if meaning not in {State.FAILED, State.RUNNING} or squashed(word) in sure_words():
        return False
    rest = [
        part
        for part in parts
        if not part.isdigit()
        and not is_among(part, "general")
        and not (part in sure_words() and sure_words()[part][0] == meaning)
    ]
    return len(parts) > 1 and bool(rest)


def _is_work(part: str) -> bool:
    """`rendering`, but not `missing`."""
    return bool(re.fullmatch(r"[a-z]{3,}ing", part)) and part not in vocabulary()["no_work"]


@dataclass(frozen=True)
class _Context:
    """An ambiguous word among the other words of its column."""

    word: Any
    words: list[Any]
    reading: Reading
    default: Any
    ordered: bool
    due: bool
    alone: bool
    """Whether nothing tells this word, and no other."""

    def fulfils(self, condition: str) -> bool:
        """`has completed and no pending`: vocabulary.yaml says what each test means."""
        return all(self._passes(test) for test in condition.split(" and ") if test)

    def _passes(self, test: str) -> bool:
        subject, _, state = test.partition(" ")
        match subject:
            case "not":
                return not self._passes(state)
            case "default":
                return self.default is not None and self.word == self.default
            case "due":
                return self.due
            case "left":
                return self.ordered and self.alone and not self.reading.of(State.COMPLETED)
            case "first":
                return self.ordered and self.words.index(self.word) == 0
            case "has":
                return self._has(State(state))
            case "no":
                return not self._has(State(state))
            case "before":
                return self._before(State(state))
            case "after":
                return self._after(State(state))
        raise ValueError(f"vocabulary.yaml: {test!r} is no test")

    def _has(self, state: State) -> bool:
        return any(word not in self.reading.doubts for word in self.reading.of(state))

    def _before(self, state: State) -> bool:
        """Whether it stands before all words of `state`, in a list that tells an order."""
        places = [self.words.index(word) for word in self.reading.of(state)]
        return self.ordered and bool(places) and self.words.index(self.word) < min(places)

    def _after(self, state: State) -> bool:
        """Whether it stands after all words of `state`, in a list that tells an order."""
        places = [self.words.index(word) for word in self.reading.of(state)]
        return self.ordered and bool(places) and self.words.index(self.word) > max(places)


def assumed(state: State, words: Sequence[Any]) -> tuple[str, ...]:
    """The usual words for a state that nothing in the table tells, in the language and case of its
    other `words`."""
    languages = [
        sure_words()[squashed(word)][1] for word in words if squashed(word) in sure_words()
    ]
    common = frozenset.intersection(*languages) if languages else frozenset()
    example = next((word for word in words if isinstance(word, str) and word), "")
    return tuple(_styled(word, example) for word in usual(state, common))


def _styled(word: str, example: str) -> str:
    """`in progress` as `example` would write it: IN_PROGRESS, In Progress, in-progress."""
    separator = next((sign for sign in " -" if sign in example), "_")
    if example.isupper():
        return word.upper().replace(" ", separator)
    if not example[:1].isupper():
        return word.replace(" ", separator)
    if separator != " " and "_" in example:
        return word.title().replace(" ", "_")
    return word.title()


def trades(words: Sequence[Any]) -> list[Any]:
    """The words that people use for goods and money."""
    trade_words = {squashed(word) for word in vocabulary()["trade"]}
    return [word for word in words if squashed(word) in trade_words]
