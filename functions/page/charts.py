"""The two charts of the last day, as numbers for their drawing: x and y in a box of WIDTH by
HEIGHT."""

import datetime
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 480.0, 72.0


def failures(day: dict[str, Any]) -> dict[str, Any]:
    """Of the attempts in each half hour, the share that failed (ended the task), and that was tried
    again above it."""
    step = WIDTH / len(day["ended"])
    shares = [_share(one) for one in day["ended"]]
    top = _top(
        max((failed + again for failed, again, _ in shares), default=0.0),
        (0.05, 0.1, 0.25, 0.5, 1.0),
    )
    bars = []
    for n, (failed, again, count) in enumerate(shares):
        low, high = HEIGHT * failed / top, HEIGHT * again / top
        more = "+" if day["ended"][n]["more"] else ""
        title = f"{_clock(day, n)}: {failed:.1%} failed, {again:.1%} tried again, of {count}{more}"
        bars.append(
            {
                "x": n * step,
                "width": step - 2,
                "failed": low,
                "again": high,
                "title": title,
                "empty": not count,
            }
        )
    ended = sum(one["completed"] + one["failed"] for one in day["ended"])
    rate = sum(one["failed"] for one in day["ended"]) / ended if ended else None
    return {
        "bars": bars,
        "top": f"{top:.0%}",
        "rate": rate,
        "sampled": any(one["more"] for one in day["ended"]),
    }


def rescues(day: dict[str, Any]) -> dict[str, Any]:
    """How long it took from the last sign of life to the rescue: the median and the longest of each
    half hour."""
    step = WIDTH / len(day["ended"])
    top = _top(
        max((one["max"] for one in day["rescued"]), default=0.0),
        (30, 60, 120, 300, 900, 3600, 86400),
    )
    marks = [
        {
            "x": (one["n"] + 0.5) * step,
            "max": HEIGHT - HEIGHT * min(1.0, one["max"] / top),
            "p50": HEIGHT - HEIGHT * min(1.0, one["p50"] / top),
            "title": f"{_clock(day, one['n'])}: {one['count']} rescued, half of them within {one['p50']:.1f} s, "
            f"all within {one['max']:.1f} s",
        }
        for one in day["rescued"]
        if 0 <= one["n"] < len(day["ended"])
    ]
    return {
        "marks": marks,
        "top": top,
        "count": sum(one["count"] for one in day["rescued"]),
        "p50": _median(day["rescued"]),
    }


def _share(one: dict[str, Any]) -> tuple[float, float, int]:
    count = one["completed"] + one["failed"] + one["retried"]
    return (one["failed"] / count, one["retried"] / count, count) if count else (0.0, 0.0, 0)


def _top(most: float, steps: Sequence[float]) -> float:
    return next((step for step in steps if most <= step), max(most, steps[-1]))


def _median(rescued: list[dict[str, Any]]) -> float | None:
    """Of the medians, each as often as it stands for."""
    ordered = sorted((one["p50"], one["count"]) for one in rescued)
    half, seen = sum(count for _, count in ordered) / 2, 0
    for value, count in ordered:
        seen += count
        if seen >= half:
            return float(value)
    return None


def _clock(day: dict[str, Any], n: int) -> str:
    return datetime.datetime.fromtimestamp(day["begin"] + n * day["step"], datetime.UTC).strftime(
        "%H:%M UTC"
    )
