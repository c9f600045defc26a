"""What the address of the list asks for: a filter, and a place in the list. The filter stands in
the address, so that it can be shared."""

import base64
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from functions.core.policy import Watch
from functions.core.states import State
from functions.entry.fields import task_id_of
from functions.errors import BadRequestError
from functions.store.page_answers import ListedTask, Place

FIELDS = (
    *("state", "kind", "reason", "owner", "q"),
    *("text", "since", "until", "message", "order", "sort"),
)
SORTED_STATES = ("pending", "completed", "failed", "cancelled")
"""Those whose tasks an index has in the order of their time, so that it can be read backwards."""
STATES = ("stuck", "open", *State, "elsewhere")


def _key_order(task: ListedTask) -> tuple[int, str]:
    """Numbers by their value."""
    return len(task.task_id) if task.task_id.isdecimal() else 0, task.task_id


Row = tuple[str, ListedTask]
"""With the name of its table."""
COLUMNS: dict[str, Callable[[ListedTask], Any]] = {
    "state": lambda task: task.word or task.state,
    "task": _key_order,
    "kind": lambda task: task.kind or None,
    "for": lambda task: task.age,
    "attempt": lambda task: task.number,
}
"""By which the rows that are shown can be sorted. No index has the order of such a column, so that
the list as a whole cannot be."""
DAYS = {"since": 0, "until": 1}
"""The fields that are times. A day that is named as `until` is meant whole."""
LIST_ONLY = frozenset({"first", "word", "text", "since", "until"})
"""Filters that the list knows and `find` does not: an action would be wider than what is shown."""
LABELS = {"elsewhere": "ended without the guard"}
"""Of those states whose name does not say what they are."""
FIELD_CHARACTERS = 200
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)


class ListQuery(NamedTuple):
    """`typed` is what the address says, by field. `filter` is what the store takes, None when
    nothing can match. `after` is where the page begins, None for the first one."""

    typed: dict[str, str]
    filter: dict[str, Any] | None
    after: Place | None


def typed_fields(arguments: Any, names: tuple[str, ...] = FIELDS) -> dict[str, str]:
    """The fields that the query string fills in, without characters that cannot be seen."""
    typed = {name: filter(str.isprintable, arguments.get(name, "")) for name in names}
    short = {name: "".join(text).strip()[:FIELD_CHARACTERS] for name, text in typed.items()}
    return {name: text for name, text in short.items() if text}


def read(arguments: Any, watch: Watch) -> ListQuery:
    """From the query string. A value that makes no sense matches nothing, and is shown in the form
    as it was typed. A state may be named by the table's own word."""
    typed, after = typed_fields(arguments), _place_in(watch, arguments.get("after"))
    if "message" in typed:
        typed["state"] = "failed"
    state = typed.get("state", "open")
    if state not in SORTED_STATES or typed.get("order") != "reverse":
        typed.pop("order", None)
    filters = {name: value for name, value in typed.items() if name not in {"q", "sort", *DAYS}}
    states = [state] if state in STATES else watch.states_named(state)
    bounds = _bounds(watch, typed)
    if not states or bounds is None:
        return ListQuery(typed, None, after)
    if state not in STATES:
        if len(states) == 1 and watch.texts(State(states[0])) == [state]:
            typed["state"] = filters["state"] = str(states[0])
        else:
            filters["word"] = filters.pop("state")
            if len(states) == 1:
                filters["state"] = str(states[0])
    return ListQuery(typed, filters | bounds, after)


def sorted_rows(rows: list[Row], sort: str) -> list[Row]:
    """The rows of a page by one of COLUMNS, downwards where a minus stands before its name. Rows
    without a value come last."""
    column = COLUMNS.get(sort.removeprefix("-"))
    if column is None:
        return rows
    valued = [row for row in rows if column(row[1]) is not None]
    valued.sort(key=lambda row: column(row[1]), reverse=sort.startswith("-"))
    return valued + [row for row in rows if column(row[1]) is None]


def _bounds(watch: Watch, typed: dict[str, str]) -> dict[str, str] | None:
    """The first and last key, and the times, between which tasks are asked for; None where one of
    them makes no sense."""
    bounds = {name: moment_of(typed[name], days) for name, days in DAYS.items() if name in typed}
    if "q" in typed:
        first, last = key_range(watch.key_type, typed["q"]) or (None, None)
        bounds |= {"first": first, "last": last}
    readable = {name: text for name, text in bounds.items() if text is not None}
    return readable if len(readable) == len(bounds) else None


def moment_of(text: str, days: int) -> str | None:
    """A day or a moment as ISO writes it, in UTC where it names no zone; of a day the end where
    `days` is 1. None for another text."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return f"{date.fromisoformat(text) + timedelta(days=days)}T00:00:00+00:00"
        moment = datetime.fromisoformat(text)
    except _UNREADABLE:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def states_of(watches: list[Watch]) -> list[tuple[str, str]]:
    """What the list can be filtered by: each name with its label, the tables' own word first. The
    words of a state that has several can be chosen too."""
    choices = []
    for name in STATES:
        is_state = name in set(State)
        texts = [watch.texts(State(name)) for watch in watches if is_state]
        words = list(dict.fromkeys(word for each in texts for word in each))
        label = LABELS.get(name, name)
        choices.append((name, f"{words[0]} ({name})" if words and words != [name] else label))
        if len(words) > 1:
            choices[-1] = (name, f"{name}: {', '.join(words)}")
            choices += [(word, f"only {word}") for word in words if word != name]
    return choices


def key_range(key_type: str, text: str) -> tuple[str, str] | None:
    """The first and the last uuid that begin with the text; for keys of another type, the key
    itself twice. None when no key can match."""
    if key_type == "uuid":
        digits = text.lower().replace("-", "")
        if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
            return None
        return str(uuid.UUID(digits.ljust(32, "0"))), str(uuid.UUID(digits.ljust(32, "f")))
    if key_type == "text":
        return text, text
    bits = 31 if key_type == "integer" else 63
    if re.fullmatch(r"-?\d{1,19}", text) and abs(int(text)) < 2**bits:
        return text, text
    return None


def _place_in(watch: Watch, text: str | None) -> Place | None:
    """A place whose key is none of this table is the first page."""
    after = place(text)
    try:
        return after and Place(after.section, after.at, task_id_of(watch, after.id))
    except BadRequestError:
        return None


def place(text: str | None) -> Place | None:
    """A place from the address. One that cannot be read is the first page."""
    padding = "=" * (-len(text or "") % 4)
    try:
        parts = json.loads(base64.urlsafe_b64decode((text or "") + padding))
        section, at, key = int(parts["section"]), parts.get("at"), str(parts["id"])
        if at is not None:
            datetime.fromisoformat(at if re.fullmatch(r"[\d:.+T -]{10,40}", at) else "")
    except (*_UNREADABLE, KeyError, AttributeError):
        return None
    return Place(section, at, key) if 0 <= section <= 5 else None


def address(after: Place) -> str:
    """A place as it goes into the address."""
    parts = {"section": after.section, "at": after.at, "id": after.id}
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
