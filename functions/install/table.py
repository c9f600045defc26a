"""A watched table, made once from its description in the policy: its quoted names, its columns with
their types, and SQL that reads a row of it. `row` is the row's alias: t, or old and new in a
trigger.

Mostly a word stands for one state. A flag has two words for all of them, and some tables say `done`
of what failed as well: there the columns that the watch names as `marks` tell the states of one
word apart."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from functions.core.policy import Watch
from functions.core.states import ENDED, State
from functions.install import column_sql
from functions.install.column_sql import Column, identifier, literal, table_identifier
from functions.install.own_limits import GRACE_SECONDS, NOTHING, OwnLimits, earliest, first, latest

ALIASES = {
    "character varying": "varchar",
    "character": "bpchar",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "text[]": "_text",
    "varchar[]": "_varchar",
}
"""How people write a type, and how the catalogue does."""
INDEXED_AS_TEXT = column_sql.TEXTS | column_sql.WHOLE | {"uuid"}
"""The types of which an index can hold the text; that of an enum may change."""
LABEL_CHARACTERS = 300
READ_BYTES = 8_192
"""Of a value that the list reads, as it is stored (compressed)."""
MOST_READ = 20_000
"""So many waiting tasks a look reads for what no index leads to."""


def typed(name: str, text: str) -> Column:
    """A column of a type as the policy writes it: `varchar(64)`, `jsonb not null`, `timestamp at
    Asia/Tokyo`."""
    match = re.fullmatch(r"(.+?)(?:\((\d+)\))?(?:\s+at\s+(\S+))?(\s+not null)?", text)
    assert match is not None, "any text matches"
    type_name, width, zone, not_null = match.groups()
    return Column(
        name,
        ALIASES.get(type_name, type_name),
        int(width) if width else None,
        not_null=bool(not_null),
        zone=zone or "UTC",
    )


class Table:
    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.name = table_identifier(watch.table)
        self.key, self.status = identifier(watch.key), identifier(watch.status)
        times = [*watch.clocks.values(), watch.ended]
        self.clocks = list(dict.fromkeys(name for names in times for name in names))
        self._types = dict.fromkeys(self.clocks, "timestamptz")
        for columns in watch.also.values():
            stamped = (name for name, written in columns.items() if written == "now")
            self._types |= dict.fromkeys(stamped, "timestamptz")
        if "result" in watch.columns:
            self._types.setdefault(watch.columns["result"], "jsonb")
        self._types |= watch.types

    def column(self, name: str) -> Column:
        """The column with the type that the watch states for it, else the usual one of its use."""
        column = typed(name, self._types.get(name, "text"))
        if self.watch.error_keys and name == self.watch.columns.get("error"):
            return replace(column, keys=tuple(self.watch.error_keys.items()))
        return column

    # the state of a row

    def is_in(self, row: str, *states: State) -> str:
        """Whether the row is in one of the states."""
        return self._is_open_or_ended(row, states, [*self._not_deleted(row), *self._not_ended(row)])

    def by_word(self, row: str, *states: State) -> str:
        """The same, whatever the time of its end says: for a task that is held, a trigger, an
        index."""
        return self._is_open_or_ended(row, states, [*self._not_deleted(row)])

    def _is_open_or_ended(self, row: str, states: tuple[State, ...], conditions: list[str]) -> str:
        """`conditions` hold of a row that is open."""
        opened = [state for state in states if state not in ENDED]
        if not conditions or not opened:
            return self._is_in(row, *states)
        ended = [state for state in states if state in ENDED]
        test = " and ".join([self._is_in(row, *opened), *conditions])
        return f"({test} or {self._is_in(row, *ended)})" if ended else f"({test})"

    def _not_ended(self, row: str) -> Iterator[str]:
        """A row whose end time is set is not open, unless there was a sign of life after it: it was
        touched, its next try is due later, a trigger saw it put back, or the guard holds it."""
        for name in self.watch.ended:
            end = self._time(row, name)
            times = [self.clock(row, "alive"), *self._each(row, "started")]
            times += [*self._each(row, "seen"), *self._each(row, "due")]
            later = [f"{time} > {end} + interval '1 minute'" for time in times if time != NOTHING]
            watch, key = literal(self.watch.name), f"{row}.{self.key}::text"
            held = f"where a.watch = {watch} and a.task_id = {key} and a.ended_at is null"
            later += [f"{self._observed(row, 'status_at')} > {end}"]
            later += [f"exists (select from unstuck.attempts a {held})"]
            yield f"({' or '.join([f'({end}) is null', *dict.fromkeys(later)])})"

    def tells_state(self, row: str) -> str:
        """The columns that tell the state of the row, as a list. json as text: it has no
        equality."""
        names = dict.fromkeys([self.watch.status, *self.watch.marks.values(), *self.watch.deleted])
        casts = {name: "::text" if self.column(name).type == "json" else "" for name in names}
        return ", ".join(f"{row}.{identifier(name)}{cast}" for name, cast in casts.items())

    def stops_by_word(self, row: str) -> str:
        """Whether its user asked to stop the task by its status."""
        words = ", ".join(literal(word) for word in self.watch.stopping)
        return f"{row}.{self.status} in ({words})" if words else "false"

    def is_stopping(self, row: str) -> str:
        """Whether its user asked to stop the task."""
        tests = [self.stops_by_word(row)] if self.watch.stopping else []
        tests += [self._is_set(name, row) for name in self.watch.asked_to_stop]
        return f"({' or '.join(tests)})" if len(tests) > 1 else "".join(tests) or "false"

    @property
    def may_be_withdrawn(self) -> bool:
        return bool(self.watch.asked_to_stop) or self._sees_withdrawn

    @property
    def _sees_withdrawn(self) -> bool:
        """Whether a trigger sees that a task waited when its status became one of a stop."""
        return bool(self.watch.stopping) and self.sees_put_back and self.watch.fence != "observe"

    def is_withdrawn(self, row: str) -> str:
        """Whether nobody holds it and its user asked to stop it: it is cancelled, and never run."""
        asked = " or ".join(self._is_set(name, row) for name in self.watch.asked_to_stop)
        waiting = f"({self.is_in(row, State.PENDING)} and ({asked}))" if asked else "false"
        if not self._sees_withdrawn:
            return waiting
        return f"({waiting} or {self.was_withdrawn(row)})"

    def was_withdrawn(self, row: str) -> str:
        """Whether it waited until its status became one of a stop."""
        if not self._sees_withdrawn:
            return "false"
        return f"({self.stops_by_word(row)} and {self._observed(row, 'withdrawn')} is true)"

    def is_claimable(self, row: str) -> str:
        """Whether it waits for a worker."""
        asked = [f"not {self._is_set(name, row)}" for name in self.watch.asked_to_stop]
        tests = [self.is_in(row, State.PENDING), *asked]
        return f"({' and '.join(tests)})" if asked else tests[0]

    def oldest_withdrawn(self) -> str:
        """The keys of those that are withdrawn, of the tasks that have waited for longest: however
        many wait, a sweep reads so many."""
        oldest = f"select w.* from {self.name} w where {self.is_in('w', State.PENDING)}"
        order = f"order by {self.queued_bound('w')} limit {MOST_READ}"
        keys = f"select q.{self.key} from ({oldest} {order}) q where {self.is_withdrawn('q')}"
        if not self._sees_withdrawn:
            return keys
        seen = f"where o.watch = {literal(self.watch.name)} and o.withdrawn"
        seen = f"select o.task_id::{self.watch.key_type} from unstuck.observed o {seen}"
        return f"{keys} union all {seen}" if self.watch.asked_to_stop else seen

    def _not_deleted(self, row: str) -> Iterator[str]:
        for name in self.watch.deleted:
            value = f"{row}.{identifier(name)}" if row else identifier(name)
            yield f"{value} is {'not true' if self.column(name).type == 'bool' else 'null'}"

    def _is_in(self, row: str, *states: State) -> str:
        status = f"{row}.{self.status}" if row else self.status
        words = [(state, word) for state in states for word in self.watch.words[state]]
        plain = [literal(word) for _, word in words if len(self.watch.sharers(word)) == 1]
        tests = [f"{status} in ({', '.join(plain)})"] if plain else []
        if len(plain) == 1:
            tests = [f"{status} = {plain[0]}"]
        for state, word in words:
            if len(self.watch.sharers(word)) > 1:
                marks = self._marks(row, state, word)
                tests.append(" and ".join([f"{status} = {literal(word)}", *marks]))
        if len(tests) == 1 and plain:
            return tests[0]
        return f"({' or '.join(dict.fromkeys(tests))})" if tests else "false"

    def _marks(self, row: str, state: State, word: Any) -> Iterator[str]:
        """Tells the states of one word apart: the mark of this state is set, those of the others
        are not. Where two marks are set, the first state counts."""
        for other in self.watch.sharers(word):
            if other == state and state in self.watch.marks:
                yield self._is_set(self.watch.marks[state], row)
                return
            if other in self.watch.marks:
                yield f"not {self._is_set(self.watch.marks[other], row)}"

    def _is_set(self, name: str, row: str) -> str:
        """Whether a mark is set: a flag that is true, a number that is not 0, a text that is not
        empty, anything else that is not NULL."""
        value = f"{row}.{identifier(name)}" if row else identifier(name)
        return column_sql.is_set(self.column(name), value)

    def state(self, row: str) -> str:
        """The state of the row; NULL for a word that the watch does not know."""
        return self._case(row, self.is_in)

    def state_by_word(self, row: str) -> str:
        return self._case(row, self.by_word)

    def _case(self, row: str, is_in: Callable[..., str]) -> str:
        states = [state for state in State if self.watch.words[state]]
        cases = (f"when {is_in(row, state)} then {literal(str(state))}" for state in states)
        return f"case {' '.join(cases)} end"

    # what a row says

    def value(self, row: str, role: str, absent: str) -> str:
        """The column of a role (`columns` of the watch), or what stands in its place."""
        name = self.watch.columns.get(role)
        return f"{row}.{identifier(name)}" if name else absent

    def text(self, row: str, role: str) -> str:
        """The same as text; cast only where the column is of another type."""
        cast = "::text" if self.watch.columns.get(role) in self.watch.types else ""
        return self.value(row, role, "null::text") + cast

    def label(self, row: str) -> str:
        """What tells a person which task it is: by the rule of its kind."""
        rules = self.watch.rules
        usual = self._at_path(row, rules["*"].label)
        cases = [
            f"when {literal(kind)} then {self._at_path(row, rule.label)}"
            for kind, rule in rules.items()
            if rule.label != rules["*"].label
        ]
        label = f"case {self.kind(row)} {' '.join(cases)} else {usual} end" if cases else usual
        return f"left({label}, {LABEL_CHARACTERS})"

    def _at_path(self, row: str, path: str) -> str:
        """A value of the row as text; NULL where there is none. A large one is not read: the list
        would have to fetch it whole for each row."""
        name, *keys = path.split(".")
        if not name:
            return "null::text"
        column = f"{row}.{identifier(self.watch.columns.get(name, name))}"
        keys_literal = literal("{" + ",".join(f'"{key}"' for key in keys) + "}")
        value = f"to_jsonb({column}) #>> {keys_literal}" if keys else f"{column}::text"
        return f"case when pg_column_size({column}) <= {READ_BYTES} then {value} end"

    def searched(self, row: str) -> str:
        """The input as text, where it is small enough to search in it."""
        name = self.watch.columns.get("input")
        if not name:
            return "null::text"
        column = f"{row}.{identifier(name)}"
        return f"case when pg_column_size({column}) <= {READ_BYTES} then {column}::text end"

    def kind(self, row: str) -> str:
        """The kind of the row; '' where a table that is not our own has none."""
        if "kind" not in self.watch.columns:
            return "''::text"
        kind = self.text(row, "kind")
        return kind if self.watch.own else f"coalesce({kind}, '')"

    def own_attempts(self, row: str) -> str:
        """How many attempts the row states for itself. A task that can't be put back has one."""
        if not self.watch.may_wait:
            return "null::integer"
        return self._count(row, "attempts_at_most", "retries_at_most")

    def attempts(self, row: str) -> str:
        """Which attempt runs, as the table counts, where a row has a limit to it."""
        limited = self.own_attempts(row) != "null::integer"
        return self._count(row, "attempts", "retries") if limited else "null::integer"

    def counted(self, row: str) -> str:
        """How many attempts a task that waits has had, as `attempts`."""
        return self.attempts(row).removesuffix(" + 1")

    def _count(self, row: str, attempts: str, retries: str) -> str:
        if attempts in self.watch.columns:
            return f"{self.value(row, attempts, '')}::integer"
        if retries in self.watch.columns:
            return f"{self.value(row, retries, '')}::integer + 1"
        return "null::integer"

    # the times of a row

    def clock(self, row: str, *clocks: str) -> str:
        """The first of the clocks' columns that is not NULL."""
        names = dict.fromkeys(name for clock in clocks for name in self.watch.clocks.get(clock, ()))
        times = [self._time(row, name) for name in names]
        if not times:
            return "null::timestamptz"
        return times[0] if len(times) == 1 else f"coalesce({', '.join(times)})"

    def _time(
        self, row: str, name: str, read: Callable[[Column, str], str] = column_sql.moment
    ) -> str:
        """A clock; `workers.last_heartbeat via worker_id=id` is in another table."""
        match = re.fullmatch(r"(\S+)\.(\w+) via (\w+)=(\w+)", name)
        if match is None:
            return read(self.column(name), row)
        table, column, ours, theirs = match.groups()
        stated = typed(column, self._types.get(f"{table}.{column}", "timestamptz"))
        joined = f"o.{identifier(theirs)} = {row}.{identifier(ours)}"
        other = table_identifier(table)
        return f"(select {read(stated, 'o')} from {other} o where {joined})"

    def _observed(self, row: str, column: str) -> str:
        """What an observing trigger saw of the row."""
        watch, key = literal(self.watch.name), f"{row}.{self.key}::text"
        source = f"from unstuck.observed o where o.watch = {watch} and o.task_id = {key}"
        return f"(select o.{column} {source})"

    def queued_bound(self, row: str) -> str:
        """When the task was queued, by its columns alone, so that an index can have it; by what a
        trigger saw where there is no such column."""
        if self.watch.clocks.get("queued"):
            return self.clock(row, "queued")
        return self._observed(row, "status_at")

    def alive_bound(self, row: str) -> str:
        """When the task was last seen alive: as `queued_bound`."""
        if self.limits_itself:
            return self._last_moment(row)
        if self.watch.clocks.get("alive"):
            return self.clock(row, "alive")
        return self._observed(row, "touched_at")

    @property
    def limits_itself(self) -> bool:
        """Whether rows state limits of their own, so that no clock alone is a bound."""
        clocks = self.watch.clocks
        return bool(self.watch.per_row or clocks.get("lease") or clocks.get("deadline"))

    def _last_moment(self, row: str) -> str:
        """The last sign of life; where the row states a limit of its own, the time by which
        `silent_for` of the rule, as it was when this was rendered, ends it at that limit."""
        alive = [self.clock(row, "alive")] if self.watch.clocks.get("alive") else []
        alive += self._seen_by_trigger(row)
        since = latest([*alive, *self._each(row, "seen")])
        own = OwnLimits(
            deadline=first(self._each(row, "deadline")),
            run=first(self._lengths(row, "run_for")),
            silence=first(self._lengths(row, "silent_for")),
            lease=latest(self._each(row, "lease")),
        )
        if not own.stated:
            return since
        start = latest([self.clock(row, "started", "alive"), *self._taken(row)])
        grace = f"make_interval(secs => {GRACE_SECONDS})"
        end = earliest(end for _, end in own.ends(since, start, alive, grace))
        silent = f"make_interval(secs => {self._silent_for(row)})"
        return f"case when {own.unstated} then {since} else {end} - {silent} end"

    def _each(self, row: str, clock: str) -> list[str]:
        return [self._time(row, name) for name in self.watch.clocks.get(clock, ())]

    def _lengths(self, row: str, limit: str) -> list[str]:
        return [
            column_sql.interval(self.column(name), unit, row)
            for name, unit in self.watch.per_row.get(limit, {}).items()
        ]

    def _silent_for(self, row: str) -> str:
        """The seconds of the rule of the row's kind."""
        usual = self.watch.rule("*").silent_for
        cases = [
            f"when {literal(kind)} then {rule.silent_for:g}"
            for kind, rule in self.watch.rules.items()
            if rule.silent_for != usual
        ]
        if not cases:
            return f"{usual:g}"
        return f"case {self.kind(row)} {' '.join(cases)} else {usual:g} end"

    def queued(self, row: str) -> str:
        """Since when the task waits: since it was queued, its next try was due, or somebody put it
        back. Where no column has these times the ledger does, or what a trigger saw."""
        queued, due = self.watch.clocks.get("queued", ()), self.watch.clocks.get("due", ())
        times = [self.queued_bound(row)]
        if not due:
            times = [self.due(row)]
        elif due[0] not in queued:
            times.append(self.clock(row, "due"))
        elif not self.watch.own:  # one may be born with a due time that has passed
            times += self._each(row, "queued")
        times += [*self._each(row, "lease"), *self._each(row, "seen")]
        if self.sees_put_back and queued:
            times.append(first([self._observed(row, "status_at"), *self._put_back(row)]))
        return latest(dict.fromkeys(times))

    def _put_back(self, row: str) -> list[str]:
        """When the task may have been put back before a trigger saw it: a task that was tried, at
        its last sign of life. Where nothing counts the tries, at each write."""
        raised = [name for name, written in self._also(State.RUNNING) if written == "raise"]
        counts = [name for name in raised if (name, "raise") not in self._also(State.PENDING)]
        if not counts:
            return self._each(row, "touched")
        if not self.watch.clocks.get("alive"):
            return []
        tried = f"{row}.{identifier(counts[0])} > 0"
        return [f"case when {tried} then {self.clock(row, 'alive')} end"]

    def _also(self, state: State) -> list[tuple[str, str]]:
        return list(self.watch.also.get(state, {}).items())

    def due(self, row: str) -> str:
        """From when on the task may be claimed."""
        if self.watch.clocks.get("due"):  # of several the latest counts
            queued = self._earliest(row, "queued")
            return first(dict.fromkeys([latest(self._earliest(row, "due")), *queued]))
        watch, key = literal(self.watch.name), f"{row}.{self.key}::text"
        attempts = f"from unstuck.attempts a where a.watch = {watch} and a.task_id = {key}"
        retry = f"(select a.retry_at {attempts} order by a.number desc limit 1)"
        queued = self._earliest(row, "queued") or [self.queued_bound(row)]
        return f"greatest({first(dict.fromkeys(queued))}, {retry})"

    def _earliest(self, row: str, clock: str) -> list[str]:
        names = self.watch.clocks.get(clock, ())
        return [self._time(row, name, column_sql.earliest) for name in names]

    @property
    def sees_put_back(self) -> bool:
        """Whether unstuck.observed has the time at which a task was put back, or taken outside the
        guard: no column of another application's table is sure to tell it. `create` and the fence
        see to our own."""
        return not self.watch.own and self.watch.may_wait

    def alive(self, row: str) -> str:
        """When the task was last seen alive. One that another application's worker holds by a due
        time that lies ahead is silent only from then on: it counts as seen so that `silent_for` of
        the rule ends at that time."""
        alive = self._last_sign(row)
        if self.watch.own or not self.watch.clocks.get("due"):
            return alive
        silent = f"make_interval(secs => {self._silent_for(row)})"
        return latest([alive, *(f"{due} - {silent}" for due in self._earliest(row, "due"))])

    def _last_sign(self, row: str) -> str:
        if self.limits_itself or self.watch.clocks.get("seen"):
            return self._last_moment(row)
        if self.watch.clocks.get("alive"):
            return latest([self.alive_bound(row), *self._seen_by_trigger(row)])
        return self.alive_bound(row)

    def _seen_by_trigger(self, row: str) -> list[str]:
        """What a trigger knows of the last sign of life."""
        if self.watch.fence == "observe" or not self.watch.clocks.get("alive"):
            return [self._observed(row, "touched_at")]
        return self._taken(row)

    def _taken(self, row: str) -> list[str]:
        """When a worker outside the guard took the task: its age must not count from the time at
        which it began to wait, which may be all that its columns tell."""
        sees = self.sees_put_back and self.watch.fence != "observe"
        return [self._observed(row, "status_at")] if sees else []

    def claimed_columns(self, row: str) -> str:
        """What a claim has to know of the task that it takes."""
        columns = {
            "key": f"{row}.{self.key}",
            "id": f"{row}.{self.key}::text",
            "kind": self.kind(row),
            "input": self.value(row, "input", f"to_jsonb({row})"),
            "owner": self.text(row, "owner"),
            "counted": self.counted(row),
        }
        return ", ".join(f"{value} as {name}" for name, value in columns.items())

    def claim_order(self, row: str) -> str:
        """The most urgent first, then the oldest; in our own table by turn, so that no owner waits
        for all tasks of another."""
        turn = self.queued_bound(row)
        if self.watch.own:
            turn = f"coalesce({row}.turn, {turn})"
        return ", ".join([*self.urgency(row), turn])

    def is_less_urgent(self, row: str, other: str) -> str:
        sign = ">" if self.watch.urgent == "lowest" else "<"
        return f"{self._priority(row)} {sign} {self._priority(other)}"

    def is_as_urgent(self, row: str, other: str) -> str:
        if "priority" not in self.watch.columns:
            return "true"
        return f"{self._priority(row)} = {self._priority(other)}"

    def priority_text(self, row: str) -> str:
        return f"{self._priority(row)}::text"

    def owner_or_none(self, row: str) -> str:
        """The owner of a row; '' where it has none."""
        return f"coalesce({self.text(row, 'owner')}, '')"

    def _priority(self, row: str) -> str:
        """The priority of a row; one that has none has 0."""
        name = self.watch.columns.get("priority")
        if not name:
            return "0"
        value = f"{row}.{identifier(name)}"
        if self.watch.own or self.column(name).not_null:
            return value
        return f"coalesce({value}, '0')"

    def urgency(self, row: str) -> list[str]:
        if "priority" not in self.watch.columns:
            return []
        order = "asc" if self.watch.urgent == "lowest" else "desc"
        return [f"{self._priority(row)} {order}"]

    @property
    def can_lose_result(self) -> bool:
        """Whether the column of the result may be empty."""
        name = self.watch.columns.get("result")
        return name is not None and not self.column(name).not_null

    def without_result(self, row: str) -> str:
        """The assignment that empties the result; where that cannot be, one that changes
        nothing."""
        name = self.watch.columns.get("result")
        if name is None or not self.can_lose_result:
            return f"{self.key} = {row}.{self.key}"
        return f"{identifier(name)} = null"

    def claim_index(self, *, by_kind: bool) -> str | None:
        """What an index has to hold for a claim of the next task, of one kind or of any. None where
        no index can: a time that another table has."""
        kinds = [f"({self.kind('t')})"] if by_kind else []
        return self._index([*kinds, *self.urgency("t")])

    @property
    def rotates(self) -> bool:
        """Whether a claim sees to the turns of the owners: in our own table a trigger does."""
        return not self.watch.own and self.watch.may_wait and "owner" in self.watch.columns

    @property
    def rotation_index(self) -> str | None:
        """What an index has to hold for a claim by turns: by kind, priority and owner the oldest.
        None where no index can."""
        roles = [role for role in ("kind", "owner") if role in self.watch.columns]
        types = {self.column(self.watch.columns[role]).type for role in roles}
        if not types <= INDEXED_AS_TEXT:
            return None
        kinds = [f"({self.kind('t')})"] if "kind" in roles else []
        return self._index([*kinds, *self.urgency("t"), f"({self.owner_or_none('t')})"])

    @property
    def rotation_name(self) -> tuple[str, str]:
        """The name by which a claim knows that index, after its schema with a dot."""
        bare = column_sql.bare_name(self.watch.table)
        schema = self.name.removesuffix(identifier(bare))
        return schema, identifier(f"{bare}_rotation")

    def _index(self, columns: list[str]) -> str | None:
        queued = self.queued_bound("t")
        if "select" in queued:
            return None
        return ", ".join([*columns, f"({queued})"]).replace('t."', '"')

    def is_free(self, row: str, ids: str) -> str:
        """Whether the task may be started again, with those of `ids`, beside the others of its kind
        and owner: not where only one of them may be open."""
        if not self.watch.own:
            return "true"
        same = f"o.kind = {row}.kind and coalesce(o.owner, '') = coalesce({row}.owner, '')"
        other = f"from {self.name} o where o.one_active and {same}"
        is_open = " or ".join(self.is_in("o", state) for state in (State.PENDING, State.RUNNING))
        ended = self.is_in("o", State.FAILED, State.CANCELLED)
        before = f"o.id = any ({ids}::uuid[]) and o.id < {row}.id and {ended}"
        taken = [f"exists (select {other} and {test})" for test in (f"({is_open})", before)]
        return f"not ({row}.one_active and ({' or '.join(taken)}))"
