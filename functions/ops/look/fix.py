"""Ends what is stuck, or puts it back. One statement for each batch, guarded by the same test as
the look, status and age, on rows that nobody else holds: what a foreign worker finished in between
is never overwritten (the field's usual loop, ids first and then an update for each, overwrote 868
of 1,458).

Where a batch fails by one of its rows, a CHECK, a unique index, a trigger, an overflow, it goes row
by row, each behind a savepoint: a bad row is reported and never stops the rest."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from functions.core.sqlstates import PASSING
from functions.core.states import Reason, State
from functions.errors import StoreError
from functions.install.column_sql import (
    Column,
    column,
    identifier,
    literal,
    note,
    nothing,
    raised,
    stamp,
)
from functions.ops.look.catalogue import Connection, sql_of
from functions.ops.look.indexes import covered
from functions.ops.look.infer import Inferred
from functions.ops.look.overdue import Limits, Overdue, action, open_states
from functions.ops.look.session import explained, looking, writing

BATCH = 500
"""Rows of one transaction: beside it a claim's p99 stays at 8 ms, beside one big UPDATE it was 196
ms."""
CHECK_VIOLATION = "23514"
SENTENCE = {
    State.PENDING: "No worker picked this task up since",
    State.RUNNING: "Nothing was heard of this task since",
}
CODE = {State.PENDING: Reason.NEVER_CLAIMED, State.RUNNING: Reason.STALE}


@dataclass
class Fixed:
    ids: list[str] = field(default_factory=list)
    unsweepable: list[dict[str, str]] = field(default_factory=list)

    def room(self, limit: int | None) -> int | None:
        return None if limit is None else max(0, limit - len(self.ids))


def fix(connection: Connection, found: Inferred, limits: Limits) -> Fixed:
    """Raises StoreError when nothing can be written, or when the database fails; what was committed
    stays."""
    _may(found, limits)
    done = Fixed()
    for test in open_states(found, limits):
        for act in _actions(test):
            _all(connection, test, act, done)
    return done


def _may(found: Inferred, limits: Limits) -> None:
    if not found.table.may_write:
        raise StoreError(
            f"this role may not write {found.table.title}. As {found.table.owner}: grant update on {found.table.quoted} to it.",
            retryable=False,
        )
    wanted = State.PENDING if limits.action == "requeue" else State.FAILED
    if found.mapping.word(wanted) is None:
        raise StoreError(
            f"no word for {wanted} is known, so nothing can be written. Give it with --map FILE (words.{wanted}).",
            retryable=False,
        )


def _actions(test: Overdue) -> list[str]:
    """A pending task is back already: a requeue has nothing to do with it, and to fail it is not
    what was asked for."""
    if test.limits.action == "fail":
        return ["fail"]
    if test.state == State.PENDING:
        return []
    exhausted = action(test) != "'requeue'" and test.mapping.word(State.FAILED) is not None
    return ["requeue", "fail"] if exhausted else ["requeue"]


def _all(connection: Connection, test: Overdue, act: str, done: Fixed) -> None:
    """Batch after batch until none is left. Without an index all at once: batches are quadratic
    (159 s for 100,000 rows)."""
    batch = BATCH if covered(test.found) else None
    bad: list[str] = []
    while True:
        room = done.room(test.limits.limit)
        size = min((one for one in (batch, room) if one is not None), default=None)
        if size == 0:
            return
        keys = _some(connection, test, act, size, bad, done)
        if size is None or len(keys) < size:
            return


def _some(
    connection: Connection, test: Overdue, act: str, size: int | None, bad: list[str], done: Fixed
) -> list[str]:
    """One batch. Returns the keys that were taken, good and bad."""
    plans = list(_plans(test, act))
    with suppress(_BadRowError), writing(connection):
        ids = _update(connection, statement(plans[0], test, act, _taken(test, act, size, bad)))
        done.ids += ids
        return ids
    with looking(connection):
        rows = connection.execute(sql_of("keys", _taken(test, act, size, bad))).fetchall()
    keys = [str(row[0]) for row in rows]
    for at in range(0, len(keys), BATCH):
        with writing(connection):
            for key in keys[at : at + BATCH]:
                _one(connection, plans, test, act, key, bad, done)
    return keys


class _BadRowError(Exception):
    """A row can't be written as it should."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(error)
        self.error = error


def _one(
    connection: Connection,
    plans: list[dict[str, str]],
    test: Overdue,
    act: str,
    key: str,
    bad: list[str],
    done: Fixed,
) -> None:
    """One row behind a savepoint, in each of the ways that the table's own rules may want."""
    error = None
    for plan in plans:
        try:
            with connection.transaction():
                done.ids += _update(
                    connection, statement(plan, test, act, _taken(test, act, None, key=key))
                )
        except _BadRowError as refused:
            error = error or refused.error
            if refused.error.sqlstate != CHECK_VIOLATION:
                break
        else:
            return
    bad.append(key)
    done.unsweepable.append({"id": key, "error": _told(error)})


def _told(error: psycopg.Error | None) -> str:
    return (
        ""
        if error is None
        else f"{error.sqlstate}: {' '.join((error.diag.message_primary or str(error)).split())}"
    )


def _update(connection: Connection, written: bytes) -> list[str]:
    try:
        return [row[0] for row in connection.execute(written)]
    except psycopg.Error as error:
        if not error.sqlstate or error.sqlstate[:2] in PASSING:
            raise explained(error) from None
        raise _BadRowError(error) from None


def statement(plan: dict[str, str], test: Overdue, act: str, taken: dict[str, str]) -> bytes:
    written = ", ".join(f"{identifier(one)} = {value}" for one, value in plan.items())
    return sql_of("fix", taken | {"write": written, "test": _test(test, act)})


def _taken(
    test: Overdue, act: str, size: int | None, bad: Iterable[str] = (), key: str | None = None
) -> dict[str, str]:
    """Which rows to take: the names of keys.sql and fix.sql."""
    conditions = [_test(test, act)]
    if key is not None:
        conditions.append(f"{test.key} = {literal(key)}")
    if listed := list(bad):
        conditions.append(f"{test.key}::text <> all ({literal(listed)}::text[])")
    return {
        "key": test.key,
        "table": test.found.table.quoted,
        "picked": " and ".join(conditions),
        "order": f"order by {test.since} nulls first" if test.limits.limit is not None else "",
        "limit": "" if size is None else f"limit {size}",
    }


def _test(test: Overdue, act: str) -> str:
    chosen = action(test)
    return test.stuck if chosen == literal(act) else f"{test.stuck} and ({chosen}) = {literal(act)}"


def _plans(test: Overdue, act: str) -> Iterator[dict[str, str]]:
    """What to write: as it should be, then as the CHECKs of real tables may want it
    (background_jobs of contributor.info refuses a failed_at without a started_at; others, a lock on
    a task that has ended, or an end time on a bad end)."""
    if act == "requeue":
        yield _requeued(test)
        return
    plain = _failed(test)
    started = {
        name: f"coalesce({column(test.columns[name])}, {now})"
        for name in test.mapping.clock("started")
        if (now := _now(test, name))
    }
    unlocked = _cleared(test, test.mapping.locks)
    ends = {name for name in (*test.mapping.clock("finished"), test.mapping.failed_at) if name}
    yield plain
    yield started | plain
    yield started | unlocked | plain
    yield unlocked | {name: value for name, value in plain.items() if name not in ends}


def _failed(test: Overdue) -> dict[str, str]:
    mapping = test.mapping
    error = mapping.columns.get("error")
    written = {mapping.status or "": literal(mapping.word(State.FAILED))} | _touched(test)
    if error and (told := note(test.columns[error], message(test), CODE[test.state])) is not None:
        written[error] = told
    end = mapping.failed_at or (
        None if mapping.ends_well else next(iter(mapping.clock("finished")), None)
    )
    if end and not test.columns[end].generated and (now := _now(test, end)):
        written[end] = now
    return written


def _requeued(test: Overdue) -> dict[str, str]:
    """Pending again, without a start and a holder. Tries are counted at the claim by some and at
    the end by others: a task that ran was tried once at least; a count of retries gets one more."""
    mapping = test.mapping
    attempts = mapping.columns.get("attempts")
    written = {mapping.status or "": literal(mapping.word(State.PENDING))} | _touched(test)
    born = set(mapping.clock("queued"))
    written |= _cleared(
        test, [name for name in (*mapping.clock("started"), *mapping.locks) if name not in born]
    )
    if attempts:
        name = test.columns[attempts]
        written[attempts] = (
            raised(name) if "retr" in attempts.lower() else f"greatest({column(name)}, 1)"
        )
    return written


def _touched(test: Overdue) -> dict[str, str]:
    """updated_at, and the version that optimistic writers compare: their late write must not pass."""
    written = {
        name: now
        for name in test.mapping.touched
        if (now := _now(test, name)) and not test.columns[name].generated
    }
    if test.mapping.version:
        written[test.mapping.version] = raised(test.columns[test.mapping.version])
    return written


def _cleared(test: Overdue, names: Iterable[str]) -> dict[str, str]:
    empty = {name: nothing(test.columns[name]) for name in names}
    return {name: value for name, value in empty.items() if value is not None}


def _now(test: Overdue, name: str) -> str | None:
    return stamp(test.columns[name], _clocks(test))


def _clocks(test: Overdue) -> tuple[Column, ...]:
    return tuple(test.columns[name] for names in test.mapping.clocks.values() for name in names)


def message(test: Overdue) -> str:
    """The reason as SQL: a code first, which a narrow column keeps, and a sentence."""
    since = f"to_char({test.since} at time zone 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')"
    told = literal(f"{CODE[test.state]}: {SENTENCE[test.state]} ")
    return f"({told} || coalesce({since}, 'a time that no clock tells') || '.')"
