"""Which column has which role, by name and type. Pure. A name of the vocabulary is sure; one that
only ends like it (`generation_started_at`) is a guess, and a person is told."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from functions.install.column_sql import JSONS, NUMBERS, TEXT_LISTS, TEXTS, TIMES, WHOLE, Column
from functions.ops.inspect.vocabulary import (
    column_names,
    core,
    cores,
    is_among,
    squashed,
    tokens,
    vocabulary,
    without_marks,
)

Fits = Callable[[Column], bool]


def is_time(column: Column) -> bool:
    """Times, texts that hold times, and numbers that may be epochs by their names and rows:
    `process_time real` is a length. A generated column tells no more than what it is made of."""
    if column.generated:
        return False
    if column.type in NUMBERS:
        return column.epoch is not False and _may_be_epoch(column)
    return column.type in TIMES or column.iso


def _may_be_epoch(column: Column) -> bool:
    parts = tokens(column.name)
    of_length = any(is_among(part, "lengths") for part in parts)
    if of_length and is_among(parts[-1], "time_marks") and column.epoch is None:
        return False
    if column.epoch or column.type == "int8":
        return True
    return bool(re.search(r"(at|on|ts|stamp|created|updated|epoch|date)$", squashed(column.name)))


def is_text(column: Column) -> bool:
    return column.type in TEXTS and not column.labels and not column.iso


def takes_notes(column: Column) -> bool:
    return is_list(column) or (is_text(column) and not column.generated)


def is_count(column: Column) -> bool:
    return column.type in WHOLE and not column.generated


def is_name(column: Column) -> bool:
    """May hold a kind: a text, or an enum."""
    return is_text(column) or bool(column.labels)


def is_holder(column: Column) -> bool:
    return column.type in TEXTS | WHOLE | TIMES | {"uuid", "bool"} and not column.generated


def is_list(column: Column) -> bool:
    return column.type in JSONS | TEXT_LISTS and not column.generated


def is_document(column: Column) -> bool:
    return column.type in JSONS and not column.generated


def is_plain(column: Column) -> bool:
    return column.type not in JSONS


def is_flag_or_time(column: Column) -> bool:
    return column.type in TIMES or column.type == "bool"


@dataclass(frozen=True)
class Named:
    """The columns that bear a name of a role, the usual names first, and those that only end like
    one."""

    sure: list[str]
    guesses: list[str]


def named(columns: Iterable[Column], role: str, fits: Fits) -> Named:
    ranks = column_names(role)
    names = [column.name for column in columns if fits(column)]
    places = {name: place for name in names if (place := _place(name, role)) is not None}
    sure = sorted(places, key=places.__getitem__)
    guesses = [name for name in names if name not in sure and ends_like(name, ranks)]
    return Named(sure, guesses)


TIMED = frozenset(
    {"queued", "started", "heartbeat", "updated", "finished", "succeeded", "failed_at"}
)
"""Roles of times, whose names are known in any form: created_at, createDate, created_ms."""


def _place(name: str, role: str) -> int | None:
    """The rank of a name among those of its role; None where it is none of them."""
    ranks = column_names(role)
    if squashed(name) in ranks:
        return ranks[squashed(name)]
    if role not in TIMED:
        return None
    cores_of_role = cores(role)
    about: str | None = core(name)
    if about == squashed(name) or about not in cores_of_role:
        about = without_marks(squashed(name), cores_of_role)
    return None if about is None else len(ranks) + cores_of_role[about]


def is_planned(column: Column) -> bool:
    """Whether its name says when a task may start at the earliest: next_start, wait_till."""
    parts = tokens(column.name)
    if not is_time(column) or any(is_among(part, "not_planned") for part in parts):
        return False
    planned = any(is_among(part, "planned") for part in parts)
    return planned or (len(parts) > 1 and is_among(parts[-1], "planned_after"))


def says_until(column: Column) -> bool:
    return tokens(column.name)[-1:] in {("until",), ("till",)}


def is_hold(column: Column) -> bool:
    """Whether its name says until when a worker holds the task: `taken_until`, as others say
    `taken_at` or `taken_by`."""
    parts = tokens(column.name)
    if len(parts) < 2 or not is_time(column) or not says_until(column):
        return False
    taken = squashed(f"{parts[-2]} at"), squashed(f"{parts[-2]} by")
    roles = ("locked_at", "started", "lock")
    return any(form in column_names(role) for form in taken for role in roles)


def asked_to_stop(columns: Iterable[Column]) -> list[str]:
    """The flags and times beside the status that say that the user asked to stop the task:
    cancel_requested, stop_requested_at, kill_flag."""
    return [column.name for column in columns if _asks_to_stop(column)]


def _asks_to_stop(column: Column) -> bool:
    parts = tokens(column.name)
    stops = any(is_among(part, "stops") for part in parts)
    if not stops or column.generated:
        return False
    asked = any(is_among(part, "asked_by") for part in parts)
    if column.type == "bool" or column.type in {"int2", "int4"}:
        bare = all(is_among(part, "stops") or is_among(part, "flag_parts") for part in parts)
        return asked or bare
    return asked and is_time(column)


def says_why(column: Column) -> bool:
    """Whether its name says that it takes the reason of a failure."""
    parts = tokens(column.name)
    if not takes_notes(column) or any(is_among(part, "not_errors") for part in parts):
        return False
    return any(is_among(part, "error_parts") for part in parts)


def may_say_why(column: Column) -> bool:
    """exit_message, returnInfo, status_note: said of any end, failures included."""
    parts = tokens(column.name)
    return (
        len(parts) > 1
        and takes_notes(column)
        and is_among(parts[-1], "note_parts")
        and any(is_among(part, "ends_parts") for part in parts[:-1])
    )


def exact(columns: Iterable[Column], role: str, fits: Fits) -> list[str]:
    return named(columns, role, fits).sure


def first(columns: Iterable[Column], role: str, fits: Fits) -> str | None:
    return next(iter(exact(columns, role, fits)), None)


def worded(columns: Iterable[Column], role: str, fits: Fits) -> str | None:
    """The column whose name is one of the role but for words of its form: inputJson, triesSoFar.
    None where there is none, or more than one."""
    names = [
        column.name
        for column in columns
        if fits(column) and _without_form(column.name) in column_names(role)
    ]
    return names[0] if len(names) == 1 else None


def limits_tries(column: Column) -> bool:
    """Whether its name says that it is the most tries that there may be: triesAllowed."""
    parts = tokens(column.name)
    rest = [part for part in parts if not is_among(part, "limits")]
    of_tries = _without_form(" ".join(rest)) in column_names("attempts")
    return is_count(column) and len(rest) < len(parts) and of_tries


def _without_form(name: str) -> str:
    return "".join(part for part in tokens(name) if not is_among(part, "forms"))


def ends_like(name: str, names: dict[str, int]) -> bool:
    """Two words at least: `email_error_count` ends like nothing, `export_started_at` like
    started_at."""
    parts = tokens(name)
    return any(squashed(" ".join(parts[at:])) in names for at in range(1, len(parts) - 1))


@dataclass(frozen=True)
class Timeout:
    """A column that says how long its row may run, in units of `unit` seconds."""

    name: str
    unit: float


@dataclass(frozen=True)
class Timeouts:
    """The lengths of time that rows state for themselves: of their run, of the silence of their
    worker; and the columns of which nobody can know the unit, or what they limit."""

    runs: tuple[Timeout, ...]
    silences: tuple[Timeout, ...]
    without_unit: tuple[str, ...]
    of_something_else: tuple[str, ...]


def timeouts(columns: Iterable[Column]) -> Timeouts:
    """What a time-out limits is told by the words before it: a run (run_timeout, or none), the
    silence of its worker (heartbeat_timeout), or anything else (lease_timeout), which is not
    used."""
    runs, silences, without_unit, others = [], [], [], []
    units = {
        squashed(name): float(unit)
        for unit, names in vocabulary()["timeouts"].items()
        for name in names
    }
    for column in columns:
        parts = tokens(column.name)
        endings = [squashed(" ".join(parts[at:])) for at in range(len(parts))]
        at = next((at for at, ending in enumerate(endings) if ending in units), None)
        if at is None or column.generated or column.type not in NUMBERS | {"interval"}:
            continue
        unit = 1 if column.type == "interval" else units[endings[at]]
        limited = _limited(parts[:at])
        if limited == "another":
            others.append(column.name)
        elif not unit:
            without_unit.append(column.name)
        elif limited == "silence":
            silences.append(Timeout(column.name, unit))
        else:
            runs.append(Timeout(column.name, unit))
    return Timeouts(tuple(runs), tuple(silences), tuple(without_unit), tuple(others))


def _limited(words_before: tuple[str, ...]) -> str:
    """`started_to_completed` limits a run, `created_to_started` a wait."""
    if "to" in words_before:
        begin = words_before[: words_before.index("to")]
        words_before = (
            begin if begin and begin[-1].startswith(("start", "run", "begin")) else ("to",)
        )
    if any(is_among(part, "silences") for part in words_before):
        return "silence"
    if all(is_among(part, "runs") for part in words_before):
        return "run"
    return "another"


def points(names: Iterable[str], section: str) -> tuple[int, list[str]]:
    """How much the columns tell of people, or of workers, and which of them do."""
    weights = {
        squashed(name): int(weight)
        for weight, names_of_weight in vocabulary()[section].items()
        for name in names_of_weight
    }
    telling = [name for name in names if squashed(name) in weights]
    return sum(weights[squashed(name)] for name in telling), telling


def makes_something(names: Iterable[str]) -> bool:
    """Whether rows lead to a file or to a job of somebody else: audio_url, storage_path,
    kling_task_id."""
    jobs = {"task", "job", "request", "prediction", "generation"}
    for name in names:
        *before, last = tokens(name) or ("",)
        if last in {"url", "path"} or (last == "id" and before and before[-1] in jobs):
            return True
    return False


def bears(title: str, section: str) -> bool:
    """Whether a table's name has one of the nouns of a section: `prod_render_jobs`."""
    nouns = {squashed(name) for name in vocabulary()[section]}
    return any(part in nouns for part in tokens(title)) or bool(
        re.sub(r"\d", "", squashed(title)) in nouns
    )
