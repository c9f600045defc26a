"""A sample to replace: draws a panel of people at random so that quotas on several categories hold
at once.

From: input {"csv": text with a header and a column "id", "size": int, "seed": optional int,
"quotas": {category: {value: [min, max]}}}. Each category is a column of the CSV; each value in it
needs a quota. To: {"selected": [id, ...] as in the CSV, "counts": {category: {value: int}},
"tries": int, "seed": int}.

How: a try fills the panel seat by seat with a random person of the most urgent value (the one that
needs the largest share of those who are left), then swaps people until no quota is broken. A try
that gets stuck is thrown away and the next one starts anew.

What it is not: a uniform draw among all panels that fit, nor one with equal chances for everybody.
People with rare values are drawn more often, and nobody has computed how much more. Where chances
must be stated, or be as equal as the quotas allow, use leximin (Flanigan et al., "Fair algorithms
for selecting citizens' assemblies", Nature 2021).

A draw cannot be repeated until somebody likes it: the seed is in the checkpoint "seed" before the
first try, so a later attempt draws the same panel. The same input and seed give the same panel on
every machine.

| what happened                                  | verdict                                   |
|------------------------------------------------|-------------------------------------------|
| bad input, or a count shows that no panel fits | Fail, and says which category and numbers |
| no panel is found in TRIES tries               | Fail: a retry would make the same tries   |
| the time is used up, or the work is cancelled  | Retry: "tries" says where to go on        |
"""

import csv
import io
import itertools
import random
import secrets
from collections import Counter
from typing import Any, NamedTuple

from functions.context import Context
from functions.errors import Fail, Retry

TRIES = 100
SWAPS = 300  # for each try
SAMPLE = 24  # people on each side among whom a swap looks for the best pair
NOISE = 0.1  # how often a swap that makes things worse is made all the same, to leave a dead end
MARGIN_SECONDS = 1.0  # kept back, to say Retry before the deadline kills this process

Cell = tuple[str, str]  # a category and one of its values
Quotas = dict[Cell, tuple[int, int]]


class Person(NamedTuple):
    """A row of the CSV: its id, and its value in each category, in the order of the quotas."""

    id: str
    cells: tuple[Cell, ...]


def handle(ctx: Context, task_input: dict[str, Any]) -> dict[str, Any]:
    """Returns what the module's head says under "To". Raises Fail and Retry as its table says."""
    size, quotas = _size(task_input), read_quotas(task_input.get("quotas"))
    people = read_people(task_input.get("csv"), quotas)
    if why := impossible(people, quotas, size):
        raise Fail(why)
    seed = _seed(ctx, task_input.get("seed"))
    panel, tries = _search(ctx, _allowed(people, quotas), quotas, size, seed)
    chosen = {person.id for person in panel}
    selected = [person.id for person in people if person.id in chosen]
    return {"selected": selected, "counts": _counts(panel, quotas), "tries": tries, "seed": seed}


def read_quotas(quotas_input: Any) -> Quotas:
    """Returns {(category, value): (min, max)}. Raises Fail if they are not as the module's head
    says."""
    values_of: dict[str, Any] = quotas_input if isinstance(quotas_input, dict) else {"": None}
    if not all(values and isinstance(values, dict) for values in values_of.values()):
        raise Fail(
            'The quotas are missing. Give {"gender": {"female": [9, 11], ...}, ...}, '
            "or {} for none."
        )
    quotas: dict[Cell, Any] = {}
    for category, values in values_of.items():
        quotas |= {(category, value): bounds for value, bounds in values.items()}
    for (category, value), bounds in quotas.items():
        whole = isinstance(bounds, list | tuple) and [type(bound) for bound in bounds] == [int, int]
        if not whole or not 0 <= bounds[0] <= bounds[1]:
            raise Fail(
                f"The quota of {category} {value!r} is {bounds!r}, not [min, max] in whole numbers."
            )
    return {cell: (bounds[0], bounds[1]) for cell, bounds in quotas.items()}


def read_people(text: Any, quotas: Quotas) -> list[Person]:
    """Returns the people of the CSV `text`. Raises Fail for a bad column, line, id or value."""
    if not isinstance(text, str) or not text.strip():
        raise Fail("The list of people is empty. Give it as the text of a CSV file in csv.")
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        rows = [(reader.line_num, _stripped(row)) for row in reader if any(row)]
    except csv.Error as exc:
        raise Fail(f"Line {reader.line_num} of the list cannot be read as CSV: {exc}.") from None
    (_, header), *lines = rows or [(1, [])]
    categories = _categories(quotas)
    for column in ("id", *categories):
        count = header.count(column)
        if count != 1:
            raise Fail(
                f"The list has {count} columns {column!r}, not 1. It has: {', '.join(header)}."
            )
    people = [_person(number, row, header, categories) for number, row in lines]
    _check_people(people, [number for number, _ in lines], quotas)
    return people


def _stripped(row: list[str]) -> list[str]:
    return [field.strip() for field in row]


def _person(number: int, row: list[str], header: list[str], categories: list[str]) -> Person:
    if len(row) != len(header):
        raise Fail(
            f"Line {number} of the list has {len(row)} fields; the header has {len(header)}."
        )
    named = dict(zip(header, row, strict=True))
    return Person(named["id"], tuple((category, named[category]) for category in categories))


def _check_people(people: list[Person], numbers: list[int], quotas: Quotas) -> None:
    seen: dict[str, int] = {}
    for person, number in zip(people, numbers, strict=True):
        if not person.id:
            raise Fail(f"Line {number} of the list has no id.")
        if person.id in seen:
            raise Fail(
                f"The id {person.id!r} is in the lines {seen[person.id]} and {number} of the list."
            )
        seen[person.id] = number
        for category, value in person.cells:
            if (category, value) not in quotas:
                raise Fail(
                    f"Line {number}: {category} {value!r} has no quota. "
                    "Add one; [0, 0] keeps it out."
                )


def impossible(people: list[Person], quotas: Quotas, size: int) -> str:
    """Returns why no panel can fit, or "" if counting each category alone does not tell."""
    pool = _allowed(people, quotas)
    has = f"the list has {{}} ({len(people) - len(pool)} people are kept out by a quota of 0)"
    if len(pool) == len(people):
        has = "the list has {}"
    if len(pool) < size:
        return f"The panel needs {size} people, but {has.format(len(pool))}."
    there = Counter(cell for person in pool for cell in person.cells)
    for (category, value), (least, _) in quotas.items():
        if there[category, value] < least:
            supply = has.format(there[category, value])
            return f"The quota of {category} {value!r} needs at least {least}, but {supply}."
    for category in _categories(quotas):
        cells = [cell for cell in quotas if cell[0] == category]
        least = sum(quotas[cell][0] for cell in cells)
        most = sum(min(quotas[cell][1], there[cell]) for cell in cells)
        if least > size:
            return f"The minimums of {category} add up to {least}, but the panel has {size} seats."
        if most < size:
            return (
                f"The quotas of {category} and the people there are fill {most} seats at most, "
                f"of {size}."
            )
    return ""


def _categories(quotas: Quotas) -> list[str]:
    return list(dict.fromkeys(category for category, _ in quotas))


def _allowed(people: list[Person], quotas: Quotas) -> list[Person]:
    barred = {cell for cell, (_, most) in quotas.items() if most == 0}
    return [person for person in people if barred.isdisjoint(person.cells)]


def _search(
    ctx: Context, pool: list[Person], quotas: Quotas, size: int, seed: int
) -> tuple[list[Person], int]:
    """Returns a panel and the number of the try that found it. Each try has its own random
    numbers."""
    earlier = ctx.done("tries")
    for tries in range(earlier["tries"] + 1 if earlier else 1, TRIES + 1):
        _go_on(ctx, tries - 1)
        ctx.progress((tries - 1) / TRIES, f"try {tries} of {TRIES} at most")
        draft = Draft(pool, quotas, random.Random(f"{seed}/{tries}"))
        if draft.fill(size).repair():
            return draft.inside, tries
    raise Fail(
        f"No panel that meets all quotas was found in {TRIES} tries. "
        "There may be none: widen some quotas.",
        detail=f"{len(pool)} people, {size} seats, seed {seed}",
    )


def _go_on(ctx: Context, tries: int) -> None:
    cancelled = ctx.cancelled()
    if cancelled or ctx.remaining() <= MARGIN_SECONDS:
        ctx.checkpoint("tries", {"tries": tries})
        message = "The time did not suffice to find a panel."
        if cancelled:
            message = "The work was interrupted."
        raise Retry(message, detail=f"{tries} of {TRIES} tries were made", after=0)


class Draft:
    """A panel in the making: who is inside, who is outside, and how many there are inside of each
    value."""

    def __init__(self, pool: list[Person], quotas: Quotas, rng: random.Random) -> None:
        self.quotas, self.rng = quotas, rng
        self.inside: list[Person] = []
        self.outside = list(pool)
        self.counts = Counter(dict.fromkeys(quotas, 0))

    def fill(self, size: int) -> "Draft":
        """Takes `size` people in. Quotas may be broken afterwards."""
        while len(self.inside) < size:
            self._take(self.rng.choice(self._candidates()))
        return self

    def repair(self) -> bool:
        """Swaps people until no quota is broken; False if SWAPS swaps did not do it."""
        for _ in range(SWAPS):
            broken = [cell for cell in self.quotas if self._cost(cell)]
            if not broken:
                return True
            self._swap(self.rng.choice(broken))
        return not any(self._cost(cell) for cell in self.quotas)

    def _candidates(self) -> list[Person]:
        full = {cell for cell, (_, most) in self.quotas.items() if self.counts[cell] >= most}
        welcome = [person for person in self.outside if full.isdisjoint(person.cells)]
        left = Counter(cell for person in welcome for cell in person.cells)
        needs = {cell: self.quotas[cell][0] - self.counts[cell] for cell in left}
        urgent = max(needs, key=lambda cell: needs[cell] / left[cell], default=None)
        if urgent is None or needs[urgent] <= 0:
            return welcome or self.outside
        return [person for person in welcome if urgent in person.cells]

    def _swap(self, broken: Cell) -> None:
        """Makes the best of some swaps that bring `broken` nearer to its quota."""
        few = self.counts[broken] < self.quotas[broken][0]
        leave = self._some([person for person in self.inside if (broken in person.cells) != few])
        enter = self._some([person for person in self.outside if (broken in person.cells) == few])
        less = {cell: self._cost(cell, -1) - self._cost(cell) for cell in self.quotas}
        more = {cell: self._cost(cell, +1) - self._cost(cell) for cell in self.quotas}

        def change(pair: tuple[Person, Person]) -> int:
            cells = zip(pair[0].cells, pair[1].cells, strict=True)
            return sum(less[old] + more[new] for old, new in cells if old != new)

        best = min(itertools.product(leave, enter), key=change, default=None)
        if best and (change(best) <= 0 or self.rng.random() < NOISE):
            self._leave(best[0])
            self._take(best[1])

    def _some(self, people: list[Person]) -> list[Person]:
        return self.rng.sample(people, min(SAMPLE, len(people)))

    def _cost(self, cell: Cell, change: int = 0) -> int:
        """By how many people the quota of `cell` would be broken if there were `change` more
        inside."""
        count, (least, most) = self.counts[cell] + change, self.quotas[cell]
        return max(0, least - count, count - most)

    def _take(self, person: Person) -> None:
        self.outside.remove(person)
        self.inside.append(person)
        self.counts.update(person.cells)

    def _leave(self, person: Person) -> None:
        self.inside.remove(person)
        self.outside.append(person)
        self.counts.subtract(person.cells)


def _size(task_input: dict[str, Any]) -> int:
    size = task_input.get("size")
    if type(size) is not int or size < 1:
        raise Fail(f"The size of the panel is {size!r}. It must be a whole number, 1 or more.")
    return size


def _seed(ctx: Context, seed: Any) -> int:
    if seed is not None and type(seed) is not int:
        raise Fail(f"The seed is {seed!r}. It must be a whole number, or left out.")
    if isinstance(seed, int):
        return seed
    kept = ctx.done("seed") or {"seed": secrets.randbits(53)}  # 53 bits survive any JSON
    ctx.checkpoint("seed", kept)
    return int(kept["seed"])


def _counts(panel: list[Person], quotas: Quotas) -> dict[str, dict[str, int]]:
    inside = Counter(cell for person in panel for cell in person.cells)
    counts: dict[str, dict[str, int]] = {}
    for category, value in quotas:
        counts.setdefault(category, {})[value] = inside[category, value]
    return counts
