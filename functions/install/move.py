"""What the SQL writes into a row of a watched table when its task moves: the assignments of an
`update`, by the decision about it (state, result, reason, error, retry_at)."""

from collections.abc import Iterator

from functions.core.states import State
from functions.core.watch import CONSTANT
from functions.install import column_sql
from functions.install.column_sql import Column, identifier, literal
from functions.install.table import Table

WRITTEN = (State.PENDING, State.COMPLETED, State.FAILED, State.CANCELLED)


class Move:
    """The assignments that move the task `row` to where `decision` says; both are aliases."""

    def __init__(self, table: Table, row: str, decision: str = "") -> None:
        self.table, self.watch, self.row, self.decision = table, table.watch, row, decision

    def assignments(self) -> str:
        written = {self.watch.status: self._status()}
        for role in ("error", "reason"):
            if role in self.watch.columns:
                written[self.watch.columns[role]] = self._message(role)
        if "result" in self.watch.columns:
            written[self.watch.columns["result"]] = self._result()
        written |= self._times()
        for state in WRITTEN:
            for name, content in self.watch.also.get(state, {}).items():
                otherwise = written.get(name, self._old(name))
                written[name] = self._case([state], self._content(name, content), otherwise)
        written |= dict(self._marks())
        return _set(written, ",\n    ")

    def to_running(self, time: str, worker: str) -> str:
        """The assignments of a claim."""
        written = {self.watch.status: literal(self.watch.words[State.RUNNING][0])}
        for name in (
            *self.watch.clocks.get("started", ())[:1],
            *self.watch.clocks.get("touched", ()),
        ):
            written[name] = self._stamp(name, time)
        for name, content in self.watch.also.get(State.RUNNING, {}).items():
            written[name] = worker if content == "worker" else self._content(name, content)
        return _set(written, ", ")

    def _old(self, name: str) -> str:
        return f"{self.row}.{identifier(name)}"

    def _case(self, states: list[State], value: str, otherwise: str) -> str:
        listed = ", ".join(literal(str(state)) for state in states)
        test = f"= {listed}" if len(states) == 1 else f"in ({listed})"
        return f"case when {self.decision}.state {test} then {value} else {otherwise} end"

    def _status(self) -> str:
        failed = literal(self.watch.words[State.FAILED][0])
        states = [state for state in WRITTEN if self.watch.words[state] and state != State.FAILED]
        cases = " ".join(
            f"when {literal(str(state))} then {literal(self.watch.words[state][0])}"
            for state in states
        )
        word = f"case {self.decision}.state {cases} else {failed} end" if cases else failed
        kind = self.table.column(self.watch.status).type
        if kind in column_sql.TEXTS | column_sql.NUMBERS | {"bool"}:
            return word
        return f"({word})::{identifier(*kind.split('.'))}"  # an enum does not take a CASE's text

    def _message(self, role: str) -> str:
        """The sentence or the code of a failure, as its column takes it; what is there stays where
        it can't be taken away."""
        column = self.table.column(self.watch.columns[role])
        reason = f"{self.decision}.reason"
        text = column_sql.note(column, f"{self.decision}.{role}", reason, self.row) or "null"
        failed = f"case {self.decision}.state when 'failed' then {text}"
        listed = column.type in column_sql.JSONS | column_sql.TEXT_LISTS
        if listed or column.name.lower().endswith(("log", "logs")):
            return f"{failed} else {self._old(column.name)} end"
        absent = column_sql.nothing(column)
        return f"{failed} end" if absent in {None, "null"} else f"{failed} else {absent} end"

    def _result(self) -> str:
        column = self.table.column(self.watch.columns["result"])
        cast = "" if column.type == "jsonb" else f"::{column.type}"
        completed = f"when 'completed' then {self.decision}.result{cast}"
        return f"case {self.decision}.state {completed} else {self._old(column.name)} end"

    def _times(self) -> dict[str, str]:
        clocks, times = self.watch.clocks, {}
        for due in clocks.get("due", ())[:1]:
            retry = self._stamp(due, f"{self.decision}.retry_at")
            times[due] = f"coalesce({retry}, {self._old(due)})"
        if self.watch.own:  # one that had ended and is put back has no turn of the past
            ended = self.table.is_in(self.row, State.COMPLETED, State.FAILED, State.CANCELLED)
            is_back = f"{self.decision}.state = 'pending' and {ended}"
            times["turn"] = f"case when {is_back} then null else {self.row}.turn end"
        for finished in clocks.get("finished", ())[:1]:
            now = self._stamp(finished, "clock_timestamp()")
            absent = self._not_ended(finished)
            times[finished] = f"case when {self.decision}.state <> 'pending' then {now}{absent} end"
        for touched in clocks.get("touched", ()):
            times[touched] = self._stamp(touched, "clock_timestamp()")
        return times

    def _not_ended(self, finished: str) -> str:
        """What an open row has for the time of its end, where that cannot be NULL: 0 in a number,
        which says "never" there, else what is there."""
        column = self.table.column(finished)
        if not column.not_null:
            return ""
        is_number = column.type in column_sql.NUMBERS
        return f" else {0 if is_number else self._old(finished)}"

    def _marks(self) -> Iterator[tuple[str, str]]:
        """Each mark is set by the move to its state, and taken away by any other."""
        for state, name in self.watch.marks.items():
            column = self.table.column(name)
            note = column_sql.note(
                column, f"{self.decision}.error", f"{self.decision}.reason", self.row
            )
            mark = note or self._stamp(name, "clock_timestamp()")
            absent = column_sql.nothing(column) or self._old(name)
            cancelled = state == State.FAILED and not self.watch.words[State.CANCELLED]
            states = [state, State.CANCELLED] if cancelled else [state]
            yield name, self._case(states, "true" if column.type == "bool" else mark, absent)

    def _content(self, name: str, content: str) -> str:
        """What `also` of the watch writes into a column."""
        column = self.table.column(name)
        if content.startswith(CONSTANT):
            return _constant(column, content.removeprefix(CONSTANT))
        match content:
            case "now":
                return self._stamp(name, "clock_timestamp()")
            case "raise":
                return column_sql.raised(column, self.row)
            case "note":
                error = f"{self.decision}.error"
                reason = f"{self.decision}.reason"
                return column_sql.note(column, error, reason, self.row) or "null"
            case _:
                return "false" if column.type == "bool" else "null"

    def _stamp(self, name: str, time: str) -> str:
        """`time` (a timestamptz) as the clock's column takes it."""
        column = self.table.column(name)
        others = tuple(self.table.column(other) for other in self.table.clocks)
        stamp = column_sql.stamp(column, others, self.row)
        return (stamp or "null").replace("now()", time)


def _constant(column: Column, text: str) -> str:
    if column.type == "bool":
        return "true" if text == "true" else "false"
    if column.type in column_sql.TEXTS:
        return literal(text)
    return f"{literal(text)}::{identifier(*column.type.split('.'))}"


def _set(written: dict[str, str], separator: str) -> str:
    return separator.join(f"{identifier(name)} = {value}" for name, value in written.items())
