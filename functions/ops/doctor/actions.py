"""The actions that doctor tries, each as the verb that does it, and the task that it tries them on.

An action raises psycopg.Error when the database refuses, Refused when the task does not end where
it should (a trigger that keeps it), and Unfit when there is nothing to try it on."""

import json
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psycopg

from functions.core.policy import Watch
from functions.core.states import ENDED, State
from functions.install.column_sql import identifier, literal
from functions.install.table import Table
from functions.ops.inspect.session import Connection

WORKER = "doctor"
SENTENCE = "The doctor tried whether a long sentence about a failure fits into this column. " * 4


class Refused(Exception):  # noqa: N818 - what the table did
    """No error, but the task is not where the action should have brought it."""


class Unfit(Exception):  # noqa: N818 - as above
    """There is no task on which the action could be tried."""


class Bench:
    """A watch and the connection on which its actions are tried."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self.connection, self.watch, self.table = connection, watch, Table(watch)
        self._keys: dict[tuple[State, object], str] = {}

    def verb(self, verb: str, **arguments: Any) -> Any:
        named = ", ".join(f"{name} => %s" for name in arguments)
        query = f"select unstuck.{self.watch.name}_{verb}({named})"
        row = self.connection.execute(query.encode(), tuple(arguments.values())).fetchone()
        return row[0] if row else None

    def fetch_row(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        return self.connection.execute(query.encode(), values or None).fetchone()

    def locked_task(self, state: State, word: object) -> str:
        """A task of this word, locked. Where there is none, another is made to look like one, or a
        new one."""
        query = f"select t.{self.table.key}::text from {self.table.name} t"
        where = f"t.{self.table.status} = {literal(word)} and {self.table.is_in('t', state)}"
        if (state, word) in self._keys:  # without an index each search would read the whole table
            where = f"{self._is(self._keys[state, word])} and {where}"
        row = self.fetch_row(f"{query} where {where} limit 1 for update skip locked")
        if row is not None:
            self._keys[state, word] = row[0]
        else:
            try:
                with self.connection.transaction():
                    row = self._make_task(f"{query} limit 1 for update skip locked", state, word)
            except psycopg.Error as error:
                why = error.diag.message_primary or error
                raise Unfit(f"there is none, and none can be made up ({why})") from None
        task = str(row[0]) if row else ""
        if len(self.watch.sharers(word)) > 1 and self.state(task) != state:
            raise Unfit(f"there is none that is {state}, and a word alone does not make it so")
        self.expect(task, state)
        return task

    def _is(self, key: str) -> str:
        return f"t.{self.table.key} = {literal(key)}::{self.watch.key_type}"

    def _make_task(self, another: str, state: State, word: object) -> tuple[Any, ...] | None:
        status, table = self.table.status, self.table.name
        row = self.fetch_row(another)
        if row is None and self.watch.own:
            kind = next((kind for kind in self.watch.rules if kind != "*"), WORKER)
            created = self.verb(
                "create",
                p_kind=kind,
                p_input="{}",
                p_owner=None,
                p_key=None,
                p_priority=0,
                p_delay=0.0,
                p_metadata="{}",
                p_id=str(uuid.uuid4()),
            )
            row = (created["task_id"],)
        if row is None:
            return self.fetch_row(
                f"insert into {table} ({status}) values ({literal(word)}) "
                f"returning {self.table.key}::text"
            )
        self._as_operator(True)
        assignment = f"{status} = {literal(word)}"
        if state not in ENDED:  # a row with the time of its end counts as ended
            assignment += "".join(f", {identifier(name)} = null" for name in self.watch.ended)
        self.fetch_row(f"update {table} t set {assignment} where {self._is(row[0])} returning 1")
        self._as_operator(False)
        self.fetch_row(
            "update unstuck.attempts set ended_at = clock_timestamp(), outcome = 'overtaken' "
            "where watch = %s and task_id = %s and ended_at is null returning 1",
            self.watch.name,
            row[0],
        )
        return row

    def _as_operator(self, on: bool) -> None:
        """The fence lets a person pass."""
        self.fetch_row(
            "select set_config('unstuck.override', %s, true)", self.watch.name if on else ""
        )

    def state(self, task: str) -> str | None:
        return self.fetch_value(self.table.state("t"), task)

    def fetch_value(self, expression: str, task: str) -> Any:
        query = f"select {expression} from {self.table.name} t where {self._is(task)}"
        row = self.fetch_row(query)
        return row[0] if row else None

    def expect(self, task: str, *states: str) -> None:
        if (state := self.state(task)) not in states:
            raise Refused(
                f"the task is {state or 'of no known word'} afterwards, not {' or '.join(states)}"
            )


def _claim(bench: Bench, task: str) -> str:
    arguments = {
        "p_task": task,
        "p_worker": WORKER,
        "p_rules": bench.watch.rules_json,
        "p_token": str(uuid.uuid4()),
    }
    answer = bench.verb("claim", **arguments)
    if answer["verdict"] in {"early", "held"} and bench.watch.may_wait:
        # not due yet, or held by another attempt: it is put back as a person would do it
        bench.verb("operate", p_action="fail", p_ids=[task])
        bench.verb("operate", p_action="retry", p_ids=[task])
        answer = bench.verb("claim", **arguments)
    if answer["verdict"] != "claimed":
        raise Unfit(f"its claim answers {answer['verdict']}")
    bench.expect(task, State.RUNNING)
    return arguments["p_token"]


def _settle(outcome: str, bench: Bench, task: str) -> None:
    token = _claim(bench, task)
    arguments: dict[str, dict[str, Any]] = {
        "complete": {"p_result": json.dumps({"doctor": True})},
        "fail": {"p_reason": "handler_error", "p_error": SENTENCE},
        "retry": {"p_reason": "transient", "p_delay": 60.0},
        "release": {"p_reason": "shutdown"},
    }
    answer = bench.verb(
        "settle",
        p_task=task,
        p_token=token,
        p_outcome=outcome,
        p_rules=bench.watch.rules_json,
        **arguments[outcome],
    )
    if answer["verdict"] != "settled":
        raise Refused(f"the settle answers {answer['verdict']}")
    bench.expect(task, *_alike(bench.watch, State(answer["state"])))


def _sweep(was: State, to: State, bench: Bench, task: str) -> None:
    """What `apply` does with a decision of the sweep."""
    kind = bench.fetch_value(bench.table.kind("t"), task)
    number, tries, is_open = bench.fetch_row(
        "select number, tries, ended_at is null from unstuck.attempts "
        "where watch = %s and task_id = %s order by number desc limit 1",
        bench.watch.name,
        task,
    ) or (0, 0, False)
    live = was == State.RUNNING and is_open
    cause = "never_claimed" if was == State.PENDING else "stale"
    reason = "attempts_exhausted" if (was, to) == (State.RUNNING, State.FAILED) else cause
    bench.fetch_row(
        f"select unstuck.{bench.watch.name}_apply(clock_timestamp(), array[row("
        "%s, %s, %s, %s, %s, %s, null, %s, %s, %s, unstuck.sentence(%s, %s, 3), %s, 1"
        ")::unstuck.overdue], null)",
        task,
        kind or "",
        str(was),
        live,
        number + (not live),
        tries + (not live),
        str(to),
        reason,
        cause,
        reason,
        cause,
        60.0 if to == State.PENDING else None,
    )
    bench.expect(task, *_alike(bench.watch, to))


def _alike(watch: Watch, state: State) -> tuple[str, ...]:
    """A flag says the same of both ends: by the table it is then completed."""
    return (state, State.COMPLETED) if watch.ends_alike and state == State.FAILED else (state,)


def _by_hand(action: str, bench: Bench, task: str) -> None:
    bench.verb("operate", p_action=action, p_ids=[task])
    ends = {
        "cancel": (State.CANCELLED if bench.watch.words[State.CANCELLED] else State.FAILED),
        "fail": State.FAILED,
    }
    bench.expect(task, *_alike(bench.watch, ends.get(action, State.PENDING)))


Action = Callable[[Bench, str], object]
Actions = Mapping[str, Action]
RUNS: Actions = {
    "claim": _claim,
    **{
        f"claim and {outcome}": partial(_settle, outcome)
        for outcome in ("complete", "fail", "retry", "release")
    },
}
"""What a worker does with a task that waits; where rows are born running, with one that nobody
holds."""


def actions(watch: Watch) -> Mapping[State, Actions]:
    """Those that the words of the watch make possible, by the state of the task."""
    retry: Actions = {"retry": partial(_by_hand, "retry")} if watch.may_wait else {}
    runs = RUNS if watch.words[State.COMPLETED] else {}
    back: Actions = {
        "sweep to pending": partial(_sweep, State.RUNNING, State.PENDING),
        "requeue": partial(_by_hand, "requeue"),
    }
    hands = {action: partial(_by_hand, action) for action in ("fail", "cancel")}
    return {
        State.PENDING: {
            **runs,
            "sweep to failed": partial(_sweep, State.PENDING, State.FAILED),
            **hands,
        },
        State.RUNNING: {
            **({} if watch.may_wait else runs),
            "sweep to failed": partial(_sweep, State.RUNNING, State.FAILED),
            **(back if watch.may_wait else {}),
            **hands,
        },
        State.FAILED: retry,
        State.CANCELLED: retry,
        State.RESTING: {"cancel": partial(_by_hand, "cancel")},
    }
