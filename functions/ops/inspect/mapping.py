"""The mapping of a table: which column and which words mean what. Inferred, and overridden by a
--map file (YAML or JSON, the keys of `inferred`)."""

import json
from collections.abc import Mapping as Keys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from functions.core.states import ENDED, State
from functions.core.yaml_lines import Value, read
from functions.errors import PolicyError
from functions.install.column_sql import NUMBERS, TIMES, WHOLE, Column
from functions.ops.inspect.columns import Timeout
from functions.ops.inspect.evidence import Learned

CLOCKS = ("queued", "started", "alive", "finished")
MORE_CLOCKS = ("due", "lease", "deadline")
COLUMNS = ("error", "kind", "owner", "attempts")
MORE_COLUMNS = ("limit", "input", "result")


@dataclass(frozen=True)
class Mapping:
    """What the columns and words of one table mean. A clock is a list of columns: the next one
    counts where one is NULL."""

    key: str | None = None
    status: str | None = None
    words: dict[State, tuple[Any, ...]] = field(default_factory=dict)
    clocks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    timeouts: tuple[Timeout, ...] = ()
    silences: tuple[Timeout, ...] = ()
    """How long the worker of a row may be silent."""
    locked_at: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    failed_at: str | None = None
    ends_well: bool = False
    """`finished` is the time of a good end (`sent_at`): a failed task gets none."""
    version: str | None = None
    deleted: tuple[str, ...] = ()

    unwritable: frozenset[Any] = frozenset()
    """Words that are read and never written: nothing in the table shows that its application knows
    them as the general word of their state."""
    stopping: frozenset[Any] = frozenset()
    """Running words of a task whose user asked to stop it."""
    asked_to_stop: tuple[str, ...] = ()
    """Flags and times that say the same beside the status."""
    ends: dict[State, Learned] = field(default_factory=dict)
    """What the rows show that an end also writes."""

    def clock(self, name: str) -> tuple[str, ...]:
        return self.clocks.get(name, ())

    @property
    def alive(self) -> tuple[str, ...]:
        """What proves life: where no beat is there yet, the last change does."""
        return (
            tuple(dict.fromkeys((*self.clock("alive"), *self.touched)))
            if self.clock("alive")
            else ()
        )

    def word(self, state: State) -> Any:
        """The word to write for a state, or None."""
        words = (word for word in self.words.get(state, ()) if word not in self.unwritable)
        return next(words, None)

    def as_json(self) -> dict[str, Any]:
        """In the exact form of `inferred`."""
        return {
            "key": self.key,
            "status": self.status,
            "words": {state.value: list(self.words.get(state, ())) for state in State},
            "clocks": {name: _one_or_list(self.clock(name)) for name in CLOCKS},
            **{name: self.columns.get(name) for name in COLUMNS},
        }


def _one_or_list(names: tuple[str, ...]) -> Any:
    return list(names) if len(names) > 1 else next(iter(names), None)


Override = dict[str, Any]
"""What a --map file says: dotted keys (`words.failed`, `clocks.alive`, `error`) with checked
values."""


def override_of(
    path: str | None, words_of_states: Sequence[str], columns: Keys[str, Column]
) -> Override:
    """What a --map file says, if there is one, and more words, as `failed=error`."""
    override = load(path, columns) if path else {}
    for text in words_of_states:
        state, _, word = text.partition("=")
        if state not in list(State) or not word:
            raise PolicyError(f"--word {text}: write STATE=WORD, such as --word failed=error.")
        override[f"words.{state}"] = (*override.get(f"words.{state}", ()), word)
    return override


def load(path: str, columns: Keys[str, Column]) -> Override:
    """Raises PolicyError, which names the key and the next step, for a file that cannot be used."""
    root = _root(_text(Path(path)), Path(path).name)
    root.only("key", "status", "words", "clocks", *COLUMNS, *MORE_COLUMNS)
    override = _single_columns(root, columns)
    if (clocks := root.get("clocks")) is not None:
        clocks.only(*CLOCKS, *MORE_CLOCKS)
        override |= {f"clocks.{name}": _clock(value, columns) for name, value in clocks.items()}
    if (words := root.get("words")) is not None:
        words.only(*State)
        override |= {f"words.{state}": _words(value) for state, value in words.items()}
        _check_one_state_each(words, override)
    return override


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(
            f"{file}: cannot be read ({error.strerror}). Give --map the name of a YAML or JSON "
            "file."
        ) from None
    except UnicodeDecodeError:
        raise PolicyError(f"{file}: is not UTF-8. Save it as UTF-8.") from None


def _root(text: str, file: str) -> Value:
    """The mapping itself, or the whole answer of `check --json` with it. JSON with tabs is not
    YAML, so it is read as JSON."""
    try:
        root = read(text, file)
    except PolicyError:
        try:
            root = read(json.dumps(json.loads(text), ensure_ascii=False), file)
        except ValueError:
            pass
        else:
            return root.get("inferred") or root
        raise
    return root.get("inferred") or root


def _columns(value: Value, table_columns: Keys[str, Column]) -> tuple[str, ...]:
    """The columns that a key names, in the table's own spelling."""
    if _is_empty(value):
        return ()
    spellings = {name.lower(): name for name in table_columns}
    columns = []
    for name in value.names():
        column = name if name in table_columns else spellings.get(name.lower())
        if column is None:
            value.fail(f"the table has no column {name!r}. It has: {', '.join(table_columns)}.")
        columns.append(column)
    return tuple(columns)


def _is_empty(value: Value) -> bool:
    return value.plain() in (None, "", [])


def _single_columns(root: Value, table_columns: Keys[str, Column]) -> Override:
    override: Override = {}
    for name in ("key", "status", *COLUMNS, *MORE_COLUMNS):
        if (value := root.get(name)) is None:
            continue
        column = next(iter(_columns(value, table_columns)), None)
        if column is None and name in {"key", "status"}:
            continue  # what `check --json` says of a table that it refused
        override[name] = column
        if name in {"attempts", "limit"}:
            _must_be(WHOLE, "a whole number", value, override[name], table_columns)
    return override


def _clock(value: Value, table_columns: Keys[str, Column]) -> tuple[str, ...]:
    columns = _columns(value, table_columns)
    for name in columns:
        _must_be(TIMES | NUMBERS, "a time or an epoch number", value, name, table_columns)
    return columns


def _must_be(
    types: frozenset[str],
    expected: str,
    value: Value,
    name: str | None,
    table_columns: Keys[str, Column],
) -> None:
    if name is not None and table_columns[name].type not in types:
        value.fail(
            f"{name} is {table_columns[name].type}, not {expected}. "
            "Name another column, or null for none."
        )


def _words(value: Value) -> tuple[Any, ...]:
    return () if _is_empty(value) else value.texts()


def _check_one_state_each(words: Value, override: Override) -> None:
    """A word of two states is an error, but for a flag: it does not tell how a task has ended."""
    states: dict[str, str] = {}
    for state, value in words.items():
        for word in override[f"words.{state}"]:
            other_state = states.get(str(word), state)
            is_end = isinstance(word, bool) and {other_state, state} <= ENDED
            if other_state != state and not is_end:
                value.fail(
                    f"the word {word!r} stands for {other_state} already. Give each word one state."
                )
            states[str(word)] = state


def overridden(inferred: Mapping, override: Override, column: Column | None) -> Mapping:
    """`inferred` with what a person says in its place. A word that is given to one state is taken
    from the others."""
    if not override:
        return inferred
    simple = {name: override[name] for name in ("key", "status") if name in override}
    columns = inferred.columns | {
        name: override[name] for name in (*COLUMNS, *MORE_COLUMNS) if name in override
    }
    clocks = inferred.clocks | {
        name: override[f"clocks.{name}"]
        for name in (*CLOCKS, *MORE_CLOCKS)
        if f"clocks.{name}" in override
    }
    words_given = {
        state: typed(override[f"words.{state}"], column)
        for state in State
        if f"words.{state}" in override
    }
    taken = [word for words in words_given.values() for word in words]
    finished = "clocks.finished" in override
    return replace(
        inferred,
        **simple,
        columns=columns,
        clocks=clocks,
        words=without(inferred.words, taken) | words_given,
        ends_well=inferred.ends_well and not finished,
    )


def without(
    words: Keys[State, tuple[Any, ...]], removed: list[Any]
) -> dict[State, tuple[Any, ...]]:
    """The words of each state but for those of `removed`."""
    kept = {}
    for state, words_of_state in words.items():
        kept[state] = tuple(word for word in words_of_state if word not in removed)
    return kept


def typed(words: tuple[Any, ...], column: Column | None) -> tuple[Any, ...]:
    """The words as the status column has them: YAML reads true, 1 and "1"; a boolean column has
    true, an integer one 1."""
    if column is None:
        return words
    if column.type == "bool":
        return tuple(map(_boolean, words))
    if column.type in {"int2", "int4", "int8", "numeric"}:
        return tuple(map(_whole_number, words))
    return tuple(str(word) for word in words)


def _boolean(word: Any) -> bool:
    text = str(word).strip().lower()
    if text in {"true", "t", "1", "yes"}:
        return True
    if text in {"false", "f", "0", "no"}:
        return False
    raise _unfit(word, "true or false")


def _whole_number(word: Any) -> int:
    if not str(word).strip().lstrip("+-").isdigit():
        raise _unfit(word, "a whole number")
    return int(str(word))


def _unfit(word: Any, expected: str) -> PolicyError:
    return PolicyError(
        f"--map: words: {word!r} is not {expected}, which is what the status column holds. "
        "Write its values."
    )
