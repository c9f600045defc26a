"""The mapping of a table that nobody described: from the facts of the catalogue to columns, words
and clocks, with all that is not certain said in a sentence that names the option to give. Nothing
is guessed in silence."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from functions.core.states import OPEN, State
from functions.install.column_sql import JSONS, Column
from functions.ops.look import columns as by_name
from functions.ops.look import people
from functions.ops.look.catalogue import Facts
from functions.ops.look.clocks import caveats, clocks
from functions.ops.look.mapping import Mapping, Override, overridden, typed
from functions.ops.look.sentences import Doubt, doubt, listed, plain, refusal
from functions.ops.look.status import Behind, Seen, Status, choose, sounds

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

    @property
    def why_blind(self) -> str:
        return next(text for topic, text in self.doubts if topic == "-")

    @property
    def unsure(self) -> list[str]:
        return [text for _, text in self.doubts]


Load = Callable[[Facts], Override]


def infer(table: Facts, seen: Seen, behind: Behind, load: Load = lambda _: {}) -> Inferred:
    """`seen` tells the values that occur in a column, `behind` the rows of a small table that a
    column points to, `load` what a person says in a --map file."""
    found = Inferred(table, refused=_unusable(table))
    if found.refused:
        return found
    override = load(table)
    status, others = choose(table, seen, behind, override.get("status"))
    key = _key(found, override)
    if status is None:
        found.refused = found.refused or _no_status(table)
        return found
    columns = [one for one in table.columns.values() if one.name not in {status.column.name, key}]
    mapping = Mapping(
        key=key,
        status=status.column.name,
        words=_words(found, status, others, override),
        columns=_columns(found, columns),
        version=next(iter(by_name.exact(columns, "version", by_name.is_count)), None),
        deleted=tuple(by_name.exact(columns, "deleted", by_name.is_flag_or_time)),
        locks=tuple(by_name.exact(columns, "lock", by_name.is_holder)),
    )
    mapping = clocks(table, mapping, found.doubts)
    _say_assumed(found, status, override)
    found.mapping = _possible(found, overridden(mapping, override, status.column), status)
    found.refused = found.refused or _verdict(found, status, override)
    found.doubts = [(topic, text) for topic, text in found.doubts if not _answered(topic, override)]
    if found.mapping.columns["error"] is None:
        found.doubts.append(doubt("no_error"))
    found.doubts += caveats(table, found.mapping, alive_is_given=bool(override.get("clocks.alive")))
    return found


def _no_status(table: Facts) -> str:
    """A status that is made of other columns, or that stands in JSON, is there, but nothing can
    write it by its word."""
    made = [one.name for one in table.columns.values() if one.generated and sounds(one)]
    documents = [one.name for one in table.columns.values() if one.type in JSONS]
    if made:
        return refusal("generated", name=made[0])
    return refusal("in_json", names=plain(documents)) if documents else refusal("no_status")


def _unusable(table: Facts) -> str | None:
    if table.kind in VIEWS:
        return refusal(
            "view",
            kind=VIEWS[table.kind],
            below=f" below it ({plain(table.reads)})" if table.reads else "",
        )
    return None if table.may_read else refusal("unreadable", owner=table.owner, table=table.quoted)


def _key(found: Inferred, override: Override) -> str | None:
    """One column that names a row. Of two, the one that the database makes up; else nobody can name
    a row by one value."""
    table = found.table
    if override.get("key"):
        return str(override["key"])
    if len(table.key) == 1:
        return table.key[0]
    made = [name for name in table.key if made_up(table.columns[name])]
    if len(made) == 1:
        found.doubts.append(doubt("key", key=plain(table.key), name=made[0]))
        return made[0]
    if table.key:
        found.refused = refusal("composite", key=plain(table.key))
        return None
    unique = [
        index.columns[0]
        for index in table.indexes
        if index.unique and len(index.columns) == 1 and not index.where
    ]
    unique = [name for name in unique if name and table.columns[name].not_null]
    if unique:
        found.doubts.append(doubt("unique", name=unique[0]))
        return unique[0]
    found.refused = refusal("no_key")
    return None


def made_up(one: Column) -> bool:
    return any(
        sign in (one.default or "").lower()
        for sign in ("uuid", "nextval", "identity", "ulid", "random")
    )


def _words(
    found: Inferred, status: Status, others: list[str], override: Override
) -> dict[State, tuple[Any, ...]]:
    name, reading = status.column.name, status.reading
    if others:
        found.doubts.append(doubt("other_status", others=plain(others), name=name))
    elif not status.named:
        found.doubts.append(doubt("status", name=name))
    given = {str(word) for state in State for word in override.get(f"words.{state}", ())}
    for word, text in reading.doubts.items():
        if str(word) not in given:
            found.doubts.append(
                doubt("word", f"words.{reading.states[word]}", name=name, text=text)
            )
    if status.flag:
        found.doubts.append(doubt("flag", name=name))
    if (
        not status.column.not_null
        and status.column.default is None
        and not reading.of(State.PENDING)
    ):
        found.doubts.append(doubt("null", "words.pending", name=name))
    if not status.closed:
        found.doubts.append(doubt("free_text", name=name))
    found.assumed = frozenset(word for words in status.assumed.values() for word in words)
    return status.words()


def _say_assumed(found: Inferred, status: Status, override: Override) -> None:
    guessed = {
        state: words
        for state, words in status.assumed.items()
        if words and f"words.{state}" not in override
    }
    if guessed:
        states = "; ".join(f"{state} ({listed(words)})" for state, words in guessed.items())
        keys = ", ".join(f"words.{state}" for state in guessed)
        found.doubts.append(doubt("assumed", name=status.column.name, states=states, keys=keys))


def _columns(found: Inferred, columns: list[Column]) -> dict[str, str | None]:
    kinds = by_name.exact(columns, "kind", by_name.is_name)
    perhaps = [] if kinds else by_name.exact(columns, "kind_perhaps", by_name.is_name)
    if perhaps:
        found.doubts.append(doubt("kind", name=perhaps[0]))
    return {
        "error": _error(found, columns),
        "kind": next(iter((*kinds, *perhaps)), None),
        "owner": next(iter(by_name.exact(columns, "owner", by_name.is_plain)), None),
        "attempts": next(iter(by_name.exact(columns, "attempts", by_name.is_count)), None),
        "limit": next(iter(by_name.exact(columns, "limit", by_name.is_count)), None),
    }


def _error(found: Inferred, columns: list[Column]) -> str | None:
    """A text that says error first; then a code, a list of log lines, or a name that only ends like
    one."""
    if exact := by_name.exact(columns, "error", by_name.takes_notes):
        return exact[0]
    codes = by_name.exact(columns, "error_perhaps", by_name.is_text)
    logs = by_name.exact(columns, "log", by_name.is_list)
    endings = [one.name for one in by_name.named(columns, "error", by_name.takes_notes)]
    if guesses := [*endings, *codes, *logs]:
        found.doubts.append(doubt("error", name=guesses[0]))
        return guesses[0]
    return None


def _possible(found: Inferred, mapping: Mapping, status: Status) -> Mapping:
    """Without words that the column can't hold: a sweeper in the field failed on one with 22P02 on
    each of its runs."""
    labels = status.column.labels
    allowed = set(typed(labels, status.column))
    strange = (
        [word for words in mapping.words.values() for word in words if word not in allowed]
        if labels
        else []
    )
    if not strange:
        return mapping
    found.doubts.append(
        doubt("strange", words=listed(strange), name=mapping.status, labels=plain(labels))
    )
    return replace(
        mapping,
        words={
            state: tuple(one for one in words if one in allowed)
            for state, words in mapping.words.items()
        },
    )


def _verdict(found: Inferred, status: Status, override: Override) -> str | None:
    """Why the table can't be looked at. Who says which words mean what says that it is a table of
    tasks."""
    name, said = status.column.name, _said(override)
    if not said and status.many:
        return refusal("many", name=name)
    if not said and not status.bare:
        return people.refusal(found.table, status)
    if said and any(found.mapping.words.get(state) for state in OPEN):
        return None
    found.blind = True
    if not said and status.default is not None:
        found.mapping = replace(found.mapping, words={State.PENDING: (status.default,)})
    values = plain(status.unread or found.mapping.words.values())
    found.doubts.append(
        doubt("numbers", "-", name=name, shown=found.table.shown[name], values=values)
    )
    return None


def _said(override: Override) -> bool:
    return any(topic.startswith("words.") for topic in override)


def _answered(topic: str, override: Override) -> bool:
    """Whether a person has said what was in doubt."""
    return topic in override or (topic == "words" and _said(override))
