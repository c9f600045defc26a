"""How the application writes an error that is JSON: which key has the sentence, which the code,
which the time. It reads these keys alone, so that an error of ours has them too. Told by what the
rows that failed hold; of several keys that would do, the name decides."""

import json
import re
from collections.abc import Iterable
from typing import Any

from functions.core.states import State
from functions.install.column_sql import ISO_TIME, JSONS, TEXTS, Column, literal, qualified
from functions.ops.inspect.evidence import text_of
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.session import Connection
from functions.ops.inspect.vocabulary import tokens

ROWS = 50
CODE = r"[\w.:/-]{0,63}\w\Z"
NAMES = {
    "message": {"message", "msg", "text", "description", "detail", "details", "error", "reason"},
    "code": {"code", "type", "name", "kind", "reason", "class", "status"},
    "time": {"at", "time", "timestamp", "date", "ts"},
}
"""Words of a key that is likely to hold this."""


def error_keys(connection: Connection, inferred: Inferred) -> tuple[tuple[str, str], ...]:
    """The keys of the error's JSON with what each holds (message, code or time); the key "" where
    the error is a JSON string. Empty where the column or its rows tell nothing."""
    column = inferred.table.columns.get(inferred.mapping.columns.get("error") or "")
    words = inferred.mapping.words.get(State.FAILED, ())
    if column is None or not words or (column.type not in JSONS and not _is_long_text(column)):
        return ()
    name = qualified(column)
    status = qualified(inferred.table.columns[inferred.mapping.status or ""])
    listed = ", ".join(literal(text_of(word)) for word in words)
    rows = connection.execute(
        f"select {name}::text from {inferred.table.quoted} t where {status}::text in ({listed}) "
        f"and {name} is not null limit {ROWS}".encode()
    ).fetchall()
    return keys_of(_read(text) for (text,) in rows)


def _is_long_text(column: Column) -> bool:
    return column.type in TEXTS and column.width is None


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def keys_of(errors: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    """The same of errors that were read already."""
    lasts = [error[-1] if isinstance(error, list) and error else error for error in errors]
    if lasts and all(isinstance(error, str) for error in lasts):
        return (("", "message"),)
    objects = [_flat(error) for error in lasts if isinstance(error, dict)]
    if not objects or 2 * len(objects) <= len(lasts):
        return ()
    usual = dict.fromkeys(key for error in objects for key in error)
    values = {
        key: [error[key] for error in objects if isinstance(error.get(key), str)] for key in usual
    }
    texts = {key: held for key, held in values.items() if 2 * len(held) > len(objects)}
    times = [key for key, held in texts.items() if _all_match(ISO_TIME, held)]
    left = [key for key in texts if key not in times]
    codes = [key for key in left if _all_match(CODE, texts[key])]
    sentences = [key for key in left if key not in codes]
    if not sentences and (named := [key for key in codes if _fits(key, "message")]):
        sentences = [key for key in named if not _fits(key, "code")][:1]
        codes = [key for key in codes if key not in sentences]
    chosen = {"message": _best(sentences, "message"), "code": _best(codes, "code")}
    chosen["time"] = _best(times, "time")
    return tuple((key, role) for role, key in chosen.items() if key is not None)


def _all_match(pattern: str, texts: Iterable[str]) -> bool:
    return all(re.match(pattern, text) for text in texts)


def _flat(error: dict[str, Any]) -> dict[str, Any]:
    """With the keys of the objects in it as `outer.inner`."""
    flat: dict[str, Any] = {}
    for key, value in error.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": held for inner, held in value.items()}
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key.count(".") <= 1}


def _best(keys: list[str], role: str) -> str | None:
    return next((key for key in keys if _fits(key, role)), keys[0] if keys else None)


def _fits(key: str, role: str) -> bool:
    return bool(NAMES[role].intersection(tokens(key.rpartition(".")[2])))
