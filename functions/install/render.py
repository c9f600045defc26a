"""Renders the SQL of the verbs for one watch: `@name@` in functions/sql becomes the watch's own
names and words, safely quoted. What comes out is plain, static SQL that can be read, diffed and put
into a migration."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from functions.core.policy import Watch
from functions.core.sqlstates import PASSING
from functions.core.states import State
from functions.install import column_sql
from functions.install.column_sql import literal
from functions.install.row import column, identifier, is_in, state_of, usual_type

SQL = Path(__file__).parents[1] / "sql"
SHARED = ("rules", "beat", "checkpoint", "run", "evidence", "outbox")
VERBS = (
    "create",
    "claim",
    "settle",
    "sweep",
    "batch",
    "status",
    "overview",
    "find",
    "operate",
    "cancel",
    "page",
    "pulse",
    "timeline",
)
FENCES = {"off": (), "observe": ("observe",), "enforce": ("fence",)}
_FAILED = "(select * from unnest(p_found) u where u.state = 'failed') x"
WRITTEN = (State.PENDING, State.COMPLETED, State.FAILED, State.CANCELLED)


def render(text: str, names: Mapping[str, str]) -> str:
    """Raises KeyError for a name that the watch does not give."""
    return re.sub(r"@(\w+)@", lambda match: names[match[1]], text)


def template(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def shared() -> str:
    """The functions that serve every watch."""
    passing = ", ".join(map(literal, PASSING))
    text = "\n".join(template(name) for name in SHARED)
    return render(text, {"passing_sqlstates": passing})


def verbs(watch: Watch) -> str:
    """The functions of one watch. Tasks of a table that is not our own are created by its own
    application."""
    wanted = [verb for verb in VERBS if watch.own or verb != "create"]
    kept = FENCES[watch.fence]
    gone = (_without(watch, one) for one in ("observe", "fence") if one not in kept)
    return "\n".join([*(render(template(verb), names(watch)) for verb in (*wanted, *kept)), *gone])


def routines(watch: str) -> list[str]:
    """All functions that a watch of that name may have, whatever its policy said."""
    texts = (
        path.read_text(encoding="utf-8")
        for path in (*SQL.glob("*.sql"), *(SQL / "optional").glob("*.sql"))
    )
    found = {
        name for text in texts for name in re.findall(r"function unstuck\.@watch@_(\w+)", text)
    }
    return sorted(f"{watch}_{name}" for name in found)


def optional(watch: Watch, part: str) -> str:
    """What a part of functions/sql/optional needs in the database, for one watch."""
    return render(template(f"optional/{part}"), names(watch))


def _without(watch: Watch, trigger: str) -> str:
    """The trigger that the policy wanted before, and no longer does, goes. What it saw would be
    stale by its return."""
    table, function = literal(identifier(watch.table)), literal(f"unstuck.{watch.name}_{trigger}()")
    forget = (
        f"\n    delete from unstuck.observed where watch = {literal(watch.name)};"
        if trigger == "observe"
        else ""
    )
    return f"""-- not wanted by the policy: {trigger}
do $$
begin
  if exists (select from pg_trigger where tgrelid = {table}::regclass and tgname = 'unstuck_{trigger}'
             and tgfoid = to_regprocedure({function})) then
    drop trigger unstuck_{trigger} on {identifier(watch.table)};{forget}
  end if;
end $$;
"""


def names(watch: Watch) -> dict[str, str]:
    """What each `@name@` of a template stands for. `t` is the task, `x` the decision about it."""
    bare = watch.table.rpartition(".")[2]
    return {
        "watch": watch.name,
        "watch_name": literal(watch.name),
        "table": identifier(watch.table),
        "key": f"t.{identifier(watch.key)}",
        "key_type": watch.key_type,
        "status": f"t.{identifier(watch.status)}",
        "state": state_of(watch, "t"),
        "is_pending": is_in(watch, "t", State.PENDING),
        "is_running": is_in(watch, "t", State.RUNNING),
        "is_resting": is_in(watch, "t", State.RESTING),
        "is_failed": is_in(watch, "t", State.FAILED),
        "is_cancelled": is_in(watch, "t", State.CANCELLED),
        "is_free": _is_free(watch),
        "kind": _kind(watch),
        "input": _column(watch, "input", "to_jsonb(t)"),
        "owner": _text(watch, "owner", "null::text"),
        "result": _column(watch, "result", "null::jsonb"),
        "error": _text(watch, "error", "null::text"),
        "reason": _text(watch, "reason", "null::text"),
        "as_role": _as_role(watch),
        "born_running": literal(not watch.may_wait),
        "only_swept": literal(not watch.words[State.COMPLETED]),
        "ends_alike": literal(watch.ends_alike),
        **_clocks(watch),
        "write": ",\n    ".join(_write(watch)),
        "to_running": ", ".join(_to_running(watch)),
        "on_created": _hook(watch, "on_created", "p_id::text"),
        "on_completed": _hook(watch, "on_completed", "p_task, v_attempt.number, p_result"),
        "on_failed": _hook(watch, "on_failed", "p_task, v_attempt.number, v_reason"),
        "on_failed_set": _hook_set(watch, "on_failed", "x.task_id, x.number, x.reason", _FAILED),
        "on_failed_by_hand": _hook_set(
            watch, "on_failed", "x.task_id, x.number, x.reason", _by_hand(watch)
        ),
        "on_cancelled_by_hand": _hook_set(
            watch, "on_cancelled", "x.task_id, x.number, x.reason", _by_hand(watch)
        ),
        "on_reopened": _hook_set(
            watch, "on_reopened", "x.task_id", "unnest(v_moved) as x (task_id)"
        ),
        "on_swept": _hook(watch, "on_swept", ""),
        "cost": "(t.metadata ->> 'cost')::bigint" if watch.own else "null::bigint",
        "notify": f"perform unstuck.outbox_put({literal(watch.name)}, p_found);"
        if watch.notify
        else "null;",
        "old_ended": is_in(watch, "old", State.COMPLETED, State.FAILED, State.CANCELLED),
        "old_pending": is_in(watch, "old", State.PENDING, State.RESTING),
        "old_state": state_of(watch, "old"),
        "new_state": state_of(watch, "new"),
        "new_ended": is_in(watch, "new", State.COMPLETED, State.FAILED, State.CANCELLED),
        "end_changes": _change(watch, _end(watch)),
        "keep_finish": "".join(
            f"new.{identifier(name)} := old.{identifier(name)};" for name in _finish(watch)
        )
        or "null;",
        "old_key": f"old.{identifier(watch.key)}",
        "old_status": f"old.{identifier(watch.status)}",
        "new_status": f"new.{identifier(watch.status)}",
        "new_key": f"new.{identifier(watch.key)}",
        "status_check": identifier(f"{bare}_status_check"),
    } | {
        f"{index}_index": identifier(f"{bare}_{index}")
        for index in ("pending", "running", "claim", "owner", "idempotency", "one_active")
    }


def _clocks(watch: Watch) -> dict[str, str]:
    """When a task was queued, is due, was started and last seen alive. What the table has no column
    for is in the ledger: the time of the next try, and what an observing trigger saw."""
    key = f"t.{identifier(watch.key)}::text"
    seen = f"from unstuck.observed o where o.watch = {literal(watch.name)} and o.task_id = {key}"
    queued = (
        _clock(watch, "queued") if watch.clocks.get("queued") else f"(select o.status_at {seen})"
    )
    alive = alive_bound = (
        _clock(watch, "alive") if watch.clocks.get("alive") else f"(select o.touched_at {seen})"
    )
    due, waiting = _clock(watch, "due", "queued"), queued
    if not watch.clocks.get("due"):
        retry = f"from unstuck.attempts a where a.watch = {literal(watch.name)} and a.task_id = {key} order by a.number desc"
        due = waiting = f"greatest({queued}, (select a.retry_at {retry} limit 1))"
    if watch.fence == "observe" and watch.clocks.get(
        "queued"
    ):  # resumed after a rest: it waits since then
        waiting = f"greatest({waiting}, (select o.status_at {seen}))"
    if watch.fence == "observe" and watch.clocks.get("alive"):
        alive = f"greatest({alive}, (select o.touched_at {seen}))"
    priority = watch.columns.get("priority")
    return {
        "queued": waiting,
        "queued_bound": queued,
        "due": due,
        "alive": alive,
        "alive_bound": alive_bound,
        "started": _clock(watch, "started"),
        "created": "t.created_at" if watch.own else queued,
        "claim_order": ", ".join(
            [*([f"t.{identifier(priority)} desc"] if priority else []), queued]
        ),
    }


def _column(watch: Watch, name: str, absent: str) -> str:
    return f"t.{identifier(watch.columns[name])}" if name in watch.columns else absent


def _kind(watch: Watch) -> str:
    """A row of somebody else's table may have none."""
    kind = _text(watch, "kind", "''::text")
    return kind if watch.own or "kind" not in watch.columns else f"coalesce({kind}, '')"


def _end(watch: Watch) -> list[str]:
    """The columns that say how a task ended."""
    return [watch.columns[name] for name in ("result", "error", "reason") if name in watch.columns]


def _finish(watch: Watch) -> list[str]:
    return [
        one
        for one in watch.clocks.get("finished", ())[:1]
        if one not in watch.clocks.get("touched", ())
    ]


def _change(watch: Watch, columns: list[str]) -> str:
    """Whether a write changes one of them. json as text, since it has no equality."""
    casts = {
        name: "::text" if column(watch, name, "text").type == "json" else "" for name in columns
    }
    return (
        " or ".join(
            f"old.{identifier(name)}{cast} is distinct from new.{identifier(name)}{cast}"
            for name, cast in casts.items()
        )
        or "false"
    )


def _as_role(watch: Watch) -> str:
    """For triggers that let nobody but Supabase's service role write a column."""
    if not watch.jwt_role:
        return ""
    return f"\n  perform set_config('request.jwt.claim.role', {literal(watch.jwt_role)}, true);"


def _text(watch: Watch, name: str, absent: str) -> str:
    """A column as text; the cast only where it is needed."""
    found = _column(watch, name, absent)
    return f"{found}::text" if watch.columns.get(name) in watch.types else found


def _is_free(watch: Watch) -> str:
    """Whether the task may be started again beside those of its kind and owner: not where only one
    may be open."""
    if not watch.own:
        return "true"
    same = "o.kind = t.kind and coalesce(o.owner, '') = coalesce(t.owner, '')"
    other = f"from {identifier(watch.table)} o where o.one_active and {same}"
    running = f"{is_in(watch, 'o', State.PENDING)} or {is_in(watch, 'o', State.RUNNING)}"
    before = f"o.id = any (p_ids::uuid[]) and o.id < t.id and {is_in(watch, 'o', State.FAILED, State.CANCELLED)}"
    return f"not (t.one_active and (exists (select {other} and ({running})) or exists (select {other} and {before})))"


def _clock(watch: Watch, *clocks: str) -> str:
    found = dict.fromkeys(one for clock in clocks for one in watch.clocks.get(clock, ()))
    columns = [
        _elsewhere(watch, one) or column_sql.moment(column(watch, one, "timestamptz"))
        for one in found
    ]
    if not columns:
        return "null::timestamptz"
    return columns[0] if len(columns) == 1 else f"coalesce({', '.join(columns)})"


def _elsewhere(watch: Watch, clock: str) -> str | None:
    """`workers.last_heartbeat via worker_id=id`: a clock that stands in another table."""
    match = re.fullmatch(r"(\S+)\.(\w+) via (\w+)=(\w+)", clock)
    if match is None:
        return None
    table, name, ours, theirs = match.groups()
    time = column_sql.moment(
        replace(column(watch, f"{table}.{name}", "timestamptz"), name=name), "o"
    )
    return f"(select {time} from {identifier(table)} o where o.{identifier(theirs)} = t.{identifier(ours)})"


def _stamp(watch: Watch, name: str, time: str) -> str:
    """`time` (a timestamptz) as the clock's column takes it."""
    one = column(watch, name, "timestamptz")
    if one.type == "timestamptz":
        return time
    stamp = column_sql.stamp(
        one, tuple(column(watch, other, "timestamptz") for other in _all_clocks(watch))
    )
    return (stamp or "null").replace("now()", time)


def _all_clocks(watch: Watch) -> list[str]:
    return list(dict.fromkeys(one for columns in watch.clocks.values() for one in columns))


def _word(watch: Watch, state: State) -> str:
    return literal(watch.words[state][0])


def _cast(watch: Watch) -> str:
    """An enum does not take the text that a CASE makes."""
    kind = column(watch, watch.status, "text").type
    return (
        "" if kind in column_sql.TEXTS | column_sql.NUMBERS | {"bool"} else f"::{identifier(kind)}"
    )


def _write(watch: Watch) -> Iterator[str]:
    """The assignments that move a task as the decision `x` (state, result, reason, error, retry_at)
    says."""
    known = (state for state in WRITTEN if watch.words[state] and state != State.FAILED)
    told = " ".join(f"when {literal(str(state))} then {_word(watch, state)}" for state in known)
    cases = (
        f"case x.state {told} else {_word(watch, State.FAILED)} end"
        if told
        else _word(watch, State.FAILED)
    )
    cast = _cast(watch)
    written = {watch.status: f"({cases}){cast}" if cast else cases}
    for name in ("error", "reason"):
        if name in watch.columns:
            written[watch.columns[name]] = _message(watch, name)
    if "result" in watch.columns:
        result = column(watch, watch.columns["result"], "jsonb")
        value = "x.result" if result.type == "jsonb" else f"x.result::{result.type}"
        written[result.name] = (
            f"case x.state when 'completed' then {value} else t.{identifier(result.name)} end"
        )
    for due in watch.clocks.get("due", ())[:1]:
        written[due] = f"coalesce({_stamp(watch, due, 'x.retry_at')}, t.{identifier(due)})"
    for finished in watch.clocks.get("finished", ())[:1]:
        written[finished] = (
            f"case when x.state <> 'pending' then {_stamp(watch, finished, 'clock_timestamp()')} end"
        )
    for touched in watch.clocks.get("touched", ()):
        written[touched] = _stamp(watch, touched, "clock_timestamp()")
    for state in WRITTEN:
        for name, what in watch.also.get(state, {}).items():
            before = written.get(name, f"t.{identifier(name)}")
            written[name] = (
                f"case when x.state = {literal(str(state))} then {_more(watch, name, what)} else {before} end"
            )
    written |= _marked(watch)
    yield from (f"{identifier(name)} = {value}" for name, value in written.items())


def _marked(watch: Watch) -> dict[str, str]:
    """Each mark is set by the move to its state, and taken away by any other."""
    written = {}
    for state, name in watch.marks.items():
        one = column(watch, name, usual_type(watch, name))
        mark = (
            "true"
            if one.type == "bool"
            else column_sql.note(one, "x.error", "failed")
            or _stamp(watch, name, "clock_timestamp()")
        )
        absent = column_sql.nothing(one) or f"t.{identifier(name)}"
        states = (
            [state]
            if state != State.FAILED or watch.words[State.CANCELLED]
            else [state, State.CANCELLED]
        )
        told = ", ".join(literal(str(one)) for one in states)
        written[name] = f"case when x.state in ({told}) then {mark} else {absent} end"
    return written


def _message(watch: Watch, name: str) -> str:
    """The sentence or the code of a failure, as its column takes it; what is there stays where it
    can't be taken away."""
    one = column(watch, watch.columns[name], "text")
    text = column_sql.note(one, f"x.{name}", "failed") or "null"
    if one.type in column_sql.JSONS | column_sql.TEXT_LISTS or one.name.lower().endswith(
        ("log", "logs")
    ):
        return f"case x.state when 'failed' then {text} else t.{identifier(one.name)} end"
    absent = column_sql.nothing(one)
    return (
        f"case x.state when 'failed' then {text} end"
        if absent in {None, "null"}
        else f"case x.state when 'failed' then {text} else {absent} end"
    )


def _more(watch: Watch, name: str, what: str) -> str:
    match what:
        case "now":
            return _stamp(watch, name, "clock_timestamp()")
        case "raise":
            return column_sql.raised(column(watch, name, "integer"))
        case "note":
            return column_sql.note(column(watch, name, "text"), "x.error", "failed") or "null"
        case _:
            return "null"


def _to_running(watch: Watch) -> Iterator[str]:
    yield f"{identifier(watch.status)} = {_word(watch, State.RUNNING)}"
    for clock in dict.fromkeys(
        (*watch.clocks.get("started", ())[:1], *watch.clocks.get("touched", ()))
    ):
        yield f"{identifier(clock)} = {_stamp(watch, clock, 'v_now')}"
    for name, what in watch.also.get(State.RUNNING, {}).items():
        value = "p_worker" if what == "worker" else _more(watch, name, what)
        yield f"{identifier(name)} = {value}"


def _hook(watch: Watch, name: str, arguments: str, source: str = "") -> str:
    calls = (
        f"perform {identifier(one)}({arguments}){source};" for one in watch.hooks.get(name, ())
    )
    return "\n    ".join(calls) or "null;"


def _hook_set(watch: Watch, name: str, arguments: str, source: str) -> str:
    """Called for each row of `source`, in the order of the owners: two batches that lock the
    owners' accounts do not end in a deadlock."""
    order = f" join {identifier(watch.table)} t on t.{identifier(watch.key)} = x.task_id::{watch.key_type} order by "
    owner = f"{_text(watch, 'owner', 'null::text')}, x.task_id"
    return _hook(watch, name, arguments, f" from {source}{order}{owner}")


def _by_hand(watch: Watch) -> str:
    """The attempts that `operate` has ended: each task that it moved has one."""
    return (
        f"(select a.task_id, a.number, a.reason from unstuck.attempts a where a.watch = {literal(watch.name)} "
        "and a.task_id = any (v_moved) and a.ended_at = v_now) x"
    )
