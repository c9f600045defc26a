"""The clocks of a table: since when a task waits, runs, was last heard of; when it is due; what
ends its lease. Pure.

35 of 95 tables have no column that proves life, 62 none for the start: where a clock is missing or
worth little, it is said."""

import re
from collections.abc import Iterable
from dataclasses import replace

from functions.install.column_sql import TEXTS, Column
from functions.ops.look import columns as by_name
from functions.ops.look.catalogue import Facts
from functions.ops.look.mapping import Mapping
from functions.ops.look.sentences import Doubt, doubt, plain

Doubts = list[Doubt]


def clocks(table: Facts, mapping: Mapping, doubts: Doubts) -> Mapping:
    columns = [
        one
        for one in table.columns.values()
        if one.name not in {mapping.status, mapping.key, *mapping.deleted}
    ]

    def times(role: str) -> list[str]:
        return by_name.exact(columns, role, by_name.is_time)

    heartbeat, updated = times("heartbeat"), times("updated")
    queued = _queued(times("queued"))
    locked = times("locked_at")
    started = _started(columns, locked, doubts)
    due = [*times("due"), *(name for name in queued[1:] if "queue" in name.lower())]
    finished, ends_well = _finished(columns, doubts)
    if not queued and started and table.columns[started[0]].born_now:
        queued = started
        doubts.append(doubt("born", name=started[0]))
    timeouts, unknown = by_name.timeouts(columns)
    mapping = replace(
        mapping,
        clocks={
            "queued": tuple(queued[:1]),
            "started": tuple(started[:1]),
            "alive": tuple(heartbeat[:1] or updated[:1]),
            "finished": tuple(finished[:1]),
            "due": tuple(dict.fromkeys(due)),
            "lease": tuple(_leases(columns)),
            "deadline": tuple(times("deadline")),
        },
        timeouts=tuple(timeouts),
        locked_at=tuple(name for name in locked if name not in started[:1]),
        locks=tuple(dict.fromkeys((*mapping.locks, *locked, *_leases(columns), *heartbeat))),
        touched=tuple(updated),
        failed_at=next(iter(times("failed_at")), None),
        ends_well=ends_well,
    )
    _say_unused(columns, times("expires"), unknown, doubts)
    return mapping


def _queued(names: list[str]) -> list[str]:
    """created_at before queued_at: where there are both, the latter moves with each new wait and
    counts as being due."""
    born = [name for name in names if not re.search(r"queue", name.lower())]
    return [*born, *(name for name in names if name not in born)]


def _started(columns: Iterable[Column], locked: list[str], doubts: Doubts) -> list[str]:
    columns = list(columns)
    named = by_name.named(columns, "started", by_name.is_time)
    if named and named[0].sure:
        return [one.name for one in named if one.sure]
    guesses = (
        [one.name for one in named]
        or locked
        or by_name.exact(columns, "started_perhaps", by_name.is_time)
    )
    if guesses:
        doubts.append(doubt("started", name=guesses[0]))
    return guesses[:1]


def _finished(columns: Iterable[Column], doubts: Doubts) -> tuple[list[str], bool]:
    """The column of the end, and whether it is of good ends only (`sent_at`)."""
    columns = list(columns)
    named = by_name.named(columns, "finished", by_name.is_time)
    if named and named[0].sure:
        return [one.name for one in named if one.sure], False
    well = by_name.exact(columns, "succeeded", by_name.is_time)
    guesses = [one.name for one in named] or well
    if guesses:
        doubts.append(doubt("finished", name=guesses[0]))
    return guesses[:1], not named and bool(well)


def _leases(columns: Iterable[Column]) -> list[str]:
    return [one.name for one in by_name.named(columns, "lease", by_name.is_time)]


def caveats(table: Facts, mapping: Mapping, *, alive_is_given: bool = False) -> Doubts:
    """What these clocks, inferred or given, can't tell."""
    said = []
    since, alive = [*mapping.clock("started"), *mapping.clock("queued")], mapping.clock("alive")
    if not alive and not mapping.clock("lease"):
        said.append(doubt("no_life", name=since[0]) if since else doubt("no_time"))
    elif (
        alive and alive[0] in mapping.touched and not alive_is_given and not moves(table, alive[0])
    ):
        said.append(doubt("not_moved", name=alive[0]))
    if not mapping.clock("queued") and not mapping.clock("due"):
        others = [*mapping.clock("started"), *alive]
        instead = (
            f"{' or '.join(others)} counts where it is set"
            if others
            else "pending tasks are not judged"
        )
        said.append(doubt("no_queued", instead=instead))
    return said + _zones(
        table, sorted({name for names in mapping.clocks.values() for name in names})
    )


def _zones(table: Facts, names: list[str]) -> Doubts:
    """What goes wrong with times where the sessions of a database are not in UTC by themselves
    (both reproduced)."""
    if table.zone in {"UTC", "Etc/UTC", "GMT"}:
        return []
    used = [table.columns[name] for name in names]
    naive = [one.name for one in used if one.type == "timestamp"]
    shifted = [
        one.name
        for one in used
        if one.type == "timestamptz" and "timezone(" in (one.default or "").lower()
    ]
    said = [doubt("zone", names=plain(naive), zone=table.zone)] if naive else []
    return (
        [*said, doubt("zone_default", names=plain(shifted), zone=table.zone)] if shifted else said
    )


def _say_unused(
    columns: Iterable[Column], expires: list[str], unknown: list[str], doubts: Doubts
) -> None:
    doubts += [doubt("expires", name=name) for name in expires]
    doubts += [doubt("no_unit", name=name) for name in unknown]
    for one in columns:
        if one.type in TEXTS and any(
            by_name.exact([one], role, lambda _: True) for role in _CLOCKS
        ):
            doubts.append(doubt("text_clock", name=one.name, type=one.type))


_CLOCKS = ("queued", "started", "heartbeat", "updated")


def moves(table: Facts, updated: str) -> bool:
    """Whether a trigger moves the column at each update: 10 of the 20 completely read schemas have
    none."""
    set_by = re.compile(rf'new\s*\.\s*"?{re.escape(updated)}"?\s*:?=', re.IGNORECASE)
    return any(
        one.before_update and (set_by.search(one.source) or "moddatetime" in one.source)
        for one in table.triggers
    )
