"""A task's attempts, drawn to scale: where each part of each attempt lies, in percent of the whole
time."""

from dataclasses import dataclass, field
from typing import Any

from functions.core.explain import span

LOST = frozenset({"lease_lost", "stale"})
"""Causes whose attempt was silent from its last sign of life to its end."""
MARKS = 150
"""More beats than that are not drawn one by one."""
STEPS = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    43200,
    86400,
    172800,
    604800,
)


@dataclass
class Row:
    """One attempt. `parts` are (what, x, width, title); `beats` and `checkpoints` are places."""

    attempt: dict[str, Any]
    parts: list[tuple[str, float, float, str]] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    checkpoints: list[tuple[float, str]] = field(default_factory=list)
    end: float | None = None
    took: float = 0.0


@dataclass
class Drawing:
    rows: list[Row]
    ticks: list[tuple[float, str]]
    refusals: list[tuple[float, str]]
    lasted: float


def draw(found: dict[str, Any], *, is_open: bool) -> Drawing:
    """`found` is the answer of `Store.timeline`. An open task is drawn until now, an ended one
    until its end."""
    attempts = found["attempts"]
    begin = _begin(found)
    ends = [one["ended"] for one in attempts if one["ended"]] + [
        one["at"] for one in found["refusals"]
    ]
    until = found["now"] if is_open or not ends else max(ends)
    scale = max(until - begin, 0.001)

    def x(moment: float) -> float:
        return round(100 * min(1.0, max(0.0, (moment - begin) / scale)), 3)

    rows, waiting = [], begin
    for one in attempts:
        rows.append(_row(one, waiting, found["now"], x))
        waiting = one["ended"] or found["now"]
    if is_open and attempts and attempts[-1]["ended"]:
        rows.append(
            Row({}, _wait(attempts[-1]["retry_at"] or found["due"], waiting, found["now"], x))
        )
    elif is_open and not attempts:
        rows.append(Row({}, _wait(found["due"], begin, found["now"], x)))
    refusals = [(x(one["at"]), _refused(one)) for one in found["refusals"]]
    return Drawing(rows, _ticks(scale), refusals, scale)


def _begin(found: dict[str, Any]) -> float:
    """When the task was created, unless that is unknown or was long before its first attempt that
    is known."""
    starts = [one["started"] for one in found["attempts"]]
    created = found["created"]
    if not starts:
        return float(created or found["now"])
    return (
        float(created)
        if created and created <= starts[0] and found["attempts"][0]["number"] == 1
        else float(starts[0])
    )


def _row(one: dict[str, Any], waiting: float, now: float, x: Any) -> Row:
    end = one["ended"] or now
    row = Row(
        one,
        _wait(None, waiting, one["started"], x) if one["started"] > waiting else [],
        took=end - one["started"],
    )
    alive = _alive_until(one, now)
    if alive > one["started"] or end > one["started"]:
        row.parts.append(_part("run", one["started"], alive, x, "at work"))
    if end > alive:
        row.parts.append(_part("gap", alive, end, x, "silent"))
    row.beats = _beats(one, x)
    row.checkpoints = [
        (x(at), f"checkpoint {name}") for name, at in sorted((one["checkpoints"] or {}).items())
    ]
    row.end = x(one["ended"]) if one["ended"] else None
    return row


def _alive_until(one: dict[str, Any], now: float) -> float:
    """The last sign of life of an attempt that went silent; the end of any other."""
    if one["ended"] is None:
        late = now > one["lease_until"] or now > one["deadline"]
        return float(one["beat"] if late and now > one["lease_until"] else now)
    lost = (one["cause"] or one["reason"]) in LOST and one["sweep_id"] is not None
    return float(one["beat"] if lost else one["ended"])


def _beats(one: dict[str, Any], x: Any) -> list[float]:
    """Evenly between the claim and the last beat: the ledger counts them and knows the time of the
    last."""
    count = one["beats"]
    if not 0 < count <= MARKS:
        return []
    each = (one["beat"] - one["started"]) / count
    return [x(one["started"] + each * n) for n in range(1, count + 1)]


def _wait(
    due: float | None, begin: float, end: float, x: Any
) -> list[tuple[str, float, float, str]]:
    if due and begin < due < end:
        return [
            _part("pause", begin, due, x, "waits for its next try"),
            _part("queue", due, end, x, "waits for a worker"),
        ]
    what, title = (
        ("pause", "waits for its time") if due and due >= end else ("queue", "waits for a worker")
    )
    return [_part(what, begin, end, x, title)]


def _part(what: str, begin: float, end: float, x: Any, title: str) -> tuple[str, float, float, str]:
    return (
        what,
        x(begin),
        round(x(end) - x(begin), 3),
        f"{title} for {span(end - begin) if end - begin >= 1 else f'{end - begin:.2f}s'}",
    )


def _refused(one: dict[str, Any]) -> str:
    who = f" by {one['writer']}" if one["writer"] else ""
    return f"{'late ' if one['source'] == 'verb' else ''}{one['wanted']}{who} was refused: {one['because']}"


def _ticks(scale: float) -> list[tuple[float, str]]:
    step = next((one for one in STEPS if scale / one <= 6), scale / 6)
    return [
        (round(100 * n * step / scale, 3), span(n * step)) for n in range(int(scale // step) + 1)
    ]
