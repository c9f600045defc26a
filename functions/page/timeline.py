"""A task's attempts, drawn to scale: where each part of each attempt lies, in percent of the whole
time. A wait that is longer than all work is drawn short, so that the work can be seen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from functions.core.explain import span
from functions.store.page_answers import RefusedWrite, TimedAttempt, Timeline, Unguarded

SILENT_CAUSES = frozenset({"lease_lost", "stale"})
"""Causes whose attempt was silent from its last sign of life to its end."""
DRAWN_BEATS = 150
"""More heartbeats than that are not drawn."""
SHORTENED_SECONDS = 1.0
"""A shorter wait is to scale, however short the work was."""
TICKS = 6
TICK_PERCENT = 7.0
"""Between two ticks at least, so that their labels do not touch."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
TICK_SECONDS = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY),
)
"""Between two ticks of the scale: the shortest with which there are TICKS at most."""
Scale = Callable[[float], float]
"""Where a moment lies, in percent."""


class Part(NamedTuple):
    """A stretch of time. `kind` is run, gap (silent), pause (not due yet) or queue."""

    kind: str
    x: float
    width: float
    title: str


@dataclass
class Row:
    """One attempt, or the wait for the next one. `beats`, `checkpoints` and `end` are places;
    `took` is seconds."""

    attempt: TimedAttempt | None
    caption: str = ""
    parts: list[Part] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    checkpoints: list[tuple[float, str]] = field(default_factory=list)
    end: float | None = None
    took: float = 0.0


class Axis:
    """Maps moments to percent. Waits that are longer than all work together are drawn short: all of
    them have half as much room as the work has."""

    def __init__(self, begin: float, end: float, waits: list[tuple[float, float]]) -> None:
        self.begin, self.end = begin, end
        work = end - begin - sum(to - since for since, to in waits)
        least = max(work, SHORTENED_SECONDS)
        long = [(since, to) for since, to in waits if to - since > least and work > 0]
        self.short = [(since, to, work / 2 / len(long)) for since, to in long]
        self.shown_seconds = end - begin - sum(to - since - room for since, to, room in self.short)

    def place(self, moment: float) -> float:
        moment = min(self.end, max(self.begin, moment))
        seconds = moment - self.begin
        for since, to, room in self.short:
            passed = min(moment, to) - since
            if passed > 0:
                seconds -= passed * (1 - room / (to - since))
        return round(100 * seconds / self.shown_seconds, 3)

    def to_scale(self) -> list[tuple[float, float]]:
        """The stretches between the waits that are drawn short."""
        begins = [self.begin, *(to for _, to, _ in self.short)]
        ends = [*(since for since, _, _ in self.short), self.end]
        return [(begin, end) for begin, end in zip(begins, ends, strict=True) if end > begin]

    def cuts(self) -> list[float]:
        """The middles of the waits that are drawn short, as places."""
        return [round((self.place(since) + self.place(to)) / 2, 3) for since, to, _ in self.short]


@dataclass(frozen=True)
class Drawing:
    """`ticks` and `refusals` are places with their labels; `lasted` is seconds; `cuts` are the
    places of waits that are drawn short."""

    rows: list[Row]
    ticks: list[tuple[float, str]]
    refusals: list[tuple[float, str]]
    lasted: float
    cuts: list[float]


def draw(times: Timeline, *, is_open: bool) -> Drawing:
    """An open task is drawn until now, an ended one until its end."""
    begin, now = _begin(times), times.now
    ends = [attempt.ended for attempt in times.attempts if attempt.ended]
    ends += [refusal.at for refusal in times.refusals]
    if times.unguarded and times.unguarded.ended:
        ends.append(times.unguarded.ended)
    until = now if is_open or not ends else max(ends)
    lasted = max(until - begin, 0.001)
    axis = Axis(begin, max(until, begin + 0.001), _waits(times, begin, until))
    scale = axis.place

    rows, waits_since = [], begin
    for attempt in times.attempts:
        rows.append(_row(attempt, waits_since, now, scale))
        waits_since = attempt.ended or now
    latest = times.attempts[-1] if times.attempts else None
    if times.unguarded:
        row = _unguarded(times, times.unguarded, until, scale)
        rows += [row] if row.parts else []
    elif is_open and (latest is None or latest.ended):
        due = (latest.retry_at if latest else None) or times.due
        rows.append(Row(None, "next attempt", _wait(due, waits_since, now, scale)))
    refusals = [(scale(refusal.at), _refused(refusal)) for refusal in times.refusals]
    return Drawing(rows, _ticks(axis), refusals, lasted, axis.cuts())


def _unguarded(times: Timeline, outside: Unguarded, until: float, scale: Scale) -> Row:
    """The run of a worker that is not ours, as far as the row tells it."""
    row = Row(None, "without the guard")
    start = min(until, outside.started or until)  # another's clock may be ahead
    alive = min(until, max(start, outside.ended or outside.alive or until))
    begin = _begin(times)
    if begin < start:
        row.parts += _wait(None, begin, start, scale)
    if outside.started:
        row.parts.append(_part("run", start, alive, scale, "at work"))
    if alive < until:
        row.parts.append(_part("gap", alive, until, scale, "silent"))
    row.end = scale(outside.ended) if outside.ended else None
    return row


def lengths(times: Timeline) -> tuple[float | None, float | None]:
    """For how many seconds the task had waited for its last run, and how long that took; None: not
    known, or it runs still."""
    ready = times.created
    if times.unguarded:
        begin, end = times.unguarded.started, times.unguarded.ended
    elif times.attempts:
        *before, last = times.attempts
        begin, end = last.started, last.ended
        if last.number > 1:
            ready = (before[-1].retry_at or before[-1].ended) if before else None
    else:
        return None, None
    waited = max(0.0, begin - ready) if begin and ready else None
    return waited, end - begin if begin and end and end >= begin else None


def _begin(times: Timeline) -> float:
    """When the task was created, unless that is unknown or was long before the first attempt that
    the ledger still has."""
    if not times.attempts:
        return times.created or times.now
    first = times.attempts[0]
    if times.created and times.created <= first.started and first.number == 1:
        return times.created
    return first.started


def _row(attempt: TimedAttempt, waits_since: float, now: float, scale: Scale) -> Row:
    begin, end, alive = attempt.started, attempt.ended or now, _alive_until(attempt, now)
    row = Row(attempt, took=end - begin)
    if begin > waits_since:
        row.parts += _wait(None, waits_since, begin, scale)
    if alive > begin or end > begin:
        row.parts.append(_part("run", begin, alive, scale, "at work"))
    if end > alive:
        row.parts.append(_part("gap", alive, end, scale, "silent"))
    row.beats = _beats(attempt, scale)
    checkpoints = sorted((attempt.checkpoints or {}).items())
    row.checkpoints = [(scale(at), f"checkpoint {name}") for name, at in checkpoints]
    row.end = scale(attempt.ended) if attempt.ended else None
    return row


def _alive_until(attempt: TimedAttempt, now: float) -> float:
    """The last sign of life of an attempt that went silent; the end of any other."""
    if attempt.ended is None:
        return attempt.beat if now > attempt.lease_until else now
    is_silent = (attempt.cause or attempt.reason) in SILENT_CAUSES and attempt.sweep_id is not None
    return attempt.beat if is_silent else attempt.ended


def _beats(attempt: TimedAttempt, scale: Scale) -> list[float]:
    """Evenly between the claim and the last heartbeat: the ledger has their number, and the time of
    the last one."""
    count = attempt.beats
    if not 0 < count <= DRAWN_BEATS:
        return []
    step = (attempt.beat - attempt.started) / count
    return [scale(attempt.started + step * n) for n in range(1, count + 1)]


def _wait(due: float | None, begin: float, end: float, scale: Scale) -> list[Part]:
    """The wait of a task that may start at `due`; None: at once."""
    if due and begin < due < end:
        return [
            _part("pause", begin, due, scale, "waits for its next try"),
            _part("queue", due, end, scale, "waits for a worker"),
        ]
    if due and due >= end:
        return [_part("pause", begin, end, scale, "waits for its time")]
    return [_part("queue", begin, end, scale, "waits for a worker")]


def _part(kind: str, begin: float, end: float, scale: Scale, title: str) -> Part:
    seconds = end - begin
    text = f"{title} for {brief(seconds)}"
    return Part(kind, scale(begin), round(scale(end) - scale(begin), 3), text)


def brief(seconds: float) -> str:
    """A length of time that may be shorter than a second: 0s, 35 ms, 1.7s, 12s, 3h 20m."""
    if seconds >= 10 or seconds == int(seconds):
        return span(seconds)
    return f"{seconds:.1f}s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _refused(refusal: RefusedWrite) -> str:
    late = "late " if refusal.source == "verb" else ""
    writer = f" by {refusal.writer}" if refusal.writer else ""
    return f"{late}{refusal.wanted}{writer} was refused: {refusal.because}"


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    """In each stretch that is to scale, from its begin; a label is the time since the creation, and
    behind a wait that is drawn short the time since its end."""
    lasted = axis.shown_seconds
    step = next((seconds for seconds in TICK_SECONDS if lasted / seconds <= TICKS), lasted / TICKS)
    ticks: list[tuple[float, str]] = []
    for begin, end in axis.to_scale():
        for n in range(int((end - begin) // step) + 1):
            place = axis.place(begin + n * step)
            since = begin - axis.begin
            label = brief(since if n == 0 else n * step)
            if n and since:
                label = f"+{label}"
            if not ticks or place - ticks[-1][0] > TICK_PERCENT:
                ticks.append((place, label))
    return ticks


def _waits(times: Timeline, begin: float, until: float) -> list[tuple[float, float]]:
    """The stretches in which no attempt was at work."""
    waits, free_since = [], begin
    if times.unguarded:
        free_since = until
        start = min(until, times.unguarded.started or begin)
        if start > begin:
            waits.append((begin, start))
    for attempt in times.attempts:
        if attempt.started > free_since:
            waits.append((free_since, attempt.started))
        free_since = max(free_since, attempt.ended or until)
    if until > free_since:
        waits.append((free_since, until))
    return waits
