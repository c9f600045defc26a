"""The mapping of a table that nobody described: from the facts of the catalogue to columns, words
and clocks, with a sentence for all that is not certain, which names the option to give. Nothing
is guessed in silence."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from functions.core.states import OPEN, State
from functions.install.column_sql import JSONS, NUMBERS, TEXTS, TIMES, Column
from functions.ops.inspect import columns as by_name
from functions.ops.inspect import evidence as rows
from functions.ops.inspect import people
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.clocks import caveats, clocks, zone_of
from functions.ops.inspect.mapping import Mapping, Override, overridden, typed, without
from functions.ops.inspect.sentences import ROLES, Doubt, alternatives, doubt, joined, refusal
from functions.ops.inspect.status import LabelsOf, Status, ValuesOf, choose, sounds
from functions.ops.inspect.vocabulary import is_among, tokens
from functions.ops.inspect.words import sure_states

VIEWS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass
class Inferred:
    """The mapping of a table, what is unsure about it, and why it can't be used where it can't."""

    table: Facts
    mapping: Mapping = field(default_factory=Mapping)
    doubts: list[Doubt] = field(default_factory=list)
    refused: str | None = None
    blind: bool = False
    """A task table, as far as one can see, but nothing tells its words: nothing can be said about
    its rows."""
    assumed: frozenset[Any] = frozenset()
    """Words that neither the catalogue nor a row shows."""
    evidence: rows.Evidence = rows.NOTHING
    silence: float | None = None
    """For so many seconds a running task may give no sign of life, as finished rows show; None
    where they do not show more than is usual."""

    @property
    def why_blind(self) -> str:
        return next(text for topic, text in self.doubts if topic == "-")

    @property
    def unsure(self) -> list[str]:
        return [text for _, text in self.doubts]


RowsOf = Callable[[str, Iterable[Any]], rows.Evidence]
"""What the rows show, by the status column and its words."""


def _no_rows(_: str, __: Iterable[Any]) -> rows.Evidence:
    return rows.NOTHING


def infer(
    table: Facts,
    values_of: ValuesOf,
    labels_of: LabelsOf,
    load: Callable[[], Override] = dict,
    rows_of: RowsOf = _no_rows,
) -> Inferred:
    """`values_of` tells the values that occur in a column, `labels_of` the rows of a small table
    that a column points to, `load` what a person says in a --map file."""
    inferred = Inferred(table, refused=_unusable(table))
    if inferred.refused:
        return inferred
    override = load()
    status, others = choose(table, values_of, labels_of, override.get("status"))
    key = _key(inferred, override)
    if status is None:
        inferred.refused = inferred.refused or _no_status(table)
        return inferred
    words = _words(inferred, status, others, override)
    shown = [word for words_of_state in words.values() for word in words_of_state]
    inferred.evidence = rows_of(status.column.name, shown)
    inferred.table = table = _refined(inferred, words)
    named = {status.column.name, key}
    columns = [column for column in table.columns.values() if column.name not in named]
    mapping = Mapping(
        key=key,
        status=status.column.name,
        words=words,
        columns=_columns(inferred, columns, words),
        version=by_name.first(columns, "version", by_name.is_count),
        deleted=tuple(by_name.exact(columns, "deleted", by_name.is_flag_or_time)),
        locks=tuple(by_name.exact(columns, "lock", by_name.is_holder)),
        asked_to_stop=tuple(by_name.asked_to_stop(columns)),
    )
    mapping = clocks(table, inferred.evidence, mapping, inferred.doubts)
    mapping = _ended_by_rows(inferred, mapping, status, override)
    mapping = _failed_by_rows(inferred, mapping, status, override)
    _say_assumed(inferred, status, override)
    mapping = _possible(inferred, overridden(mapping, override, status.column), status)
    inferred.assumed -= _given(status, override)
    mapping = replace(
        mapping,
        unwritable=_unwritable(status, override),
        stopping=frozenset(status.reading.stopping),
    )
    inferred.mapping = _learned(inferred, mapping)
    inferred.refused = inferred.refused or _verdict(inferred, status, override)
    inferred.doubts = [
        (topic, text) for topic, text in inferred.doubts if not _answered(topic, override)
    ]
    _say_unwritable(inferred)
    if inferred.mapping.columns["error"] is None:
        inferred.doubts.append(doubt("no_error"))
    inferred.doubts += caveats(
        table, inferred.mapping, alive_is_given=bool(override.get("clocks.alive"))
    )
    return inferred


def _refined(inferred: Inferred, words: dict[State, tuple[Any, ...]]) -> Facts:
    """The table with what its rows show of its columns: which are never empty, which texts and
    numbers are times, in which zone times without one are."""
    table, evidence = inferred.table, inferred.evidence
    full = rows.empties(evidence, table.columns.values(), words)
    columns = {}
    for name, column in table.columns.items():
        texts, times = evidence.iso(name)
        columns[name] = replace(
            column,
            full=name in full,
            epoch=rows.is_epoch(evidence, name) if column.type in NUMBERS else None,
            iso=column.type in TEXTS and texts == times and (times > 0 or _sounds_timed(column)),
            zone=zone_of(table, column, evidence),
        )
    return replace(table, columns=columns)


def _sounds_timed(column: Column) -> bool:
    """A text that is called `createdAt` and that no row has."""
    timed = replace(column, iso=True)
    parts = tokens(column.name)
    marked = len(parts) > 1 and is_among(parts[-1], "time_marks")
    if marked and by_name.asked_to_stop([timed]):
        return True
    return marked and any(by_name.exact([timed], role, by_name.is_time) for role in by_name.TIMED)


def _ended_by_rows(
    inferred: Inferred, mapping: Mapping, status: Status, override: Override
) -> Mapping:
    """A word whose rows have the time of their end set is no word of an open task:
    `FailedRetryable` sounds as if it waited."""
    finished = mapping.clock("finished")
    if not finished or mapping.ends_well:
        return mapping
    moved: dict[State, list[Any]] = {}
    for word in mapping.words.get(State.PENDING, ()):
        unsure = word in status.reading.doubts and f"words.{State.PENDING}" not in override
        if unsure and rows.is_ended(inferred.evidence, finished[0], word):
            is_bad = State.FAILED in sure_states(word)
            moved.setdefault(State.FAILED if is_bad else State.RESTING, []).append(word)
    if not moved:
        return mapping
    ended = [word for words in moved.values() for word in words]
    inferred.doubts.append(doubt("ended", words=alternatives(ended), name=finished[0]))
    status.reading.stages |= set(ended)
    kept = without(mapping.words, ended)
    words = {state: (*kept.get(state, ()), *moved.get(state, ())) for state in State}
    return replace(mapping, words=words)


def _failed_by_rows(
    inferred: Inferred, mapping: Mapping, status: Status, override: Override
) -> Mapping:
    """A word that nobody knows is the one for failed where the table has no other, and its rows
    alone say what went wrong: `Gone Wrong`."""
    error, evidence = mapping.columns.get("error"), inferred.evidence
    if error is None or f"words.{State.FAILED}" in override:
        return mapping
    if any(word not in inferred.assumed for word in mapping.words.get(State.FAILED, ())):
        return mapping
    healthy = [
        word
        for state in (State.PENDING, State.RUNNING, State.COMPLETED)
        for word in mapping.words.get(state, ())
    ]
    failed = [
        word
        for word in mapping.words.get(State.RESTING, ())
        if word in status.reading.doubts
        and 1 < evidence.count([word]) == evidence.filled(error, [word])
    ]
    if len(failed) != 1 or not evidence.count(healthy) or evidence.filled(error, healthy):
        return mapping
    unknown = f"words.{State.RESTING}"
    about = repr(failed[0])
    inferred.doubts = [
        (topic, text) for topic, text in inferred.doubts if not (topic == unknown and about in text)
    ]
    inferred.doubts.append(doubt("fails", words=alternatives(failed), name=error))
    inferred.assumed -= {*mapping.words.get(State.FAILED, ())}
    status.assumed.pop(State.FAILED, None)
    return replace(mapping, words=without(mapping.words, failed) | {State.FAILED: tuple(failed)})


def _unwritable(status: Status, override: Override) -> frozenset[Any]:
    """The words that are read and never written: those that nothing in the table shows, and a bad
    end of one stage only. What a person gives is written."""
    assumed = {word for words in status.assumed.values() for word in words}
    stages = {word for word in status.reading.stages if word in status.reading.of(State.FAILED)}
    ended = status.reading.stages - set(status.reading.of(State.RUNNING))
    return frozenset(assumed | stages | ended) - _given(status, override)


def _given(status: Status, override: Override) -> frozenset[Any]:
    """The words that a person says."""
    words = (override.get(f"words.{state}", ()) for state in State)
    return frozenset(word for listed in words for word in typed(listed, status.column))


def _say_unwritable(inferred: Inferred) -> None:
    """Which states nothing can be moved to, and the word that is written where there are several
    stages."""
    mapping = inferred.mapping
    for state in (State.PENDING, State.FAILED):
        stages = [word for word in mapping.words.get(state, ()) if word not in inferred.assumed]
        if stages and mapping.word(state) is None:
            topic = f"words.{state}"
            inferred.doubts.append(
                doubt("stage", topic, words=alternatives(stages), state=state, topic=topic)
            )


def _learned(inferred: Inferred, mapping: Mapping) -> Mapping:
    """What the rows show that an end writes beside the columns that are known by their names."""
    roles = {name for name in mapping.columns.values() if name}
    used = {name for names in mapping.clocks.values() for name in names} | roles
    used |= {mapping.key or "", mapping.status or "", *mapping.deleted, *mapping.touched}
    used |= {*mapping.locks, mapping.version or "", mapping.failed_at or ""}
    used |= {timeout.name for timeout in (*mapping.timeouts, *mapping.silences)}
    columns = [
        column
        for column in inferred.table.columns.values()
        if column.name not in used and column.name not in inferred.table.points_to
    ]
    if mapping.clock("finished") and not inferred.evidence.count(
        mapping.words.get(State.RUNNING, ())
    ):
        # with no row that runs, the time of a start looks like one that the end sets
        columns = [column for column in columns if column.type not in TIMES]
    ends = {}
    for state in (State.COMPLETED, State.FAILED, State.CANCELLED):
        learned = rows.of_an_end(inferred.evidence, columns, mapping.words, state)
        if learned.constants or learned.times:
            ends[state] = learned
    if failed := ends.get(State.FAILED):
        names = joined((*failed.constants, *failed.times))
        inferred.doubts.append(doubt("learned", names=names))
    return replace(mapping, ends=ends)


def _no_status(table: Facts) -> str:
    """A status that is made of other columns, or that stands in JSON, is there, but nothing can
    write it by its word."""
    for column in table.columns.values():
        if column.generated and sounds(column):
            return refusal("generated", name=column.name)
    documents = [column.name for column in table.columns.values() if column.type in JSONS]
    return refusal("in_json", names=joined(documents)) if documents else refusal("no_status")


def _unusable(table: Facts) -> str | None:
    if table.kind in VIEWS:
        below = f" below it ({joined(table.reads)})" if table.reads else ""
        return refusal("view", kind=VIEWS[table.kind], below=below)
    return None if table.may_read else refusal("unreadable", owner=table.owner, table=table.quoted)


def _key(inferred: Inferred, override: Override) -> str | None:
    """One column that names a row. Of two, the one that the database makes up; else nobody can name
    a row by one value."""
    table = inferred.table
    if override.get("key"):
        return str(override["key"])
    if len(table.key) == 1:
        return table.key[0]
    made_up_names = [name for name in table.key if made_up(table.columns[name])]
    if len(made_up_names) == 1:
        inferred.doubts.append(doubt("key", key=joined(table.key), name=made_up_names[0]))
        return made_up_names[0]
    if table.key:
        inferred.refused = refusal("composite", key=joined(table.key))
        return None
    for index in table.indexes:
        name = index.columns[0] if index.unique and not index.where else ""
        if len(index.columns) == 1 and name and table.columns[name].not_null:
            inferred.doubts.append(doubt("unique", name=name))
            return name
    inferred.refused = refusal("no_key")
    return None


def made_up(column: Column) -> bool:
    return any(
        sign in (column.default or "").lower()
        for sign in ("uuid", "nextval", "identity", "ulid", "random")
    )


def _words(
    inferred: Inferred, status: Status, others: list[str], override: Override
) -> dict[State, tuple[Any, ...]]:
    name, reading = status.column.name, status.reading
    if others:
        inferred.doubts.append(doubt("other_status", others=joined(others), name=name))
    if not others and not status.named:
        inferred.doubts.append(doubt("status", name=name))
    overridden_words = {str(word) for state in State for word in override.get(f"words.{state}", ())}
    for word, text in reading.doubts.items():
        if str(word) not in overridden_words:
            inferred.doubts.append(
                doubt("word", f"words.{reading.states[word]}", name=name, text=text)
            )
    if status.flag:
        inferred.doubts.append(doubt("flag", name=name))
    may_be_null = not status.column.not_null and status.column.default is None
    if may_be_null and not reading.of(State.PENDING):
        inferred.doubts.append(doubt("null", "words.pending", name=name))
    if not status.closed:
        inferred.doubts.append(doubt("free_text", name=name))
    inferred.assumed = frozenset(word for words in status.assumed.values() for word in words)
    return status.words()


def _say_assumed(inferred: Inferred, status: Status, override: Override) -> None:
    guessed = {
        state: words
        for state, words in status.assumed.items()
        if words and f"words.{state}" not in override
    }
    if guessed:
        states = "; ".join(f"{state} ({alternatives(words)})" for state, words in guessed.items())
        keys = ", ".join(f"words.{state}" for state in guessed)
        inferred.doubts.append(doubt("assumed", name=status.column.name, states=states, keys=keys))


def _columns(
    inferred: Inferred, columns: list[Column], words: dict[State, tuple[Any, ...]]
) -> dict[str, str | None]:
    kinds = by_name.exact(columns, "kind", by_name.is_name)
    perhaps = [] if kinds else by_name.exact(columns, "kind_perhaps", by_name.is_name)
    if perhaps:
        inferred.doubts.append(doubt("kind", name=perhaps[0]))
    documents = [column for column in columns if by_name.is_document(column)]
    results = [column for column in documents if _only_ends_have(inferred, column, words)]
    inputs = [column for column in documents if column not in results]
    result = by_name.first(results, "result", by_name.is_document)
    result = result or by_name.first(results, "input", by_name.is_document)
    counts = _uncounted(inferred, columns)
    roles = {
        "error": _error(inferred, columns, words),
        "kind": next(iter((*kinds, *perhaps)), None),
        "owner": by_name.first(columns, "owner", by_name.is_plain),
        "attempts": by_name.first(counts, "attempts", by_name.is_count),
        "limit": by_name.first(columns, "limit", by_name.is_count),
        "input": by_name.first(inputs, "input", by_name.is_document),
        "result": result or by_name.first(inputs, "result", by_name.is_document),
    }
    guesses = {
        "attempts": by_name.worded(counts, "attempts", by_name.is_count),
        "limit": next((column.name for column in counts if by_name.limits_tries(column)), None),
        "input": by_name.worded(inputs, "input", by_name.is_document)
        or _all_that_waits_has(inferred, columns, inputs, words, roles),
        "result": by_name.worded(documents, "result", by_name.is_document)
        or (results[0].name if len(results) == 1 else None),
    }
    for role, name in guesses.items():
        if roles[role] is None and name is not None and name not in roles.values():
            roles[role] = name
            inferred.doubts.append(doubt("role", role, name=name, meaning=ROLES[role], role=role))
    return roles


def _all_that_waits_has(
    inferred: Inferred,
    columns: list[Column],
    documents: list[Column],
    words: dict[State, tuple[Any, ...]],
    roles: dict[str, str | None],
) -> str | None:
    """The one document that each row that waits has, where nothing beside it says what is to be
    done: a text may be a part of the order as well."""
    evidence, waiting = inferred.evidence, words.get(State.PENDING, ())
    count = evidence.count(waiting)
    if not count:
        return None
    mapped = {*roles.values()}
    filled = [
        column
        for column in columns
        if column.name not in mapped
        and (column in documents or by_name.is_text(column))
        and evidence.filled(column.name, waiting)
    ]
    is_whole = [evidence.filled(column.name, waiting) == count for column in filled]
    return filled[0].name if is_whole == [True] and filled[0] in documents else None


def _only_ends_have(
    inferred: Inferred, column: Column, words: dict[State, tuple[Any, ...]]
) -> bool:
    """Whether good ends alone have a document: what an application calls `data` may be what a task
    gets, or what it made."""
    evidence = inferred.evidence
    opened = [word for state in OPEN for word in words.get(state, ())]
    ended = words.get(State.COMPLETED, ())
    return (
        evidence.count(opened) > 0
        and not evidence.filled(column.name, opened)
        and 2 * evidence.filled(column.name, ended) > evidence.count(ended)
    )


def _uncounted(inferred: Inferred, columns: list[Column]) -> list[Column]:
    """Without what names a row together with others: an attempt_number of a unique index is no
    count of tries."""
    unique = {
        name for index in inferred.table.indexes if index.unique for name in index.columns
    } | set(inferred.table.key)
    return [column for column in columns if column.name not in unique]


def _error(
    inferred: Inferred, columns: list[Column], words: dict[State, tuple[Any, ...]]
) -> str | None:
    """A text that says error first; then a code, a list of log lines, or a name that only ends like
    one; then what the rows show."""
    names = by_name.named(columns, "error", by_name.takes_notes)
    if names.sure:
        return names.sure[0]
    saying = [column.name for column in columns if by_name.says_why(column)]
    perhaps = [column.name for column in columns if by_name.may_say_why(column)]
    codes = by_name.exact(columns, "error_perhaps", by_name.is_text)
    logs = by_name.exact(columns, "log", by_name.is_list)
    if guesses := [*names.guesses, *saying, *perhaps, *codes, *logs]:
        inferred.doubts.append(doubt("error", name=guesses[0]))
        return guesses[0]
    shown = [column.name for column in columns if _only_failures_have(inferred, column, words)]
    if len(shown) != 1:
        return None
    inferred.doubts.append(doubt("error", name=shown[0]))
    return shown[0]


def _only_failures_have(
    inferred: Inferred, column: Column, words: dict[State, tuple[Any, ...]]
) -> bool:
    """Whether each failed row has a text there, not all the same, and no other row has any."""
    evidence, failed = inferred.evidence, words.get(State.FAILED, ())
    others = [word for word in evidence.rows if word not in set(map(rows.text_of, failed))]
    return (
        by_name.takes_notes(column)
        and by_name.is_text(column)
        and 1 < evidence.count(failed) == evidence.filled(column.name, failed)
        and evidence.constant(column.name, failed) is None
        and evidence.count(others) > 0
        and not evidence.filled(column.name, others)
    )


def _possible(inferred: Inferred, mapping: Mapping, status: Status) -> Mapping:
    """Without words that an enum does not have: each look would fail on one with 22P02."""
    labels = status.column.labels
    if not labels:
        return mapping
    allowed = set(typed(labels, status.column))
    strange = [word for words in mapping.words.values() for word in words if word not in allowed]
    if not strange:
        return mapping
    inferred.doubts.append(
        doubt("strange", words=alternatives(strange), name=mapping.status, labels=joined(labels))
    )
    return replace(mapping, words=without(mapping.words, strange))


def _verdict(inferred: Inferred, status: Status, override: Override) -> str | None:
    """Why the table can't be looked at. Who says which words mean what says that it is a table of
    tasks."""
    name, words_given = status.column.name, _gives_words(override)
    if not words_given and status.too_many:
        return refusal("many", name=name)
    if not words_given and not status.bare:
        return people.refusal(inferred.table, status, inferred.mapping)
    if words_given and any(inferred.mapping.words.get(state) for state in OPEN):
        return None
    inferred.blind = True
    if not words_given and status.default is not None:
        inferred.mapping = replace(inferred.mapping, words={State.PENDING: (status.default,)})
    values = joined(status.unread) or "no row has a value"
    inferred.doubts.append(
        doubt("numbers", "-", name=name, shown=inferred.table.shown[name], values=values)
    )
    return None


def _gives_words(override: Override) -> bool:
    return any(topic.startswith("words.") for topic in override)


def _answered(topic: str, override: Override) -> bool:
    """Whether a person has said what was in doubt."""
    return topic in override or (topic == "words" and _gives_words(override))
