"""One table of the policy, where the address names it; else all of them at once: their numbers are
summed, and their rows stand in one list."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from functions.core.answers import OverdueCount
from functions.core.policy import Watch
from functions.errors import StoreError
from functions.page.current import named_watch, page, watch
from functions.store.page_answers import (
    HalfHour,
    LastDay,
    ListedTask,
    Rescues,
    Summary,
    SweptTask,
    Waits,
)

Answer = TypeVar("Answer")
Row = TypeVar("Row", ListedTask, SweptTask)


def all_at_once() -> bool:
    """Whether several tables are shown."""
    return not named_watch() and len(page().policy().watches) > 1


def shown() -> list[Watch]:
    return list(page().policy().watches.values()) if all_at_once() else [watch()]


def answers(
    ask: Callable[[Watch], Answer], watches: Iterable[Watch]
) -> dict[str, Answer | StoreError]:
    """By table. One that cannot be read does not hide the others."""
    by_name: dict[str, Answer | StoreError] = {}
    for asked in watches:
        try:
            by_name[asked.name] = ask(asked)
        except StoreError as error:
            by_name[asked.name] = error
    return by_name


def of_shown(by_name: dict[str, Answer | StoreError]) -> dict[str, Answer]:
    """The answers for the tables that are shown. Raises the StoreError where there is none."""
    mine = [(watch.name, by_name[watch.name]) for watch in shown()]
    read = {name: answer for name, answer in mine if not isinstance(answer, StoreError)}
    for _, answer in mine:
        if not read and isinstance(answer, StoreError):
            raise answer
    return read


def stuck(summaries: Iterable[Summary]) -> OverdueCount:
    counts = [summary.stuck for summary in summaries]
    ages = [count.oldest for count in counts if count.oldest is not None]
    return OverdueCount(
        sum(count.count for count in counts),
        max(ages, default=None),
        sum(count.unjudged for count in counts),
    )


def day(days: list[LastDay]) -> LastDay:
    """Their sum. Of medians the mean, each counted as often as it has tasks."""
    first = days[0]
    if len(days) == 1:
        return first
    all_rescued = [rescued for day in days for rescued in day.rescued]
    by_number: dict[int, list[Rescues]] = {}
    for rescued in sorted(all_rescued, key=lambda rescued: rescued.n):
        by_number.setdefault(rescued.n, []).append(rescued)
    rescues = [_rescues(n, same) for n, same in by_number.items()]
    half_hours = [day.ended for day in days]
    ended = [_half_hour(list(same)) for same in zip(*half_hours, strict=False)]
    return LastDay(first.begin, first.step, ended, rescues, _waits([day.waits for day in days]))


def _half_hour(same: list[HalfHour]) -> HalfHour:
    return HalfHour(
        completed=sum(part.completed for part in same),
        failed=sum(part.failed for part in same),
        retried=sum(part.retried for part in same),
        more=any(part.more for part in same),
        about=sum(part.about for part in same),
        kinds=[kind for part in same for kind in part.kinds or ()],
    )


def _rescues(n: int, same: list[Rescues]) -> Rescues:
    count = sum(part.count for part in same)
    p50 = sum(part.p50 * part.count for part in same) / count
    return Rescues(n, count, p50, max(part.max for part in same))


def _waits(waits: list[Waits]) -> Waits:
    counted = [part for part in waits if part.count]
    count = sum(part.count for part in counted)
    if not count:
        return Waits()
    p50 = sum((part.p50 or 0) * part.count for part in counted) / count
    return Waits(count, p50, max(part.p95 or 0 for part in counted))


def in_one_list(rows: list[tuple[str, ListedTask]]) -> list[tuple[str, ListedTask]]:
    """Stuck ones first, then running and pending, the oldest first; then those that have ended, the
    newest first."""

    def place(row: tuple[str, ListedTask]) -> tuple[int, float]:
        task = row[1]
        if task.late is not None:
            return 0, -task.late
        order = {"running": 1, "pending": 2}.get(task.state or "", 3)
        age = task.age or 0
        return order, age if order == 3 else -age

    return sorted(rows, key=place)
