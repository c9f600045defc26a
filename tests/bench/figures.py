"""What a benchmark hands back: figures, each with its aim, and how ways are timed against each
other."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One measured value. `aim` is such as "< 2.5", or "" where there is nothing to reach."""

    what: str
    value: float
    unit: str = "x"
    aim: str = ""

    @property
    def met(self) -> bool | None:
        if not self.aim:
            return None
        sign, bound = self.aim.split()
        return {
            "<": self.value < float(bound),
            "<=": self.value <= float(bound),
            ">": self.value > float(bound),
            ">=": self.value >= float(bound),
        }[sign]

    def row(self) -> tuple[str, str, str, str]:
        digits = 0 if abs(self.value) >= 1000 else 2 if abs(self.value) < 100 else 1
        return (
            self.what,
            f"{self.value:,.{digits}f} {self.unit}",
            self.aim,
            {None: "", True: "yes", False: "NO"}[self.met],
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "value": round(self.value, 4),
            "unit": self.unit,
            "aim": self.aim,
            "met": self.met,
        }


def table(figures: list[Figure]) -> str:
    rows = [("", "measured", "aim", "met"), *(figure.row() for figure in figures)]
    wide = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"  {a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}  {d}".rstrip() for a, b, c, d in rows
    )


def in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs each way once in each round: a neighbour's load then hits all of them alike. A way
    returns its own figure."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        names = list(ways) if turn % 2 == 0 else list(reversed(ways))
        for name in names:
            found[name].append(ways[name]())
    return found


def ratio(over: list[float], under: list[float]) -> float:
    """The median of the ratios of the rounds: each pair was measured in the same moment."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def middle(values: list[float], times: float = 1.0) -> float:
    return statistics.median(values) * times


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the seconds that it took."""
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun
