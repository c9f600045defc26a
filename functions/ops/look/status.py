"""Which column holds the status, and which words it knows. Pure, but for the values that occur,
which it asks for."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from functions.core.states import State
from functions.install.column_sql import TEXTS, WHOLE, Column
from functions.ops.look import listed
from functions.ops.look.catalogue import Facts
from functions.ops.look.columns import ends_like, exact, is_time
from functions.ops.look.vocabulary import column_names, names, squashed, sure_words, tokens
from functions.ops.look.words import Reading, assumed, read

Seen = Callable[[str], tuple[Any, ...] | None]
Behind = Callable[[int], dict[Any, str]]

ENDINGS = ("status", "state", "estado", "statut", "phase", "zustand", "situacao")


@dataclass
class Status:
    """A column that may hold the status, with its words. `closed` says that the database allows no
    others."""

    column: Column
    named: bool
    closed: bool = False
    reading: Reading = field(default_factory=Reading)
    default: Any = None
    bare: bool = False
    """It holds numbers or booleans, and nothing says what they mean."""
    unread: tuple[Any, ...] = ()
    """Those that occur, or that a CHECK lists."""
    many: bool = False
    flag: bool = False
    """A boolean that is named after running tasks."""
    alike: dict[State, tuple[Any, ...]] = field(default_factory=dict)
    """Words that stand for this state as well as for another."""
    assumed: dict[State, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether there is a sure word for running, and one for failed: what makes a table a task
        table."""
        return {State.RUNNING, State.FAILED} <= self.reading.strong

    @property
    def fit(self) -> float:
        bonus = 1.5 if self.named else 0
        if self.flag:  # where there is no better
            return 1
        if self.whole:
            return 3 + bonus
        if self.closed or self.many:
            return bonus
        return bonus + (2 if self.reading.strong & {State.PENDING, State.RUNNING} else 0.5)

    def words(self) -> dict[State, tuple[Any, ...]]:
        return {
            state: (
                *self.reading.of(state),
                *self.assumed.get(state, ()),
                *self.alike.get(state, ()),
            )
            for state in State
        }


def choose(
    table: Facts, seen: Seen, behind: Behind, wanted: str | None = None
) -> tuple[Status | None, list[str]]:
    """The status column, or the one that a person wants; and the names of others that would do as
    well."""
    columns = (
        [table.columns[wanted]]
        if wanted
        else [one for one in table.columns.values() if _may_be(one, table)]
    )
    found = [_status(one, table, seen, behind) for one in columns]
    found = [one for one in found if wanted or one.whole or one.flag or sounds(one.column)]
    found.sort(key=lambda one: -one.fit)
    if not found:
        return None, []
    return found[0], [one.column.name for one in found[1:] if one.whole]


def says(one: Column) -> State | None:
    """The state that a flag is named after: `processing`, `is_running`, `has_failed`."""
    parts = tokens(one.name)
    word = squashed(
        " ".join(parts[1:] if parts[:1] in {("is",), ("has",), ("was",), ("currently",)} else parts)
    )
    if one.type != "bool" or word in names("flags"):
        return State.RUNNING if one.type == "bool" else None
    state = sure_words()[word][0] if word in sure_words() else None
    return None if state == State.RUNNING else state


def _may_be(one: Column, table: Facts) -> bool:
    """A name of a status, an enum, or a flag of its own name; not JSON (seed 002 has `state jsonb`
    beside its status)."""
    if one.generated or one.type in {"json", "jsonb"}:
        return False
    if says(one) == State.RUNNING:
        return True
    if one.labels:
        return True
    return sounds(one) and (
        one.type in TEXTS | WHOLE | {"bool", "char"} or one.name in table.points_to
    )


def sounds(one: Column) -> bool:
    known = column_names("status")
    return (
        squashed(one.name) in known
        or squashed(one.name).endswith(ENDINGS)
        or ends_like(one.name, known)
    )


def _status(one: Column, table: Facts, seen: Seen, behind: Behind) -> Status:
    named = squashed(one.name) in column_names("status")
    status = Status(one, named, default=_default(one))
    due = bool(exact(table.columns.values(), "due", is_time))
    words = _closed(one, table)
    if one.name in table.points_to and (labels := behind(table.points_to[one.name])):
        return _labelled(status, labels, due=due)
    if says(one) == State.RUNNING:
        return _flag(status)
    if one.type in WHOLE | {"bool"}:
        return _numbers(status, one, words, seen, due=due)
    if one.type in TEXTS and (said := listed.coded(one.comment, words or ())):
        return _labelled(status, said, due=due)
    if words is not None:
        if _are_codes(words):
            return _bare(status, words)
        status.closed = True
        status.reading = read(words, status.default, due=due)
        return status
    return _open(status, one, table, seen, due=due)


def _default(one: Column) -> Any:
    word = listed.default_word(one.default)
    if word is None or one.type not in WHOLE | {"bool"}:
        return word
    return word == "true" if one.type == "bool" else int(word)


def _closed(one: Column, table: Facts) -> list[str] | None:
    if one.labels:
        return list(one.labels)
    checks = [check.text for check in table.checks if check.columns == (one.name,)]
    lists = [
        listed.closed(text, one.name) for text in (*checks, *table.domain_checks.get(one.name, ()))
    ]
    known = [words for words in lists if words]
    return min(known, key=len) if known else None


def _labelled(status: Status, labels: dict[Any, str], *, due: bool) -> Status:
    """Values that stand for words: the keys of a table of states, or numbers that a comment
    explains."""
    reading = read(list(labels.values()), labels.get(status.default), ordered=True, due=due)
    status.closed = True
    status.reading = Reading(
        {value: reading.states[label] for value, label in labels.items()},
        reading.strong,
        {
            value: reading.doubts[label]
            for value, label in labels.items()
            if label in reading.doubts
        },
    )
    return status


def _flag(status: Status) -> Status:
    """True is running. false is not running: whether it waits or has ended, the flag does not tell."""
    status.closed = status.flag = True
    status.reading = Reading({True: State.RUNNING, False: State.COMPLETED}, {State.RUNNING})
    status.alike = {State.FAILED: (False,)}
    return status


def _numbers(
    status: Status, one: Column, words: Sequence[str] | None, seen: Seen, *, due: bool
) -> Status:
    if said := listed.numbered(one.comment):
        return _labelled(status, said, due=due)
    return _bare(
        status, [int(word) for word in words] if words and one.type in WHOLE else seen(one.name)
    )


def _bare(status: Status, values: Sequence[Any] | None) -> Status:
    status.closed = status.bare = True
    status.many = values is None
    status.unread = tuple(values or (() if status.default is None else (status.default,)))
    return status


def _are_codes(words: Sequence[Any]) -> bool:
    """Q, R, D, F or 0, 1, 2: what they stand for is anybody's guess."""
    told = [word for word in words if word]
    return bool(told) and all(
        re.fullmatch(r"-?\d{1,3}|[A-Za-z]", str(word).strip()) for word in told
    )


def _open(status: Status, one: Column, table: Facts, seen: Seen, *, due: bool) -> Status:
    """No list: the default, the words that indexes, CHECKs, triggers and comments name, the values
    that occur, and the usual words for states of which none of these tells."""
    said = [word for index in table.indexes for word in listed.hints(index.where, one.name)]
    said += [word for check in table.checks for word in listed.hints(check.text, one.name)]
    said += [word for trigger in table.triggers for word in listed.hints(trigger.source, one.name)]
    said += listed.spoken([one.comment, table.comment])
    values = seen(one.name)
    status.many = values is None
    known: list[Any] = list(
        dict.fromkeys([*([status.default] if status.default else []), *said, *(values or ())])
    )
    if _are_codes(known):
        return _bare(status, known)
    status.reading = read(
        [word for word in known if word != ""], status.default, ordered=False, due=due
    )
    status.assumed = _assumed(status)
    return status


def _assumed(status: Status) -> dict[State, tuple[Any, ...]]:
    """The usual words for pending, running and the ends, where none is known. Rows that are born
    running never wait."""
    reading = status.reading
    sure = {state for word, state in reading.states.items() if word not in reading.doubts}
    missing = [state for state in State if state != State.RESTING and state not in sure]
    if status.default is not None and reading.states.get(status.default) == State.RUNNING:
        missing = [state for state in missing if state != State.PENDING]
    width = status.column.width
    words = {state: assumed(state, list(reading.states)) for state in missing}
    return {
        state: tuple(
            word
            for word in listed_
            if word not in reading.states and (width is None or len(word) <= width)
        )
        for state, listed_ in words.items()
    }
