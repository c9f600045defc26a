"""The clocks of a table: since when a task waits, runs, was last heard of; when it is due; what
ends its lease. Pure.

35 of 95 real tables have no column that proves life, 62 none for the start: where a clock is
missing or worth little, a person is told."""

import datetime
import math
import re
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from functions.core.states import OPEN, State
from functions.install.column_sql import TEXTS, Column
from functions.ops.inspect import columns as by_name
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.evidence import Evidence
from functions.ops.inspect.mapping import Mapping, without
from functions.ops.inspect.sentences import Doubt, doubt, joined
from functions.ops.inspect.vocabulary import is_among, tokens
from functions.ops.inspect.words import sure_states

Doubts = list[Doubt]


def clocks(table: Facts, evidence: Evidence, mapping: Mapping, doubts: Doubts) -> Mapping:
    columns = [
        column
        for column in table.columns.values()
        if column.name not in {mapping.status, mapping.key, *mapping.deleted}
    ]

    def times(role: str) -> list[str]:
        return by_name.exact(columns, role, by_name.is_time)

    heartbeat, updated = times("heartbeat"), times("updated")
    moved = [column.name for column in columns if column.born_now and moves(table, column.name)]
    updated = list(dict.fromkeys([*updated, *(name for name in moved if name not in heartbeat)]))
    queued = _queued([name for name in times("queued") if name not in updated])
    locked = times("locked_at")
    started = _started(columns, locked, doubts)
    finished, ends_well = _finished(columns, _unended(evidence, mapping, columns), doubts)
    others = {*updated, *heartbeat, *finished}
    # `visible_after` of a new row is now as well, and moves later: another column tells its birth
    birth = _born(columns, started, others | {*times("due")}) or _born(columns, started, others)
    if not queued and (born := birth):
        queued = [born]
        doubts.append(doubt("born", name=born))
    named_leases = by_name.named(columns, "lease", by_name.is_time)
    leases = [*named_leases.sure, *named_leases.guesses]
    deadline = times("deadline")
    due = [*times("due"), *(name for name in queued[1:] if "queue" in name.lower())]
    used = {*heartbeat, *updated, *queued, *locked, *started, *finished, *leases, *deadline}
    left = [column for column in columns if column.name not in used | {*due, *times("expires")}]
    leases += _held(evidence, mapping, left, doubts)
    left = [column for column in left if column.name not in leases]
    due += _planned(evidence, mapping, left, doubts)
    newer = _newer_than_birth(evidence, queued, [name for name in left if name.name not in due])
    doubts += [doubt("newer", name=name) for name in newer]
    timeouts = by_name.timeouts(columns)
    mapping = replace(
        mapping,
        words=_with_sleepers(evidence, mapping, due),
        clocks={
            "queued": tuple(queued[:1]),
            "started": tuple(started[:1]),
            "alive": (*(heartbeat or updated)[:1], *([] if updated else newer[:1])),
            "finished": tuple(finished[:1]),
            "due": tuple(sorted(dict.fromkeys(due), key=_is_window)),
            "lease": tuple(leases),
            "deadline": tuple(deadline),
        },
        timeouts=timeouts.runs[:1],
        silences=timeouts.silences,
        locked_at=tuple(name for name in locked if name not in started[:1]),
        locks=tuple(dict.fromkeys((*mapping.locks, *locked, *leases, *heartbeat))),
        touched=tuple(updated),
        failed_at=by_name.first(columns, "failed_at", by_name.is_time),
        ends_well=ends_well,
    )
    doubts += [doubt("timeout", name=name) for name in timeouts.of_something_else]
    _say_unused(columns, times("expires"), list(timeouts.without_unit), doubts)
    return mapping


def _planned(
    evidence: Evidence, mapping: Mapping, columns: list[Column], doubts: Doubts
) -> list[str]:
    """The columns that say when a task is due: by their names, or since rows that wait have times
    of the future there."""
    waiting = mapping.words.get(State.PENDING, ())
    named = [column.name for column in columns if by_name.is_planned(column)]
    ahead = [
        column.name
        for column in columns
        if column.name not in named
        and by_name.is_time(column)
        and not any(is_among(part, "not_planned") for part in tokens(column.name))
        and (evidence.ahead(column.name, waiting) or _sleepers(evidence, mapping, column.name))
    ]
    doubts += [doubt("due", name=name) for name in ahead]
    return [*named, *ahead]


def _held(evidence: Evidence, mapping: Mapping, columns: list[Column], doubts: Doubts) -> list[str]:
    """The columns that say until when a worker holds its task: by their names (`taken_until`), or
    since tasks that run have times of the future there, and no other task has one."""
    running = mapping.words.get(State.RUNNING, ())
    waiting = mapping.words.get(State.PENDING, ())
    others = [word for word in evidence.rows if word not in running]
    held = [
        column.name
        for column in columns
        if by_name.is_hold(column)
        or (
            by_name.is_time(column)
            and by_name.says_until(column)
            and evidence.ahead(column.name, running)
            and evidence.count(waiting)
            and not evidence.filled(column.name, waiting)
            and not evidence.ahead(column.name, others)
            and not _sleepers(evidence, mapping, column.name)
        )
    ]
    doubts += [doubt("held", name=name) for name in held]
    return held


def _sleepers(evidence: Evidence, mapping: Mapping, due: str) -> list[Any]:
    """The words that only sound like work, whose rows all have the time at which they go on still
    ahead, where no other row has one: `sleeping` is of tasks that wait."""
    running = mapping.words.get(State.RUNNING, ())
    waiting = mapping.words.get(State.PENDING, ())
    asleep = [
        word
        for word in running
        if not sure_states(word) and 0 < evidence.count([word]) == evidence.ahead(due, [word])
    ]
    others = [word for word in evidence.rows if word not in {*asleep, *waiting}]
    is_theirs = len(asleep) < len(running) and not evidence.filled(due, others)
    return asleep if is_theirs else []


def _with_sleepers(
    evidence: Evidence, mapping: Mapping, due: list[str]
) -> dict[State, tuple[Any, ...]]:
    asleep = [word for name in due for word in _sleepers(evidence, mapping, name)]
    kept = without(mapping.words, asleep)
    return kept | {State.PENDING: (*kept.get(State.PENDING, ()), *dict.fromkeys(asleep))}


def _newer_than_birth(evidence: Evidence, queued: list[str], columns: list[Column]) -> list[str]:
    """The columns that get the time of the birth and are moved later, as rows show: nobody but the
    application's own writes does that."""
    return [
        column.name
        for column in columns
        if queued
        and column.born_now
        and by_name.is_time(column)
        and not any(is_among(part, "not_planned") for part in tokens(column.name))
        and evidence.is_later(column.name, queued[0])
    ]


def _is_window(name: str) -> bool:
    """Whether it says for when a task was planned, rather than when it is tried next: a retry does
    not move it where there is another."""
    parts = tokens(name)
    return not any(part in _TRIED_NEXT for part in parts)


_TRIED_NEXT = {"next", "retry", "attempt", "available", "run", "visible", "backoff", "proximo"}


def _born(columns: list[Column], started: list[str], others: set[str]) -> str | None:
    """The column that a new row gets the time of its birth in, whatever it is called."""
    names = [
        column.name
        for column in columns
        if column.born_now and by_name.is_time(column) and column.name not in others
    ]
    return next((name for name in [*started[:1], *names] if name in names), None)


def _queued(names: list[str]) -> list[str]:
    """created_at before queued_at: where there are both, the latter moves with each new wait and
    counts as being due."""
    return sorted(names, key=lambda name: "queue" in name.lower())


def _started(columns: list[Column], locked: list[str], doubts: Doubts) -> list[str]:
    named = by_name.named(columns, "started", by_name.is_time)
    if named.sure:
        return named.sure
    perhaps = by_name.exact(columns, "started_perhaps", by_name.is_time)
    guesses = named.guesses or locked or perhaps
    if guesses:
        doubts.append(doubt("started", name=guesses[0]))
    return guesses[:1]


def _unended(evidence: Evidence, mapping: Mapping, columns: list[Column]) -> set[str]:
    """The columns that are no time of an end, whatever they are called: a new row has one
    (`published_at` of a content system), or each open row does."""
    opened = [word for state in OPEN for word in mapping.words.get(state, ())]
    count = evidence.count(opened)
    return {
        column.name
        for column in columns
        if column.born_now or (count > 1 and evidence.filled(column.name, opened) == count)
    }


def _finished(columns: list[Column], unended: set[str], doubts: Doubts) -> tuple[list[str], bool]:
    """The column of the end, and whether it is of good ends only (`sent_at`)."""
    named = by_name.named(columns, "finished", by_name.is_time)
    if named.sure:
        return named.sure, False
    good = by_name.exact(columns, "succeeded", by_name.is_time)
    of_good_ends = [name for name in good if name not in unended]
    guesses = [name for name in named.guesses if name not in unended] or of_good_ends
    if guesses:
        doubts.append(doubt("finished", name=guesses[0]))
    return guesses[:1], bool(guesses) and guesses[0] in of_good_ends


def caveats(table: Facts, mapping: Mapping, *, alive_is_given: bool = False) -> Doubts:
    """What these clocks, inferred or given, can't tell."""
    doubts = []
    since, alive = [*mapping.clock("started"), *mapping.clock("queued")], mapping.clock("alive")
    if not alive and not mapping.clock("lease"):
        doubts.append(doubt("no_life", name=since[0]) if since else doubt("no_time"))
    unsure = alive and alive[0] in mapping.touched and not alive_is_given
    if unsure and not moves(table, alive[0]):
        doubts.append(doubt("not_moved", name=alive[0]))
    if not mapping.clock("queued") and not mapping.clock("due"):
        others = " or ".join([*mapping.clock("started"), *alive])
        instead = f"{others} counts where it is set" if others else "pending tasks are not judged"
        doubts.append(doubt("no_queued", instead=instead))
    names = {name for clock in mapping.clocks.values() for name in clock}
    return doubts + _zones(table, sorted(names))


UTC_ZONES = {"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Universal", "Zulu", "UCT", "Etc/UCT"}
STILL_NOW_SECONDS = 60


def zone_of(table: Facts, column: Column, evidence: Evidence) -> str:
    """In which zone the times of a column without one are: by its default, the zone of the database
    and its newest row. Where neither tells, the reading by which no task is older than it is."""
    if column.type != "timestamp" or "utc" in (column.default or "").lower():
        return "UTC"
    ahead = evidence.newest.get(column.name)
    if table.zone in UTC_ZONES:
        named = by_name.exact([column], "queued", by_name.is_time)
        named += by_name.exact([column], "updated", by_name.is_time)
        if named and ahead is not None and ahead > STILL_NOW_SECONDS:
            return _ahead_of_utc(ahead)
        return "UTC"
    if column.born_now:
        return table.zone
    east = _seconds_east(table.zone)
    if ahead is not None and ahead > STILL_NOW_SECONDS:
        return table.zone
    may_be_local = ahead is None or east is None or ahead - east <= STILL_NOW_SECONDS
    return table.zone if may_be_local and east is not None and east < 0 else "UTC"


def _ahead_of_utc(seconds: float) -> str:
    """A zone whose time is so far ahead, to the next half hour, as PostgreSQL writes it."""
    half_hours = math.ceil((seconds - STILL_NOW_SECONDS) / 1800)
    hours, minutes = divmod(half_hours * 30, 60)
    return f"UTC-{hours}:{minutes:02d}" if half_hours <= 28 else "UTC"


def _seconds_east(zone: str) -> float | None:
    try:
        offset = datetime.datetime.now(ZoneInfo(zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError):
        return None
    return offset.total_seconds() if offset is not None else None


def _zones(table: Facts, names: list[str]) -> Doubts:
    """What may go wrong with times where the sessions of a database, or an application, are not in
    UTC."""
    used = [table.columns[name] for name in names]
    naive = [column for column in used if column.type == "timestamp"]
    local = [column for column in naive if column.zone != "UTC"]
    doubts = []
    for zone in dict.fromkeys(column.zone for column in local):
        columns = joined(column.name for column in local if column.zone == zone)
        doubts.append(doubt("local", names=columns, zone=zone))
    if table.zone in UTC_ZONES:
        return doubts
    as_utc = [
        column.name
        for column in naive
        if column not in local and "utc" not in (column.default or "").lower()
    ]
    shifted = [
        column.name
        for column in used
        if column.type == "timestamptz" and "timezone(" in (column.default or "").lower()
    ]
    groups = (("zone", as_utc), ("zone_default", shifted))
    return doubts + [
        doubt(key, names=joined(group), zone=table.zone) for key, group in groups if group
    ]


def _say_unused(
    columns: list[Column], expires: list[str], without_unit: list[str], doubts: Doubts
) -> None:
    doubts += [doubt("expires", name=name) for name in expires]
    doubts += [doubt("no_unit", name=name) for name in without_unit]
    names = {name for role in _CLOCKS for name in by_name.exact(columns, role, _is_any)}
    for column in columns:
        if column.type in TEXTS and not column.iso and column.name in names:
            doubts.append(doubt("text_clock", name=column.name, type=column.type))


_CLOCKS = ("queued", "started", "heartbeat", "updated")


def _is_any(_: Column) -> bool:
    return True


def moves(table: Facts, updated: str) -> bool:
    """Whether a trigger sets the column at each update: 10 of 20 real schemas have none."""
    set_by = re.compile(rf'new\s*\.\s*"?{re.escape(updated)}"?\s*:?=', re.IGNORECASE)
    return any(
        trigger.before_update and (set_by.search(trigger.source) or "moddatetime" in trigger.source)
        for trigger in table.triggers
    )
