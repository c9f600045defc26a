"""The two charts of the last day, as numbers for their drawing: x and y in a box of WIDTH by
HEIGHT, whose y grows downwards."""

import datetime
from collections.abc import Sequence
from typing import Any

from functions.store.page_answers import HalfHour, LastDay, Rescues

WIDTH, HEIGHT = 480.0, 72.0
GAP = 2.0
"""Between two bars."""
TOP_SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
TOP_SECONDS = (30, 60, 120, 300, 900, 3600, 86400)
"""What the top of a chart may stand for: the smallest that all values fit under."""


def failures(day: LastDay) -> dict[str, Any]:
    """Of the attempts that ended in each half hour, the share that failed (their task ended), and
    above it the share that was tried again."""
    shares = [_shares(half_hour) for half_hour in day.ended]
    top = _top([failed + again for failed, again, _ in shares], TOP_SHARES)
    step = WIDTH / len(day.ended)
    bars = []
    for n, (failed, again, count) in enumerate(shares):
        more = "+" if day.ended[n].more else ""
        bars.append(
            {
                "x": n * step,
                "width": step - GAP,
                "failed": HEIGHT * failed / top,
                "again": HEIGHT * again / top,
                "title": f"{_clock(day, n)}: {failed:.1%} failed, {again:.1%} tried again, "
                f"of {count}{more}",
                "empty": not count,
            }
        )
    failed_count = sum(half_hour.failed for half_hour in day.ended)
    ended_count = failed_count + sum(half_hour.completed for half_hour in day.ended)
    return {
        "bars": bars,
        "top": f"{top:.0%}",
        "rate": failed_count / ended_count if ended_count else None,
        "sampled": any(half_hour.more for half_hour in day.ended),
    }


def figures(day: LastDay) -> dict[str, Any]:
    """The day in numbers: attempts that ended (estimated where half hours are samples), the share
    of completed ones among the tasks that ended, and the waits for a worker."""
    completed = sum(half_hour.completed for half_hour in day.ended)
    failed = sum(half_hour.failed for half_hour in day.ended)
    return {
        "ended": sum(half_hour.about for half_hour in day.ended),
        "sampled": any(half_hour.more for half_hour in day.ended),
        "success": completed / (completed + failed) if completed + failed else None,
        "waits": day.waits,
    }


def rescues(day: LastDay) -> dict[str, Any]:
    """How long it took from the last sign of life to the rescue: the median and the longest of each
    half hour."""
    top = _top([rescued.max for rescued in day.rescued], TOP_SECONDS)
    step = WIDTH / len(day.ended)
    marks = [
        {
            "x": (rescued.n + 0.5) * step,
            "max": HEIGHT - HEIGHT * min(1.0, rescued.max / top),
            "p50": HEIGHT - HEIGHT * min(1.0, rescued.p50 / top),
            "title": f"{_clock(day, rescued.n)}: {rescued.count} rescued, "
            f"half of them within {rescued.p50:.1f} s, all within {rescued.max:.1f} s",
        }
        for rescued in day.rescued
        if 0 <= rescued.n < len(day.ended)
    ]
    return {
        "marks": marks,
        "top": top,
        "count": sum(rescued.count for rescued in day.rescued),
        "p50": _median(day.rescued),
    }


def _shares(half_hour: HalfHour) -> tuple[float, float, int]:
    """The share that failed, the share that was tried again, and the count of all."""
    count = half_hour.completed + half_hour.failed + half_hour.retried
    if not count:
        return 0.0, 0.0, 0
    return half_hour.failed / count, half_hour.retried / count, count


def _top(values: Sequence[float], tops: Sequence[float]) -> float:
    largest = max(values, default=0.0)
    return next((top for top in tops if largest <= top), largest)


def _median(rescued: Sequence[Rescues]) -> float | None:
    """The median of the half hours' medians, each counted as often as it has rescues."""
    ordered = sorted((half_hour.p50, half_hour.count) for half_hour in rescued)
    half = sum(count for _, count in ordered) / 2
    passed = 0
    for p50, count in ordered:
        passed += count
        if passed >= half:
            return p50
    return None


def _clock(day: LastDay, n: int) -> str:
    """When the half hour `n` began."""
    begin = datetime.datetime.fromtimestamp(day.begin + n * day.step, datetime.UTC)
    return begin.strftime("%H:%M UTC")
