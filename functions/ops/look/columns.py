"""Which column tells what, by name and type. Pure. A name of the vocabulary is taken as it is; one
that only ends like it (`generation_started_at`) is a guess, and said."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from functions.install.column_sql import JSONS, NUMBERS, TEXT_LISTS, TEXTS, TIMES, WHOLE, Column
from functions.ops.look.vocabulary import column_names, squashed, tokens, vocabulary

Fits = Callable[[Column], bool]


def is_time(one: Column) -> bool:
    """Times, and numbers that may be epochs by their names: `process_time real` is a length. A
    generated column tells no more than what it is made of."""
    epoch = one.type == "int8" or (
        one.type in NUMBERS and re.search(r"(at|on|ts|stamp|created|updated)$", squashed(one.name))
    )
    return (one.type in TIMES or bool(epoch)) and not one.generated


def is_text(one: Column) -> bool:
    return one.type in TEXTS and not one.labels


def takes_notes(one: Column) -> bool:
    return (is_text(one) or one.type in JSONS or one.type in TEXT_LISTS) and not one.generated


def is_count(one: Column) -> bool:
    return one.type in WHOLE and not one.generated


def is_name(one: Column) -> bool:
    """May hold a kind: a text, or an enum."""
    return is_text(one) or bool(one.labels)


def is_holder(one: Column) -> bool:
    return one.type in TEXTS | WHOLE | TIMES | {"uuid", "bool"} and not one.generated


def is_list(one: Column) -> bool:
    return one.type in JSONS | TEXT_LISTS and not one.generated


def is_plain(one: Column) -> bool:
    return one.type not in JSONS


def is_flag_or_time(one: Column) -> bool:
    return one.type in TIMES or one.type == "bool"


@dataclass(frozen=True)
class Named:
    name: str
    sure: bool


def named(
    columns: Iterable[Column], role: str, fits: Fits, without: Iterable[str] = ()
) -> list[Named]:
    """The columns that bear a name of the role, the usual names first, then those that only end
    like one."""
    known = column_names(role)
    taken = set(without)
    free = [one for one in columns if fits(one) and one.name not in taken]
    exact = sorted(
        (one for one in free if squashed(one.name) in known),
        key=lambda one: known[squashed(one.name)],
    )
    endings = [one for one in free if one not in exact and ends_like(one.name, known)]
    return [Named(one.name, True) for one in exact] + [Named(one.name, False) for one in endings]


def ends_like(name: str, known: dict[str, int]) -> bool:
    """Two words at least: `email_error_count` ends like nothing, `export_started_at` like
    started_at."""
    parts = tokens(name)
    return any(squashed(" ".join(parts[at:])) in known for at in range(1, len(parts) - 1))


def exact(columns: Iterable[Column], role: str, fits: Fits) -> list[str]:
    return [one.name for one in named(columns, role, fits) if one.sure]


@dataclass(frozen=True)
class Timeout:
    """A column that says how long its row may run, in units of `unit` seconds."""

    name: str
    unit: float


def timeouts(columns: Iterable[Column]) -> tuple[list[Timeout], list[str]]:
    """The time-outs that rows state for themselves, and the columns whose unit nobody can know."""
    found, unknown = [], []
    units = {
        squashed(name): float(unit)
        for unit, names in vocabulary()["timeouts"].items()
        for name in names
    }
    for one in columns:
        parts = tokens(one.name)
        endings = [squashed(" ".join(parts[at:])) for at in range(len(parts))]
        unit = next((units[ending] for ending in endings if ending in units), None)
        if unit is None or one.generated:
            continue
        if one.type == "interval":
            found.append(Timeout(one.name, 1))
        elif unit and one.type in NUMBERS:
            found.append(Timeout(one.name, unit))
        elif one.type in NUMBERS:
            unknown.append(one.name)
    return found, unknown


def points(names: Iterable[str], section: str) -> tuple[int, list[str]]:
    """How much the columns tell of people, or of workers, and which of them do."""
    weight = {
        squashed(name): int(points)
        for points, listed in vocabulary()[section].items()
        for name in listed
    }
    found = [name for name in names if squashed(name) in weight]
    return sum(weight[squashed(name)] for name in found), found


def makes_something(names: Iterable[str]) -> bool:
    """Whether rows lead to a file or to a job of somebody else: audio_url, storage_path,
    kling_task_id."""
    endings = {
        ("url",),
        ("path",),
        ("task", "id"),
        ("job", "id"),
        ("request", "id"),
        ("prediction", "id"),
        ("generation", "id"),
    }
    return any(tokens(name)[-1:] in endings or tokens(name)[-2:] in endings for name in names)


def bears(title: str, section: str) -> bool:
    """Whether a table's name has one of the nouns of a section: `prod_render_jobs`."""
    nouns = {squashed(name) for name in vocabulary()[section]}
    return any(part in nouns for part in tokens(title)) or bool(
        re.sub(r"\d", "", squashed(title)) in nouns
    )
