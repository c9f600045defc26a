"""Which column has which role, by name and type. Pure. A name of the vocabulary is sure; one that
only ends like it (`generation_started_at`) is a guess, and a person is told."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from functions.install.column_sql import JSONS, NUMBERS, TEXT_LISTS, TEXTS, TIMES, WHOLE, Column
from functions.ops.inspect.vocabulary import column_names, squashed, tokens, vocabulary

Fits = Callable[[Column], bool]


def is_time(column: Column) -> bool:
    """Times, and numbers that may be epochs by their names: `process_time real` is a length. A
    generated column tells no more than what it is made of."""
    epoch = column.type == "int8" or (
        column.type in NUMBERS
        and re.search(r"(at|on|ts|stamp|created|updated)$", squashed(column.name))
    )
    return (column.type in TIMES or bool(epoch)) and not column.generated


def is_text(column: Column) -> bool:
    return column.type in TEXTS and not column.labels


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
    sure = sorted(
        (name for name in names if squashed(name) in ranks), key=lambda name: ranks[squashed(name)]
    )
    guesses = [name for name in names if name not in sure and ends_like(name, ranks)]
    return Named(sure, guesses)


def exact(columns: Iterable[Column], role: str, fits: Fits) -> list[str]:
    return named(columns, role, fits).sure


def first(columns: Iterable[Column], role: str, fits: Fits) -> str | None:
    return next(iter(exact(columns, role, fits)), None)


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


def timeouts(columns: Iterable[Column]) -> tuple[list[Timeout], list[str]]:
    """The time-outs that rows state for themselves, and the columns whose unit nobody can know."""
    with_unit, without_unit = [], []
    units = {
        squashed(name): float(unit)
        for unit, names in vocabulary()["timeouts"].items()
        for name in names
    }
    for column in columns:
        parts = tokens(column.name)
        endings = [squashed(" ".join(parts[at:])) for at in range(len(parts))]
        unit = next((units[ending] for ending in endings if ending in units), None)
        if unit is None or column.generated:
            continue
        if column.type == "interval":
            with_unit.append(Timeout(column.name, 1))
        elif unit and column.type in NUMBERS:
            with_unit.append(Timeout(column.name, unit))
        elif column.type in NUMBERS:
            without_unit.append(column.name)
    return with_unit, without_unit


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
