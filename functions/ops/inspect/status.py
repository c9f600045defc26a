"""Which column holds the status, and which words it has. Pure, but for the values that occur, which
it asks for."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from functions.core.states import State
from functions.install.column_sql import TEXTS, WHOLE, Column
from functions.ops.inspect import word_lists
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.columns import ends_like, exact, is_time
from functions.ops.inspect.vocabulary import column_names, names, squashed, sure_words, tokens
from functions.ops.inspect.words import Reading, assumed, read

ValuesOf = Callable[[str], tuple[Any, ...] | None]
"""The values that occur in a column; None when there are too many for a status."""
LabelsOf = Callable[[int], dict[Any, str]]
"""What the keys of a small table mean, by its oid."""

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
    """The values that occur, or that a CHECK lists."""
    too_many: bool = False
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
    def tells_nothing(self) -> bool:
        """Whether nobody can know what it says: numbers without a meaning, or a closed list without
        a word of work."""
        if self.bare or self.too_many:
            return True
        works = {State.PENDING, State.RUNNING, State.FAILED} & self.reading.strong
        return self.closed and not self.flag and not works

    @property
    def fit(self) -> float:
        bonus = 1.5 if self.named else 0
        if self.flag:  # where there is no better
            return 1
        if self.whole:
            return 3 + bonus
        if self.closed or self.too_many:
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
    table: Facts, values_of: ValuesOf, labels_of: LabelsOf, name: str | None = None
) -> tuple[Status | None, list[str]]:
    """The status column, or the one that a person wants; and the names of others that would do as
    well."""
    columns = [table.columns[name]] if name else _candidates(table)
    statuses = [_status(column, table, values_of, labels_of) for column in columns]
    if not name:
        statuses = [status for status in statuses if _is_likely(status)]
    if not statuses:
        return None, []
    statuses.sort(key=_place)
    others = [
        status.column.name for status in statuses[1:] if status.whole or sounds(status.column)
    ]
    return statuses[0], others


def _place(status: Status) -> tuple[bool, int, float]:
    """By its name, whatever the rows are at the moment: a column called `status` comes first unless
    the catalogue itself says that its values tell nothing of work."""
    ranks = column_names("status")
    by_form = len(ranks) if status.named else len(ranks) + 1
    rank = ranks.get(squashed(status.column.name), by_form)
    return status.tells_nothing, rank, -status.fit


def _candidates(table: Facts) -> list[Column]:
    return [column for column in table.columns.values() if _may_be(column, table)]


def _is_likely(status: Status) -> bool:
    return status.whole or status.flag or sounds(status.column)


def flag_state(column: Column) -> State | None:
    """The state that a flag is named after: `processing`, `is_running`, `has_failed`."""
    if column.type != "bool":
        return None
    parts = tokens(column.name)
    if parts and parts[0] in {"is", "has", "was", "currently"}:
        parts = parts[1:]
    word = squashed(" ".join(parts))
    if word in names("flags"):
        return State.RUNNING
    state = sure_words()[word][0] if word in sure_words() else None
    return None if state == State.RUNNING else state


def _may_be(column: Column, table: Facts) -> bool:
    """A name of a status, an enum, or a flag of its own name; not JSON: a `state jsonb` beside the
    status holds what a worker remembers."""
    if column.generated or column.type in {"json", "jsonb"}:
        return False
    if column.labels or flag_state(column) == State.RUNNING:
        return True
    types = TEXTS | WHOLE | {"bool", "char"}
    return sounds(column) and (column.type in types or column.name in table.points_to)


def sounds(column: Column) -> bool:
    status_names = column_names("status")
    name = squashed(column.name)
    return name.endswith(ENDINGS) or is_named(column) or ends_like(column.name, status_names)


def is_named(column: Column) -> bool:
    """A name of a status, also with what form it has: state_name, status_value."""
    name = squashed(column.name)
    return any(
        name.removesuffix(form) in column_names("status")
        for form in ("", "name", "value", "text", "label", "code", "key", "string")
    )


def _status(column: Column, table: Facts, values_of: ValuesOf, labels_of: LabelsOf) -> Status:
    status = Status(column, is_named(column), default=_default(column))
    due = bool(exact(table.columns.values(), "due", is_time))
    words = _closed(column, table)
    if column.name in table.points_to and (labels := labels_of(table.points_to[column.name])):
        return _labelled(status, labels, due=due)
    if flag_state(column) == State.RUNNING:
        return _flag(status)
    if column.type in WHOLE | {"bool"}:
        return _numbers(status, column, words, values_of, due=due)
    if column.type in TEXTS and (labels := word_lists.coded(column.comment, words or ())):
        return _labelled(status, labels, due=due)
    if words is not None:
        if _are_codes(words):
            return _bare(status, words)
        status.closed = True
        status.reading = read(words, status.default, due=due)
        return status
    return _free_text(status, column, table, values_of, due=due)


def _default(column: Column) -> Any:
    word = word_lists.default_word(column.default)
    if word is None or column.type not in WHOLE | {"bool"}:
        return word
    return word == "true" if column.type == "bool" else int(word)


def _closed(column: Column, table: Facts) -> list[str] | None:
    if column.labels:
        return list(column.labels)
    return min(word_lists.closed_lists(table, column.name), key=len, default=None)


def _labelled(status: Status, labels: dict[Any, str], *, due: bool) -> Status:
    """Values that stand for words: the keys of a table of states, or numbers that a comment
    explains."""
    reading = read(list(labels.values()), labels.get(status.default), ordered=True, due=due)
    status.closed = True
    status.reading = Reading(
        states={value: reading.states[label] for value, label in labels.items()},
        stages={value for value, label in labels.items() if label in reading.stages},
        stopping={value for value, label in labels.items() if label in reading.stopping},
        strong=reading.strong,
        doubts={
            value: reading.doubts[label]
            for value, label in labels.items()
            if label in reading.doubts
        },
    )
    return status


def _flag(status: Status) -> Status:
    """True is running. False is not: the flag does not tell whether the task waits or has ended."""
    status.closed = status.flag = True
    status.reading = Reading(
        states={True: State.RUNNING, False: State.COMPLETED}, strong={State.RUNNING}
    )
    status.alike = {State.FAILED: (False,)}
    return status


def _numbers(
    status: Status, column: Column, words: Sequence[str] | None, values_of: ValuesOf, *, due: bool
) -> Status:
    if labels := word_lists.numbered(column.comment):
        return _labelled(status, labels, due=due)
    if words and column.type in WHOLE:
        return _bare(status, [int(word) for word in words])
    return _bare(status, values_of(column.name))


def _bare(status: Status, values: Sequence[Any] | None) -> Status:
    status.closed = status.bare = True
    status.too_many = values is None
    status.unread = tuple(values or (() if status.default is None else (status.default,)))
    return status


def _are_codes(words: Sequence[Any]) -> bool:
    """Q, R, D, F or 0, 1, 2: what they stand for is anybody's guess."""
    filled = [word for word in words if word]
    return bool(filled) and all(
        re.fullmatch(r"-?\d{1,3}|[A-Za-z]", str(word).strip()) for word in filled
    )


def _free_text(
    status: Status, column: Column, table: Facts, values_of: ValuesOf, *, due: bool
) -> Status:
    """No list: the default, the words that indexes, CHECKs, triggers and comments name, the values
    that occur, and the usual words for states of which none of these tells."""
    values = values_of(column.name)
    status.too_many = values is None
    default = [status.default] if status.default else []
    words = list(dict.fromkeys([*default, *_hinted_words(column, table), *(values or ())]))
    if _are_codes(words):
        return _bare(status, words)
    words = [word for word in words if word != ""]
    status.reading = read(words, status.default, ordered=False, due=due)
    status.assumed = _assumed(status)
    return status


def _hinted_words(column: Column, table: Facts) -> list[str]:
    texts = [index.where for index in table.indexes]
    texts += [check.text for check in table.checks]
    texts += [trigger.source for trigger in table.triggers]
    words = [word for text in texts for word in word_lists.hints(text, column.name)]
    return words + word_lists.spoken([column.comment, table.comment])


def _assumed(status: Status) -> dict[State, tuple[Any, ...]]:
    """The usual words for pending, running and the ends, where none is known. Rows that are born
    running never wait."""
    reading = status.reading
    sure = {state for word, state in reading.states.items() if word not in reading.doubts}
    missing = [state for state in State if state != State.RESTING and state not in sure]
    if status.default is not None and reading.states.get(status.default) == State.RUNNING:
        missing = [state for state in missing if state != State.PENDING]
    width = status.column.width
    words: dict[State, tuple[Any, ...]] = {}
    for state in missing:
        words[state] = tuple(
            word
            for word in assumed(state, list(reading.states))
            if word not in reading.states and (width is None or len(word) <= width)
        )
    return words
