"""Ends what is stuck, or puts it back. One statement for each batch, guarded by the same test as
the look, status and age, on rows that nobody else holds: what a foreign worker finished in between
is never overwritten (the usual loop, ids first and then an update for each, overwrote 868 of
1,458).

Where a batch fails by one of its rows, a CHECK, a unique index, a trigger, an overflow, it goes row
by row, each behind a savepoint: a bad row is reported and never stops the rest."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from functions.core.sqlstates import Meaning, meaning_of
from functions.core.states import Reason, State
from functions.errors import StoreError
from functions.install.column_sql import (
    Column,
    identifier,
    literal,
    note,
    nothing,
    qualified,
    raised,
    stamp,
)
from functions.ops.inspect.catalogue import sql_of
from functions.ops.inspect.indexes import covered
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import Limits, Overdue, action, counts_retries, open_states
from functions.ops.inspect.session import Connection, one_line, read_only, store_error, writing

BATCH_ROWS = 500
"""Rows of one transaction: beside it a claim's p99 stays at 8 ms, beside one big UPDATE it was 196
ms."""
CHECK_VIOLATION = "23514"
SENTENCES = {
    State.PENDING: "No worker picked this task up since",
    State.RUNNING: "Nothing was heard of this task since",
}
CODES = {State.PENDING: Reason.NEVER_CLAIMED, State.RUNNING: Reason.STALE}


@dataclass
class Fixed:
    ids: list[str] = field(default_factory=list)
    unsweepable: list[dict[str, str]] = field(default_factory=list)


def fix(connection: Connection, inferred: Inferred, limits: Limits) -> Fixed:
    """Raises StoreError when nothing can be written, or when the database fails; what was committed
    stays."""
    require_writable(inferred, limits)
    fixed = Fixed()
    for test in open_states(inferred, limits):
        for action_name in _actions(test):
            _Fix(connection, test, action_name, fixed).fix_all()
    return fixed


def require_writable(inferred: Inferred, limits: Limits) -> None:
    """Raises StoreError where nothing can be written, with the next step."""
    table = inferred.table
    if not table.may_write:
        raise StoreError(
            f"this role may not write {table.title}. "
            f"As {table.owner}: grant update on {table.quoted} to it.",
            retryable=False,
        )
    state = State.PENDING if limits.action == "requeue" else State.FAILED
    if inferred.mapping.word(state) is None:
        raise StoreError(
            f"nothing in {table.title} shows the word for {state}, and a word that its application "
            f"does not know is never written. Give it with --word {state}=WORD, or with --map FILE "
            f"(words.{state}).",
            retryable=False,
        )


def _actions(test: Overdue) -> list[str]:
    """A pending task is back already: a requeue has nothing to do with it, and to fail it is not
    what was asked for."""
    chosen = action(test)
    cancelled = ["cancel"] if "'cancel'" in chosen else []
    if test.limits.action == "fail":
        return ["fail", *cancelled]
    if test.state == State.PENDING:
        return cancelled
    exhausted = "'fail'" in chosen and test.mapping.word(State.FAILED) is not None
    return ["requeue", *(["fail"] if exhausted else []), *cancelled]


class _BadRowError(Exception):
    """A row can't be written as it should."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class _Fix:
    """The rows of one state that get the same action."""

    connection: Connection
    test: Overdue
    action: str
    fixed: Fixed
    bad_keys: list[str] = field(default_factory=list)

    def fix_all(self) -> None:
        """Batch after batch until none is left. Without an index all at once: batches are quadratic
        (159 s for 100,000 rows)."""
        batch = BATCH_ROWS if covered(self.test.inferred) else None
        while (size := self._size(batch)) != 0:
            keys = self._fix_batch(size)
            if size is None or len(keys) < size:
                return

    def _size(self, batch: int | None) -> int | None:
        """How many rows to take: a batch, but no more than --limit leaves. None: all."""
        limit = self.test.limits.limit
        if limit is None:
            return batch
        left = max(0, limit - len(self.fixed.ids))
        return left if batch is None else min(batch, left)

    def _fix_batch(self, size: int | None) -> list[str]:
        """Returns the keys that were taken, good and bad."""
        plans = list(_plans(self.test, self.action))
        with suppress(_BadRowError), writing(self.connection):
            ids = self._update(plans[0], self._rows(size))
            self.fixed.ids += ids
            return ids
        with read_only(self.connection):
            rows = self.connection.execute(sql_of("keys", self._rows(size))).fetchall()
        keys = [str(row[0]) for row in rows]
        for start in range(0, len(keys), BATCH_ROWS):
            with writing(self.connection):
                for key in keys[start : start + BATCH_ROWS]:
                    self._fix_row(plans, key)
        return keys

    def _fix_row(self, plans: list[dict[str, str]], key: str) -> None:
        """One row behind a savepoint, in each of the ways that the table's own rules may want."""
        errors = []
        for plan in plans:
            try:
                with self.connection.transaction():
                    self.fixed.ids += self._update(plan, self._rows(None, key))
            except _BadRowError as refused:
                errors.append(refused.error)
                if refused.error.sqlstate != CHECK_VIOLATION:
                    break
            else:
                return
        self.bad_keys.append(key)
        text = f"{errors[0].sqlstate}: {one_line(errors[0])}"
        self.fixed.unsweepable.append({"id": key, "error": text})

    def _update(self, plan: dict[str, str], rows: dict[str, str]) -> list[str]:
        write = ", ".join(f"{identifier(name)} = {value}" for name, value in plan.items())
        statement = sql_of("fix", rows | {"write": write, "test": self._condition()})
        try:
            return [row[0] for row in self.connection.execute(statement)]
        except psycopg.Error as error:
            if not error.sqlstate or meaning_of(error.sqlstate) is Meaning.WEATHER:
                raise store_error(error) from None
            raise _BadRowError(error) from None

    def _rows(self, size: int | None, key: str | None = None) -> dict[str, str]:
        """Which rows to take: the names of keys.sql and fix.sql."""
        test, conditions = self.test, [self._condition()]
        if key is not None:
            conditions.append(f"{test.key} = {literal(key)}")
        elif self.bad_keys:
            conditions.append(f"{test.key}::text <> all ({literal(self.bad_keys)}::text[])")
        return {
            "key": test.key,
            "table": test.inferred.table.quoted,
            "picked": " and ".join(conditions),
            "order": f"order by {test.since} nulls first" if test.limits.limit is not None else "",
            "limit": "" if size is None else f"limit {size}",
        }

    def _condition(self) -> str:
        chosen, name = action(self.test), literal(self.action)
        return self.test.stuck if chosen == name else f"{self.test.stuck} and ({chosen}) = {name}"


def _plans(test: Overdue, action_name: str) -> Iterator[dict[str, str]]:
    """What to write: as it should be, then as the CHECKs of real tables may want it (one refuses a
    failed_at without a started_at; others, a lock on a task that has ended, or an end time on a bad
    end)."""
    if action_name == "requeue":
        yield _requeued(test)
        return
    failed = _ended(test, State.CANCELLED if action_name == "cancel" else State.FAILED)
    started = {
        name: f"coalesce({qualified(test.columns[name])}, {now})"
        for name in test.mapping.clock("started")
        if (now := _now(test, name))
    }
    unlocked = _cleared(test, test.mapping.locks)
    ends = {name for name in (*test.mapping.clock("finished"), test.mapping.failed_at) if name}
    yield failed
    yield started | failed
    yield started | unlocked | failed
    yield unlocked | {name: value for name, value in failed.items() if name not in ends}


def _ended(test: Overdue, state: State) -> dict[str, str]:
    """A bad end, with what the rows show that it also sets."""
    mapping = test.mapping
    values = {mapping.status or "": literal(mapping.word(state))} | _touched(test)
    if error := mapping.columns.get("error"):
        code, column = literal(str(_code(test, state))), test.columns[error]
        has_code = any(role == "code" for _, role in column.keys)
        text = note(column, message(test, state, with_code=not has_code), code)
        if text is not None:
            values[error] = text
    ends = [] if mapping.ends_well else mapping.clock("finished")
    end = mapping.failed_at if state == State.FAILED else None
    end = end or next(iter(ends), None)
    learned = mapping.ends.get(state) or mapping.ends.get(State.FAILED)
    times = [*filter(None, [end]), *(learned.times if learned else ())]
    for name in times:
        if not test.columns[name].generated and (now := _now(test, name)):
            values[name] = now
    if learned and (state in mapping.ends):
        values |= {name: _constant(test, name, text) for name, text in learned.constants.items()}
    return values


def _constant(test: Overdue, name: str, text: str) -> str:
    return literal(text == "true") if test.columns[name].type == "bool" else literal(text)


def _code(test: Overdue, state: State) -> Reason:
    return Reason.CANCELLED if state == State.CANCELLED else CODES[test.state]


def _requeued(test: Overdue) -> dict[str, str]:
    """Pending again, without a start and a holder. Tries are counted at the claim by some and at
    the end by others: a task that ran was tried once at least; a count of retries gets one more."""
    mapping = test.mapping
    born = mapping.clock("queued")
    names = [name for name in (*mapping.clock("started"), *mapping.locks) if name not in born]
    values = {mapping.status or "": literal(mapping.word(State.PENDING))}
    values |= _touched(test) | _cleared(test, (*names, *mapping.asked_to_stop))
    for learned in mapping.ends.values():
        before = learned.open_constants
        values |= {name: _constant(test, name, text) for name, text in before.items()}
        values |= _cleared(test, learned.times)
    if attempts := mapping.columns.get("attempts"):
        counter = test.columns[attempts]
        values[attempts] = (
            raised(counter) if counts_retries(attempts) else f"greatest({qualified(counter)}, 1)"
        )
    return values


def _touched(test: Overdue) -> dict[str, str]:
    """updated_at, and the version that optimistic writers compare: their late write must fail."""
    values = {
        name: now
        for name in test.mapping.touched
        if (now := _now(test, name)) and not test.columns[name].generated
    }
    if test.mapping.version:
        values[test.mapping.version] = raised(test.columns[test.mapping.version])
    return values


def _cleared(test: Overdue, names: Iterable[str]) -> dict[str, str]:
    empty = {name: nothing(test.columns[name]) for name in names}
    return {name: value for name, value in empty.items() if value is not None}


def _now(test: Overdue, name: str) -> str | None:
    return stamp(test.columns[name], _clocks(test))


def _clocks(test: Overdue) -> tuple[Column, ...]:
    return tuple(test.columns[name] for names in test.mapping.clocks.values() for name in names)


def message(test: Overdue, state: State = State.FAILED, *, with_code: bool = True) -> str:
    """The reason as SQL: a code first, which a narrow column keeps, and a sentence. Without the
    code where the column has a place for it."""
    prefix = f"{_code(test, state)}: " if with_code else ""
    if state == State.CANCELLED:
        return literal(f"{prefix}Its user asked to stop it, and no worker answered.")
    since = f"to_char({test.since} at time zone 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')"
    beginning = literal(f"{prefix}{SENTENCES[test.state]} ")
    return f"({beginning} || coalesce({since}, 'a time that no clock tells') || '.')"
