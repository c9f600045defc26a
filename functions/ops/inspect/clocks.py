"""The clocks of a table: since when a task waits, runs, was last heard of; when it is due; what
ends its lease. Pure.

35 of 95 real tables have no column that proves life, 62 none for the start: where a clock is
missing or worth little, a person is told."""

import re
from dataclasses import replace

from functions.install.column_sql import TEXTS, Column
from functions.ops.inspect import columns as by_name
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.mapping import Mapping
from functions.ops.inspect.sentences import Doubt, doubt, joined

Doubts = list[Doubt]


def clocks(table: Facts, mapping: Mapping, doubts: Doubts) -> Mapping:
    columns = [
        column
        for column in table.columns.values()
        if column.name not in {mapping.status, mapping.key, *mapping.deleted}
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
    named_leases = by_name.named(columns, "lease", by_name.is_time)
    leases = (*named_leases.sure, *named_leases.guesses)
    timeouts, without_unit = by_name.timeouts(columns)
    mapping = replace(
        mapping,
        clocks={
            "queued": tuple(queued[:1]),
            "started": tuple(started[:1]),
            "alive": tuple(heartbeat[:1] or updated[:1]),
            "finished": tuple(finished[:1]),
            "due": tuple(dict.fromkeys(due)),
            "lease": leases,
            "deadline": tuple(times("deadline")),
        },
        timeouts=tuple(timeouts),
        locked_at=tuple(name for name in locked if name not in started[:1]),
        locks=tuple(dict.fromkeys((*mapping.locks, *locked, *leases, *heartbeat))),
        touched=tuple(updated),
        failed_at=by_name.first(columns, "failed_at", by_name.is_time),
        ends_well=ends_well,
    )
    _say_unused(columns, times("expires"), without_unit, doubts)
    return mapping


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


def _finished(columns: list[Column], doubts: Doubts) -> tuple[list[str], bool]:
    """The column of the end, and whether it is of good ends only (`sent_at`)."""
    named = by_name.named(columns, "finished", by_name.is_time)
    if named.sure:
        return named.sure, False
    of_good_ends = by_name.exact(columns, "succeeded", by_name.is_time)
    guesses = named.guesses or of_good_ends
    if guesses:
        doubts.append(doubt("finished", name=guesses[0]))
    return guesses[:1], not named.guesses and bool(of_good_ends)


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


UTC_ZONES = {"UTC", "Etc/UTC", "GMT"}


def _zones(table: Facts, names: list[str]) -> Doubts:
    """What goes wrong with times where the sessions of a database are not in UTC by default (both
    reproduced)."""
    if table.zone in UTC_ZONES:
        return []
    used = [table.columns[name] for name in names]
    naive = [column.name for column in used if column.type == "timestamp"]
    shifted = [
        column.name
        for column in used
        if column.type == "timestamptz" and "timezone(" in (column.default or "").lower()
    ]
    groups = (("zone", naive), ("zone_default", shifted))
    return [doubt(key, names=joined(group), zone=table.zone) for key, group in groups if group]


def _say_unused(
    columns: list[Column], expires: list[str], without_unit: list[str], doubts: Doubts
) -> None:
    doubts += [doubt("expires", name=name) for name in expires]
    doubts += [doubt("no_unit", name=name) for name in without_unit]
    names = {name for role in _CLOCKS for name in by_name.exact(columns, role, _is_any)}
    for column in columns:
        if column.type in TEXTS and column.name in names:
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
