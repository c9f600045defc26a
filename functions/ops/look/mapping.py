"""The mapping of a table: which column and which words mean what. Inferred, and overridden by what a person says in a
--map file (YAML or JSON, the keys of `inferred`)."""

import json
from collections.abc import Callable
from collections.abc import Mapping as Keys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from functions.errors import PolicyError
from functions.ops.look.columns import Timeout
from functions.states import State
from functions.values import Column
from functions.yaml_lines import Value, read

CLOCKS = ("queued", "started", "alive", "finished")
MORE_CLOCKS = ("due", "lease", "deadline")
COLUMNS = ("error", "kind", "owner", "attempts")
MORE_COLUMNS = ("limit",)


@dataclass(frozen=True)
class Mapping:
    """What the columns and words of one table mean. A clock is a list of columns: the next one counts where one is NULL."""

    key: str | None = None
    status: str | None = None
    words: dict[State, tuple[Any, ...]] = field(default_factory=dict)
    clocks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    timeouts: tuple[Timeout, ...] = ()
    locked_at: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    failed_at: str | None = None
    ends_well: bool = False
    """`finished` is the time of a good end (`sent_at`): a failed task gets none."""
    version: str | None = None
    deleted: tuple[str, ...] = ()

    def clock(self, name: str) -> tuple[str, ...]:
        return self.clocks.get(name, ())

    def word(self, state: State) -> Any:
        """The word to write for a state, or None."""
        return next(iter(self.words.get(state, ())), None)

    def state(self, word: Any) -> State | None:
        return next((state for state, words in self.words.items() if word in words), None)

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
"""What a --map file says: dotted keys (`words.failed`, `clocks.alive`, `error`) with checked values."""


def load(path: str, columns: Keys[str, Column], shown: Callable[[str], str] = str) -> Override:
    """Raises PolicyError, which names the key and the next step, for a file that cannot be used."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(
            f"{path}: cannot be read ({error.strerror}). Give --map the name of a YAML or JSON file."
        ) from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path}: is not UTF-8. Save it as UTF-8.") from None
    root = _root(text, file.name)
    root.only("key", "status", "words", "clocks", *COLUMNS, *MORE_COLUMNS)
    override: Override = {}
    for name in ("key", "status", *COLUMNS, *MORE_COLUMNS):
        if (value := root.get(name)) is not None:
            override[name] = next(iter(_columns(value, columns, shown)), None)
            if override[name] is None and name in {"key", "status"}:
                value.fail("must be the name of a column")
    if (clocks := root.get("clocks")) is not None:
        clocks.only(*CLOCKS, *MORE_CLOCKS)
        override |= {f"clocks.{name}": _columns(value, columns, shown) for name, value in clocks.items()}
    if (words := root.get("words")) is not None:
        words.only(*State)
        override |= {f"words.{state}": _words(value) for state, value in words.items()}
        _unlike(words, override)
    return override


def _root(text: str, file: str) -> Value:
    """The mapping itself, or the whole answer of `check --json` with it. JSON with tabs is not YAML, so it is read as JSON."""
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


def _columns(value: Value, known: Keys[str, Column], shown: Callable[[str], str]) -> tuple[str, ...]:
    """The columns that a key names, in the table's own spelling."""
    given = value.plain()
    if given in (None, "", []):
        return ()
    spelled = {name.lower(): name for name in known}
    found = []
    for name in value.names():
        column = name if name in known else spelled.get(name.lower())
        if column is None:
            value.fail(f"the table has no column {name!r}. It has: {shown(', '.join(known))}.")
        found.append(column)
    return tuple(found)


def _words(value: Value) -> tuple[Any, ...]:
    given = value.plain()
    if given in (None, "", []):
        return ()
    return value.texts()


def _unlike(words: Value, override: Override) -> None:
    taken: dict[Any, str] = {}
    for state, value in words.items():
        for word in override[f"words.{state}"]:
            if str(word) in taken and taken[str(word)] != state:
                value.fail(f"the word {word!r} stands for {taken[str(word)]} already. Give each word one state.")
            taken[str(word)] = state


def overridden(inferred: Mapping, override: Override, column: Column | None) -> Mapping:
    """`inferred` with what a person says in its place. A word that is given to one state is taken from the others."""
    if not override:
        return inferred
    simple = {name: override[name] for name in ("key", "status") if name in override}
    columns = inferred.columns | {name: override[name] for name in (*COLUMNS, *MORE_COLUMNS) if name in override}
    clocks = inferred.clocks | {
        name: override[f"clocks.{name}"] for name in (*CLOCKS, *MORE_CLOCKS) if f"clocks.{name}" in override
    }
    given = {state: typed(override[f"words.{state}"], column) for state in State if f"words.{state}" in override}
    words = {
        state: tuple(word for word in listed if not any(word in others for others in given.values()))
        for state, listed in inferred.words.items()
    } | given
    finished = "clocks.finished" in override
    return replace(
        inferred, **simple, columns=columns, clocks=clocks, words=words, ends_well=inferred.ends_well and not finished
    )


def typed(words: tuple[Any, ...], column: Column | None) -> tuple[Any, ...]:
    """The words as the status column has them: YAML reads true, 1 and "1"; a boolean column has true, an integer one 1."""
    if column is None:
        return words
    if column.type == "bool":
        said = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
        return tuple(_read(said.get(str(word).strip().lower()), word, "true or false") for word in words)
    if column.type in {"int2", "int4", "int8", "numeric"}:
        return tuple(
            _read(int(str(word)) if str(word).strip().lstrip("+-").isdigit() else None, word, "a whole number")
            for word in words
        )
    return tuple(str(word) for word in words)


def _read(value: Any, word: Any, wanted: str) -> Any:
    if value is None:
        raise PolicyError(
            f"--map: words: {word!r} is not {wanted}, which is what the status column holds. Write its values."
        )
    return value
