"""Plays casts in every order, in several processes."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.interleave.casts import Cast
from tests.interleave.promises import violations
from tests.interleave.stage import Played, Stage

Work = TypeVar("Work")
Answer = TypeVar("Answer")
TIMED_OUT = "55P03"
MOST_EXAMPLES = 3
MOST_REPEATS = 5
"""A wait beyond lock_timeout counts when it comes each time: else the scheduler itself was slow."""


@dataclass
class Tally:
    """What came of one cast."""

    cast: str
    schedules: int = 0
    violations: int = 0
    repeated: int = 0
    """Schedules that were played again, because a lock was waited for too long while the machine
    was busy."""

    examples: list[str] = field(default_factory=list)


def orders(stage: Stage, cast: Cast) -> Iterator[Played]:
    """Every order of the cast's steps, each once: at each step every actor that can go on does so
    in one of them."""
    prefix: list[int] = []
    while True:
        played = stage.play(cast, prefix)
        yield played
        path = played.choices
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return
        prefix = [choice for choice, _ in path]
        prefix[-1] += 1


def play(stage: Stage, cast: Cast, *, until_violated: bool = False) -> Tally:
    """Every order of the cast."""
    return judge(stage, cast, orders(stage, cast), until_violated=until_violated)


def sample(stage: Stage, cast: Cast, count: int, draw: Random) -> Tally:
    """Some orders, drawn: those that differ most come early. Ends at the first violation."""
    schedules = (stage.play(cast, [], draw) for _ in range(count))
    return judge(stage, cast, schedules, until_violated=True)


def judge(stage: Stage, cast: Cast, schedules: Iterable[Played], *, until_violated: bool) -> Tally:
    tally = Tally(str(cast))
    for first in schedules:
        tally.schedules += 1
        played = _without_slowness(stage, cast, first, tally)
        broken = violations(played)
        if broken:
            tally.violations += 1
            stage.clean()
            if len(tally.examples) < MOST_EXAMPLES:
                tally.examples.append(f"{cast}\n    " + "\n    ".join(played.order + broken))
            if until_violated:
                return tally
    return tally


def _without_slowness(stage: Stage, cast: Cast, played: Played, tally: Tally) -> Played:
    """The schedule, played again where a lock was waited for too long."""
    for _ in range(MOST_REPEATS):
        if all(event.sqlstate != TIMED_OUT for event in played.log):
            break
        stage.clean()
        tally.repeated += 1
        played = stage.play(cast, [choice for choice, _ in played.choices])
    return played


def in_processes(
    dsns: list[str], task: Callable[[Work], Answer], work: Iterable[Work]
) -> Iterator[Answer]:
    """Each process has a stage of its own (`stage()`) and takes what is next."""
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for dsn in dsns:
        free.put(dsn)
    with context.Pool(len(dsns), _begin, (free,)) as pool:
        yield from pool.imap_unordered(task, work)


_STAGES: list[Stage] = []


def _begin(free: Any) -> None:
    _STAGES.append(Stage(free.get()))


def stage() -> Stage:
    """That of this process."""
    return _STAGES[0]


def play_here(cast: Cast) -> Tally:
    return play(stage(), cast)
