"""What each `@name@` of the templates stands for, for one watched table."""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial

from functions.core.policy import Watch
from functions.core.states import State
from functions.install.column_sql import bare_name, identifier, literal
from functions.install.move import Move
from functions.install.table import Table

Value = str | Callable[..., str]
INDEXES = (
    "pending",
    "running",
    "claim",
    "owner",
    "idempotency",
    "one_active",
    "kinds",
    "turn",
    "kind_turn",
    "owner_turn",
    "finished",
    "ended",
    "result",
)
SECTIONS = ("stuck", "running", "pending", "ended", "by_key", "range")
"""Of the operators' page, by number: an answer of page.sql carries it to the next question."""

_NAME = re.compile(r"'@(\w+)@'|@(\w+)@|@(\w+)\(([^@]*)\)@")


def fill_in(text: str, names: Mapping[str, Value]) -> str:
    """A template with its names filled in. Raises KeyError for a name that is not in `names`."""

    def filled(match: re.Match[str]) -> str:
        quoted, bare, function, arguments = match.groups()
        if quoted:
            return literal(names[quoted])
        value = names[bare or function]
        if isinstance(value, str):
            return value
        return value(*re.findall(r"[^,\s]+", arguments))

    return _NAME.sub(filled, text)


def names(watch: Watch) -> dict[str, Value]:
    table = Table(watch)
    return {**_words(table), **_of_a_row(table), **_of_a_move(table), **_hooks(table)}


def _words(table: Table) -> dict[str, Value]:
    watch = table.watch
    bare = bare_name(watch.table)
    role = f"perform set_config('request.jwt.claim.role', {literal(watch.jwt_role)}, true);"
    return {
        "watch": watch.name,
        "installation": watch.installation,
        "rehearses": literal(watch.fence == "observe"),
        "table": table.name,
        "in_schema": table.name.removesuffix(identifier(bare)),
        "retains": literal((watch.own or watch.deletes) and bool(watch.clocks.get("finished"))),
        "has_result": literal(table.can_lose_result),
        "has_priority": literal("priority" in watch.columns),
        "has_kinds": literal("kind" in watch.columns),
        "rotates": literal(table.rotates),
        "rotation_index": literal("".join(table.rotation_name) if table.rotation_index else None),
        "table_literal": literal(table.name),
        "key": table.key,
        "key_type": watch.key_type,
        "status": table.status,
        "is_own": literal(watch.own),
        "born_running": literal(not watch.may_wait),
        "only_swept": literal(not watch.words[State.COMPLETED]),
        "ends_alike": literal(watch.ends_alike),
        "may_be_asked": literal(table.may_be_withdrawn),
        "routes": json.dumps(watch.routes),
        "told_outcomes": _told_outcomes(watch),
        "tells_always": literal(watch.notify is True),
        "has_callback": literal("callback" in watch.columns),
        "sees_put_back": literal(table.sees_put_back),
        # our own table has the index of its claims, so that no plan of theirs is dear
        "without_jit": "" if watch.own else "set jit = off",
        # for triggers that let nobody but Supabase's service role write a column
        "as_role": role if watch.jwt_role else "null;",
        "status_check": identifier(f"{bare}_status_check"),
        **{f"{index}_index": identifier(f"{bare}_{index}") for index in INDEXES},
        **{f"section_{name}": str(number) for number, name in enumerate(SECTIONS)},
    }


def _told_outcomes(watch: Watch) -> str:
    """How an attempt ends of which anybody is told, of whatever kind."""
    outcomes = {outcome for routes in watch.routes.values() for outcome in routes}
    return ", ".join(map(literal, sorted(outcomes))) or "null"


def _of_a_row(table: Table) -> dict[str, Value]:
    """Expressions that take the alias of their row."""

    def is_in(*states: State) -> Callable[[str], str]:
        return lambda row: table.is_in(row, *states)

    def created(row: str) -> str:
        return f"{row}.created_at" if table.watch.own else table.queued_bound(row)

    def cost(row: str) -> str:
        return f"({row}.metadata ->> 'cost')::bigint" if table.watch.own else "null::bigint"

    def parent(row: str) -> str:
        return f"{row}.metadata ->> 'parent'" if table.watch.own else "null::text"

    return {
        "state": table.state,
        "state_by_word": table.state_by_word,
        "runs_by_word": lambda row: table.by_word(row, State.RUNNING),
        "waits_by_word": lambda row: table.by_word(row, State.PENDING),
        **{f"is_{state}": is_in(state) for state in State},
        "is_stopping": table.is_stopping,
        "is_claimable": table.is_claimable,
        "is_withdrawn": table.is_withdrawn,
        "was_withdrawn": table.was_withdrawn,
        "stops_by_word": table.stops_by_word,
        "oldest_withdrawn": table.oldest_withdrawn,
        "tells_state": table.tells_state,
        "has_ended": is_in(State.COMPLETED, State.FAILED, State.CANCELLED),
        "is_waiting": lambda row: table.by_word(row, State.PENDING, State.RESTING),
        "kind": table.kind,
        "label": table.label,
        "searched": table.searched,
        "owner": partial(table.text, role="owner"),
        "owner_or_none": table.owner_or_none,
        "error": partial(table.text, role="error"),
        "reason": partial(table.text, role="reason"),
        "input": lambda row: table.value(row, "input", f"to_jsonb({row})"),
        "result": lambda row: table.value(row, "result", "null::jsonb"),
        "cost": cost,
        "parent": parent,
        "callback": partial(table.text, role="callback"),
        "created": created,
        "queued": table.queued,
        "queued_bound": table.queued_bound,
        "due": table.due,
        "finished": lambda row: table.clock(row, "finished"),
        "no_result": table.without_result,
        "started": lambda row: table.clock(row, "started"),
        "alive": table.alive,
        "alive_bound": table.alive_bound,
        "claim_order": table.claim_order,
        "is_less_urgent": table.is_less_urgent,
        "is_as_urgent": table.is_as_urgent,
        "urgency": lambda row: ", ".join(table.urgency(row)) or "null::text",
        "priority_text": table.priority_text,
        "is_free": table.is_free,
        "own_attempts": table.own_attempts,
        "attempts": table.attempts,
        "counted": table.counted,
        "claimed_columns": table.claimed_columns,
    }


def _of_a_move(table: Table) -> dict[str, Value]:
    return {
        "move": lambda row, decision: Move(table, row, decision).assignments(),
        "start": lambda row, time, worker: Move(table, row).to_running(time, worker),
        "end_differs": partial(_end_differs, table),
        "keep_finish": partial(_keep_finish, table),
        "now_due": partial(_now_due, table),
    }


def _end_differs(table: Table, old: str, new: str) -> str:
    """Whether two rows differ in what says how the task ended. json as text: it has no equality."""
    roles = [role for role in ("result", "error", "reason") if role in table.watch.columns]
    tests = []
    for role in roles:
        column = table.column(table.watch.columns[role])
        cast = "::text" if column.type == "json" else ""
        name = identifier(column.name)
        tests.append(f"{old}.{name}{cast} is distinct from {new}.{name}{cast}")
    return " or ".join(tests) or "false"


def _keep_finish(table: Table, old: str, new: str) -> str:
    """The statement that keeps the time of the end, where each update would move it."""
    finished = table.watch.clocks.get("finished", ())[:1]
    kept = [name for name in finished if name not in table.watch.clocks.get("touched", ())]
    return "".join(f"{new}.{identifier(n)} := {old}.{identifier(n)};" for n in kept) or "null;"


def _now_due(table: Table, new: str) -> str:
    """The statement with which a task of our own table that is put back waits from now on."""
    if not table.watch.own:
        return "null;"
    due = f"{new}.{identifier(table.watch.clocks['due'][0])}"
    return f"{due} := greatest({due}, clock_timestamp()); {new}.turn := null;"


def _hooks(table: Table) -> dict[str, Value]:
    """Calls of the watch's hooks: of one task with these arguments, or of each of a set of tasks,
    in the order of the owners: two batches that lock the owners' accounts do not end in a
    deadlock."""

    def call(hook: str, *arguments: str, source: str = "") -> str:
        functions = table.watch.hooks.get(hook, ())
        passed = ", ".join(arguments)
        called = (f"perform {identifier(*f.split('.'))}({passed}){source};" for f in functions)
        return "\n    ".join(called) or "null;"

    def each(hook: str, source: str, *arguments: str) -> str:
        key = f"t.{table.key} = x.task_id::{table.watch.key_type}"
        order = f"order by {table.text('t', 'owner')}, x.task_id"
        return call(hook, *arguments, source=f" from {source} join {table.name} t on {key} {order}")

    def ended(state: State, batch: str) -> str:
        source = f"(select * from unnest({batch}) u where u.state = {literal(str(state))}) x"
        return each(f"on_{state}", source, *attempt)

    def by_hand(hook: str, ids: str, time: str) -> str:
        """`operate` has ended an attempt of each task that it moved."""
        source = (
            "(select a.task_id, a.number, a.reason from unstuck.attempts a "
            f"where a.watch = {literal(table.watch.name)} and a.task_id = any ({ids}) "
            f"and a.ended_at = {time}) x"
        )
        return each(hook, source, *attempt)

    attempt = ("x.task_id", "x.number", "x.reason")
    return {
        **{
            hook: partial(call, hook)
            for hook in ("on_created", "on_completed", "on_failed", "on_swept")
        },
        "each_on_failed": partial(ended, State.FAILED),
        "each_on_cancelled": partial(ended, State.CANCELLED),
        "each_on_failed_by_hand": partial(by_hand, "on_failed"),
        "each_on_cancelled_by_hand": partial(by_hand, "on_cancelled"),
        "each_on_reopened": lambda ids: each(
            "on_reopened", f"unnest({ids}) as x (task_id)", "x.task_id"
        ),
    }
