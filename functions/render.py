"""Renders the SQL of the verbs for one watch: `@name@` in functions/sql becomes the watch's own names and words,
safely quoted. What comes out is plain, static SQL that can be read, diffed and put into a migration."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from psycopg import sql

from functions.policy import Watch
from functions.states import State

SQL = Path(__file__).parent / "sql"
SHARED = ("rules", "beat", "checkpoint", "run")
VERBS = ("create", "claim", "settle", "sweep", "status", "overview", "find", "fence")


def identifier(name: str) -> str:
    """`schema.name`, each part quoted."""
    return sql.Identifier(*name.split(".")).as_string(None)


def literal(value: Any) -> str:
    return sql.Literal(value).as_string(None)


def render(text: str, names: Mapping[str, str]) -> str:
    """Raises KeyError for a name that the watch does not give."""
    return re.sub(r"@(\w+)@", lambda match: names[match[1]], text)


def template(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def shared() -> str:
    """The functions that serve every watch."""
    return "\n".join(template(name) for name in SHARED)


def verbs(watch: Watch) -> str:
    """The functions of one watch. A table that is not our own has no `create`, and no fence yet."""
    wanted = VERBS if watch.own else [verb for verb in VERBS if verb not in {"create", "fence"}]
    return "\n".join(render(template(verb), names(watch)) for verb in wanted)


def names(watch: Watch) -> dict[str, str]:
    """What each `@name@` of a template stands for. `t` is the task, `x` the decision about it."""
    bare = watch.table.rpartition(".")[2]
    column = {name: f"t.{identifier(one)}" for name, one in watch.columns.items()}
    queued, alive = _clock(watch, "queued"), _clock(watch, "alive")
    return {
        "watch": watch.name,
        "watch_name": literal(watch.name),
        "table": identifier(watch.table),
        "key": f"t.{identifier(watch.key)}",
        "key_type": watch.key_type,
        "status": f"t.{identifier(watch.status)}",
        "state": _state(watch),
        "is_pending": _is(watch, "t", State.PENDING),
        "is_running": _is(watch, "t", State.RUNNING),
        "kind": column.get("kind", "''::text"),
        "input": column.get("input", "to_jsonb(t)"),
        "owner": column.get("owner", "null::text"),
        "result": column.get("result", "null::jsonb"),
        "error": column.get("error", "null::text"),
        "reason": column.get("reason", "null::text"),
        "queued": queued,
        "due": _clock(watch, "due", "queued"),  # a task is due when it is queued, unless a clock says otherwise
        "alive": alive,
        "started": _clock(watch, "started"),
        "claim_order": ", ".join([*([f"{column['priority']} desc"] if "priority" in column else []), queued]),
        "write": ",\n    ".join(_write(watch)),
        "to_running": ", ".join(_to_running(watch)),
        "on_created": _hook(watch, "on_created", "v_task.id::text"),
        "on_completed": _hook(watch, "on_completed", "p_task, v_attempt.number, p_result"),
        "on_failed": _hook(watch, "on_failed", "p_task, v_attempt.number, v_reason"),
        "on_failed_set": _hook(
            watch,
            "on_failed",
            "x.task_id, x.number, x.reason",
            " from unnest(p_found) x where x.state = 'failed'",
        ),
        "old_ended": _is(watch, "old", State.COMPLETED, State.FAILED, State.CANCELLED),
        "old_pending": _is(watch, "old", State.PENDING, State.RESTING),
        "old_key": f"old.{identifier(watch.key)}",
        "old_status": f"old.{identifier(watch.status)}",
        "new_status": f"new.{identifier(watch.status)}",
    } | {
        f"{index}_index": identifier(f"{bare}_{index}")
        for index in ("pending", "running", "claim", "owner", "idempotency")
    }


def _is(watch: Watch, row: str, *states: State) -> str:
    words = [literal(word) for state in states for word in watch.words[state]]
    status = f"{row}.{identifier(watch.status)}"
    return f"{status} = {words[0]}" if len(words) == 1 else f"{status} in ({', '.join(words)})"


def _state(watch: Watch) -> str:
    cases = (f"when {_is(watch, 't', state)} then {literal(str(state))}" for state in State if watch.words[state])
    return f"case {' '.join(cases)} end"


def _clock(watch: Watch, *clocks: str) -> str:
    columns = list(dict.fromkeys(f"t.{identifier(one)}" for clock in clocks for one in watch.clocks.get(clock, ())))
    if not columns:
        return "null::timestamptz"
    return columns[0] if len(columns) == 1 else f"coalesce({', '.join(columns)})"


def _write(watch: Watch) -> Iterable[str]:
    """The assignments that move a task as the decision `x` (state, result, reason, error, retry_at) says."""
    words = {state: literal(watch.words[state][0]) for state in State if watch.words[state]}
    yield (
        f"{identifier(watch.status)} = case x.state when 'pending' then {words[State.PENDING]} "
        f"when 'completed' then {words[State.COMPLETED]} else {words[State.FAILED]} end"
    )
    for name in ("error", "reason"):
        if name in watch.columns:
            yield f"{identifier(watch.columns[name])} = case x.state when 'failed' then x.{name} end"
    if "result" in watch.columns:
        result = identifier(watch.columns["result"])
        yield f"{result} = case x.state when 'completed' then x.result else t.{result} end"
    for due in watch.clocks.get("due", ())[:1]:
        yield f"{identifier(due)} = coalesce(x.retry_at, t.{identifier(due)})"
    for finished in watch.clocks.get("finished", ())[:1]:
        yield f"{identifier(finished)} = case when x.state <> 'pending' then clock_timestamp() end"
    for touched in watch.clocks.get("touched", ()):
        yield f"{identifier(touched)} = clock_timestamp()"


def _to_running(watch: Watch) -> Iterable[str]:
    yield f"{identifier(watch.status)} = {literal(watch.words[State.RUNNING][0])}"
    for clock in dict.fromkeys((*watch.clocks.get("started", ())[:1], *watch.clocks.get("touched", ()))):
        yield f"{identifier(clock)} = v_now"


def _hook(watch: Watch, name: str, arguments: str, source: str = "") -> str:
    if name not in watch.hooks:
        return "null;" if not source else ""
    return f"perform {identifier(watch.hooks[name])}({arguments}){source};"
