"""The shipped SQL with one fault each. A fault is told when any of the schedules that concern it
breaks an invariant; one that lives is either of equal meaning, which `equal` says, or a hole in the
promises.

A mutant names its template in functions/sql, a short text of it, and what stands there instead.
Where the text is not found, or the place is not the only one, the run ends: the SQL has changed,
and the mutant must follow."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg
import yaml

from functions.core.sqlstates import sqlstates_of_weather
from functions.install.column_sql import literal
from functions.install.names import fill_in, names
from functions.install.render import SHARED, template
from tests.interleave.casts import Cast, casts
from tests.interleave.explore import sample, stage
from tests.interleave.stage import SceneError, Stage
from tests.interleave.world import policy, set_clock_of_triggers

FILE = Path(__file__).with_name("mutants.yaml")
SLICE_SCHEDULES = 1500
"""A mutant that so many schedules have not told has lived."""
SCHEDULES_OF_A_CAST = 4
SEED = 18


@dataclass(frozen=True)
class Mutant:
    file: str
    old: str
    new: str
    verbs: tuple[str, ...]
    """Schedules in which one of these occurs concern it."""

    scenes: tuple[str, ...] = ()
    """Only these; none: all."""

    place: int = 0
    """Which of the places with this text, where there are several: 1, 2 ..."""

    equal: str = ""
    """Why no schedule can tell it."""

    def __str__(self) -> str:
        texts = [" ".join(text.split()) for text in (self.old, self.new)]
        return f"{self.file}.sql: {texts[0]!r} -> {texts[1]!r}"


def mutants() -> list[Mutant]:
    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    lists = ("verbs", "scenes")
    return [
        Mutant(**entry | {name: tuple(entry.get(name, ())) for name in lists}) for entry in entries
    ]


@dataclass
class Verdict:
    mutant: Mutant
    schedules: int = 0
    seconds: float = 0.0
    violation: str = ""
    """The first; empty: the mutant lived."""


def changed(mutant: Mutant) -> str:
    """The template with its fault. Raises LookupError where the text is not there, or where it is
    there more often than the mutant says."""
    text = template(mutant.file)
    count = text.count(mutant.old)
    if count == 0 or (count > 1 and not mutant.place) or mutant.place > count:
        raise LookupError(f"{count} places for {mutant}")
    at = -1
    for _ in range(max(mutant.place, 1)):
        at = text.index(mutant.old, at + 1)
    return text[:at] + mutant.new + text[at + len(mutant.old) :]


def apply(connection: psycopg.Connection[tuple[object, ...]], file: str, text: str) -> None:
    """Puts a template, as it is given, into the database."""
    if file in SHARED:
        filled = {"passing_sqlstates": ", ".join(map(literal, sqlstates_of_weather()))}
        connection.execute(fill_in(text, filled).encode())
    else:
        for name, watch in policy().watches.items():
            if file != "optional/credits" or name == "tasks":
                connection.execute(fill_in(text, names(watch)).encode())
    if file == "fence":
        set_clock_of_triggers(connection)


def concerned(mutant: Mutant) -> list[Cast]:
    """The casts without deaths in which one of its verbs occurs, in an order that is drawn, but
    always the same."""
    chosen = [
        cast
        for cast in casts()
        if (not mutant.scenes or cast.scene in mutant.scenes)
        and cast.verbs & set(mutant.verbs)
        and all(actor.crash is None for actor in cast.actors)
    ]
    Random(SEED).shuffle(chosen)
    return chosen


@contextmanager
def install_fault(stage: Stage, mutant: Mutant) -> Iterator[None]:
    """The database has the fault while the block runs."""
    with psycopg.connect(stage.dsn, autocommit=True) as connection:
        apply(connection, mutant.file, changed(mutant))
        try:
            yield
        finally:
            apply(connection, mutant.file, template(mutant.file))
            stage.clean()


def judge(stage: Stage, mutant: Mutant) -> Verdict:
    """Plays a few orders of each cast that concerns it, then more of each."""
    verdict, began, draw = Verdict(mutant), time.monotonic(), Random(SEED)
    chosen = concerned(mutant)
    with install_fault(stage, mutant):
        while verdict.schedules < SLICE_SCHEDULES and not verdict.violation:
            for cast in chosen:
                try:
                    tally = sample(stage, cast, SCHEDULES_OF_A_CAST, draw)
                except SceneError as error:
                    verdict.violation = f"error: {error}"
                    break
                verdict.schedules += tally.schedules
                verdict.seconds = time.monotonic() - began
                if tally.violations:
                    verdict.violation = tally.examples[0].splitlines()[-1].strip()
                    break
    return verdict


def judge_here(mutant: Mutant) -> Verdict:
    return judge(stage(), mutant)
