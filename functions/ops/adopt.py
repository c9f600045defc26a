"""adopt: from what was inferred of a table to the watch that policy.yaml needs: names, words,
clocks, types, and what else a move to a state has to write."""

import re
from pathlib import Path
from typing import Any

import yaml

from functions.core.policy import DEFAULT, Policy, Watch, parse
from functions.core.states import State
from functions.core.visible import visible
from functions.errors import PolicyError
from functions.install.column_sql import NUMBERS, TEXTS, TIMES, Column, nothing
from functions.ops.cli.out import span
from functions.ops.inspect.history import History
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.mapping import Mapping
from functions.ops.inspect.overdue import counts_retries, ended_by
from functions.ops.inspect.status import flag_state
from functions.worker.kinds import has_handler, where_to_write

KEYS = {"uuid": "uuid", "int2": "integer", "int4": "integer", "int8": "bigint"} | dict.fromkeys(
    TEXTS, "text"
)
MOST_TRIES = 100
NO_HISTORY = History()
ENDS = (State.PENDING, State.COMPLETED, State.FAILED)


def watch(
    inferred: Inferred, name: str | None = None, history: History = NO_HISTORY
) -> dict[str, Any]:
    """The watch of a table, as plain data. Raises PolicyError where the table cannot be guarded,
    with the next step."""
    table, mapping = inferred.table, inferred.mapping
    if why := _obstacle(inferred):
        raise PolicyError(f"{table.title}: {why}")
    entry: dict[str, Any] = {
        "table": table.title,
        "key": mapping.key,
        "key_type": KEYS[table.columns[mapping.key or ""].type],
        "status": mapping.status,
        "words": _words(inferred),
        "stopping": [word for word in mapping.words[State.RUNNING] if word in mapping.stopping],
        "marks": marks(inferred),
        "columns": {
            role: mapping.columns[role]
            for role in ("kind", "input", "result", "owner", "error")
            if mapping.columns.get(role)
        }
        | _counts(mapping),
        "error_keys": _error_keys(inferred),
        "clocks": _clocks(inferred),
        "per_row": _per_row(inferred),
        "deleted": list(mapping.deleted),
        "ended": [finished.name] if (finished := ended_by(inferred)) else [],
        "asked_to_stop": list(mapping.asked_to_stop),
        "types": _types(inferred),
        "also": _also(inferred),
        "jwt_role": _jwt_role(inferred),
        "fence": None,
        "rules": _rules(inferred, history),
    }
    _fit_words(entry)
    entry = {field: value for field, value in entry.items() if value or field == "columns"}
    return {name or name_of(inferred): entry}


def _obstacle(inferred: Inferred) -> str | None:
    """Why the table cannot be guarded, with the next step."""
    key = inferred.mapping.key
    if inferred.refused:
        return inferred.refused
    if inferred.blind:
        return inferred.why_blind
    if key is None:
        return "its key is not known. Give it with --map FILE (key)."
    if inferred.table.columns[key].type not in KEYS:
        return "a key of that type cannot be guarded. Use `check --fix` on it."
    states = [
        state for state in (State.RUNNING, State.FAILED) if inferred.mapping.word(state) is None
    ]
    if not states:
        return None
    options = " ".join(f"--word {state}=WORD" for state in states)
    return (
        f"nothing in it shows the word for {' and '.join(states)}, and a word that its application "
        f"does not know is never written. Give it with {options}."
    )


def _words(inferred: Inferred) -> dict[str, list[Any]]:
    """The words that the table shows, the one to write first. A state without such a word is left
    out, so that nothing is ever moved to it."""
    words = {}
    for state, listed in inferred.mapping.words.items():
        shown = [word for word in listed if word not in inferred.assumed]
        shown.sort(key=lambda word: word in inferred.mapping.unwritable)
        if state == State.RESTING or inferred.mapping.word(state) is not None:
            words[str(state)] = shown
    return {state: listed for state, listed in words.items() if listed}


def missing(inferred: Inferred) -> list[str]:
    """What the watch of a table lacks, and what follows from it, each with the next step."""
    mapping, words = inferred.mapping, _words(inferred)
    sentences = []
    if str(State.PENDING) not in words and not marks(inferred):
        sentences.append(
            "no word for pending is shown: tasks are taken as born running, and are not tried "
            "again. If they wait: --word pending=WORD"
        )
    if str(State.COMPLETED) not in words and not marks(inferred):
        sentences.append(
            "no word for completed is shown: tasks can be swept, but not run in the guard. "
            "--word completed=WORD"
        )
    if not mapping.columns.get("input"):
        sentences.append(
            "no column of JSON is what a handler receives: it gets the whole row. If there is one: "
            "--map FILE (input)"
        )
    if not mapping.columns.get("result"):
        sentences.append(
            "no column of JSON takes what a handler returns: it is not stored. If there is one: "
            "--map FILE (result)"
        )
    if not mapping.columns.get("kind"):
        sentences.append("no column tells the kind of a task: one handler does them all")
    return sentences


def missing_handlers(
    inferred: Inferred, watches: dict[str, Any], history: History = NO_HISTORY
) -> list[str]:
    """Which handlers the adopted table asks for that are not here, and where each is written: first
    those that most tasks wait for."""
    watch = policy(watches).watch()
    kind = inferred.mapping.columns.get("kind")
    kinds = dict(history.waiting)
    for name in inferred.evidence.values(kind) if kind else [""]:
        kinds.setdefault(name, 0)
    return [
        where_to_write(watch, name, waiting)
        for name, waiting in kinds.items()
        if not has_handler(watch, name)
    ]


def durations(history: History, watches: dict[str, Any]) -> list[str]:
    """From which numbers the times of the rule come: one sentence, or none."""
    if history.run_for is None:
        return []
    [entry] = watches.values()
    rule = entry["rules"]["*"]
    where = " (longer than a function may run: runs_on: pool)" if "runs_on" in rule else ""
    times = f"run_for: {rule['run_for']}, silent_for: {rule['silent_for']}"
    return [f"{history.sentence} -> {times}{where}"]


def policy(watches: dict[str, Any]) -> Policy:
    """The bundle's policy, with these watches in place of its own."""
    head, _, _ = DEFAULT.read_text(encoding="utf-8").partition("\nwatches:")
    return parse(f"{head}\nwatches:\n{text(watches)}", DEFAULT.name)


def _fit_words(entry: dict[str, Any]) -> None:
    """With marks a flag tells what waits and what has ended. Rows that are born running have one
    try."""
    if entry["marks"]:
        entry["words"]["pending"] = list(entry["words"]["completed"])
    needed = {"queued", "alive"}
    if "pending" not in entry["words"]:
        needed = {"alive"}
        entry["rules"]["*"] |= {"attempts": 1, "on_lost": "fail", "on_error": "fail"}
    entry["fence"] = None if needed <= entry["clocks"].keys() else "observe"


def marks(inferred: Inferred) -> dict[str, str]:
    """Of a flag: the columns that tell what waits, what is done and what failed. Nothing where one
    is missing."""
    mapping, columns = inferred.mapping, inferred.table.columns
    if columns[mapping.status or ""].type != "bool":
        return {}
    flags: dict[State | None, list[str]] = {state: [] for state in ENDS}
    for column in columns.values():
        flags.setdefault(flag_state(column), []).append(column.name)
    error = mapping.columns.get("error")
    completed = [*flags[State.COMPLETED], *mapping.clock("finished")]
    failed = [*flags[State.FAILED], *filter(None, [mapping.failed_at, error])]
    marks_by_state = {"completed": next(iter(completed), ""), "failed": next(iter(failed), "")}
    return (
        marks_by_state
        if all(marks_by_state.values()) and len(set(marks_by_state.values())) == 2
        else {}
    )


def name_of(inferred: Inferred) -> str:
    """The table's name as a name of SQL functions."""
    name = re.sub(r"[^a-z0-9_]+", "_", inferred.table.name.lower()).strip("_")[:40]
    return name if name and not name[0].isdigit() else f"t_{name}"


def text(watches: dict[str, Any]) -> str:
    """As it stands in policy.yaml, under `watches:`."""
    dumped = _dumped(watches, as_it_is=True)
    if visible(dumped, keep="\n") != dumped:
        dumped = _dumped(watches, as_it_is=False)
    return "".join(f"  {line}\n" for line in dumped.splitlines())


def _dumped(watches: dict[str, Any], *, as_it_is: bool) -> str:
    """Other letters than ASCII as they are, or as escapes of YAML."""
    dumped: str = yaml.safe_dump(
        watches, sort_keys=False, allow_unicode=as_it_is, width=110, default_flow_style=None
    )
    return dumped


def write(
    watches: dict[str, Any], path: Path = DEFAULT, own_tables: dict[str, str] | None = None
) -> str:
    """Adds the watch to a policy file, whose comments stay, and returns what it did besides. The
    bundle's own watch goes where the table of its name is not ours, or its name is needed and it
    has no table yet (`own_tables`: ours, theirs or absent, by watch). Raises PolicyError when the
    result would not be a policy."""
    before, own_tables = path.read_text(encoding="utf-8"), own_tables or {}
    [(name, entry)] = watches.items()
    watches_before = parse(before, path.name).watches
    replaced = {
        other.name: reason
        for other in watches_before.values()
        if other.own
        and (reason := _why_replaced(other, name, entry["table"], own_tables.get(other.name)))
    }
    for other in watches_before.values():
        if not other.own and other.table == entry["table"]:
            raise PolicyError(
                f"{path.name}: the watch {other.name!r} has the table {other.table} already. "
                "Remove it first."
            )
        if other.name == name and other.name not in replaced:
            raise PolicyError(
                f"{path.name}: there is a watch {name!r} already. Remove it first, or give --name."
            )
    kept = before
    for other_name in replaced:
        kept = _without_watch(kept, other_name)
    after = f"{kept.rstrip()}\n\n{text(watches)}"
    written = parse(after, path.name).watches
    if name not in written or written.keys() != (watches_before.keys() - set(replaced)) | {name}:
        raise PolicyError(
            f"{path.name}: `watches` is not its last part. Paste the watch there by hand."
        )
    scratch = path.with_suffix(".new")
    scratch.write_text(after, encoding="utf-8")
    scratch.replace(path)
    sentences = [
        f"The bundle's own watch {other!r} was taken out: {reason}. "
        for other, reason in replaced.items()
    ]
    sentences += [
        f"`migrate` also makes the bundle's own table {other.table}: take the watch {other.name!r} "
        "out of the policy if you do not want it. "
        for other in watches_before.values()
        if own_tables.get(other.name) == "absent" and other.name not in replaced
    ]
    return "".join(sentences)


def _why_replaced(own: Watch, name: str, table: str, place: str | None) -> str | None:
    """Why the bundle's own watch goes when a table is adopted; None where it stays."""
    if own.table == table:
        return f"its table {table} is not ours but the one that you adopt"
    if place == "theirs":
        return f"its table {own.table} is not ours"
    if place == "absent" and own.name == name:
        return f"it has no table in this database, and {table} takes its name"
    return None


def _without_watch(policy: str, name: str) -> str:
    """The text of a policy without one of its watches."""
    lines = policy.splitlines(keepends=True)
    begin = next(at for at, line in enumerate(lines) if re.match(rf"  {re.escape(name)}:", line))
    end = next(
        (at for at in range(begin + 1, len(lines)) if re.match(r" {0,2}[^\s#]", lines[at])),
        len(lines),
    )
    return "".join([*lines[:begin], *lines[end:]])


def _clocks(inferred: Inferred) -> dict[str, list[str]]:
    """`alive` falls back on the start and then on the birth: NULL means the next clock."""
    mapping = inferred.mapping
    alive = dict.fromkeys((*mapping.alive, *mapping.clock("started"), *mapping.clock("queued")))
    seen = [*mapping.clock("started"), *mapping.locked_at] if mapping.clock("alive") else []
    seen = seen or list(mapping.locked_at)
    if mapping.clock("alive") and not seen and len(mapping.alive) > 1:
        seen = [name for name in mapping.touched if name != mapping.alive[0]]
    clocks = {
        "queued": list(mapping.clock("queued")),
        "due": _writable(inferred, mapping.clock("due")),
        "started": list(mapping.clock("started")),
        "alive": list(alive),
        "seen": seen,
        "lease": list(mapping.clock("lease")),
        "deadline": list(mapping.clock("deadline")),
        "touched": _writable(inferred, mapping.touched),
        "finished": [] if _ends_apart(inferred) else list(mapping.clock("finished")),
    }
    if clocks["due"]:
        clocks["queued"] = list(dict.fromkeys([*clocks["due"], *clocks["queued"]]))
    for name, state in (("queued", State.PENDING), ("alive", State.RUNNING)):
        if _are_empty(inferred, clocks[name], state):
            clocks[name] = []
    return {name: columns for name, columns in clocks.items() if columns}


def _are_empty(inferred: Inferred, clocks: list[str], state: State) -> bool:
    """Whether no row of a state has any of the clocks: nobody writes them, so that the guard has to
    observe since when such a task is there."""
    words, evidence = inferred.mapping.words.get(state, ()), inferred.evidence
    columns = [inferred.table.columns[name] for name in clocks if " via " not in name]
    may_be = all(not column.not_null and column.default is None for column in columns)
    return (
        may_be
        and evidence.count(words) > 0
        and not any(evidence.filled(column.name, words) for column in columns)
    )


def _error_keys(inferred: Inferred) -> dict[str, str]:
    error = inferred.table.columns.get(inferred.mapping.columns.get("error") or "")
    return dict(error.keys) if error else {}


def _counts(mapping: Mapping) -> dict[str, str]:
    """The columns by which a row limits its own attempts."""
    attempts, limit = mapping.columns.get("attempts"), mapping.columns.get("limit")
    roles = (
        {"retries_at_most" if counts_retries(limit) else "attempts_at_most": limit} if limit else {}
    )
    if limit and attempts:
        roles["retries" if counts_retries(attempts) else "attempts"] = attempts
    return roles


def _per_row(inferred: Inferred) -> dict[str, dict[str, float]]:
    mapping = inferred.mapping
    limits = {"run_for": mapping.timeouts, "silent_for": mapping.silences}
    return {name: {limit.name: limit.unit for limit in own} for name, own in limits.items() if own}


def _ends_apart(inferred: Inferred) -> bool:
    """A good and a bad end have columns of their own."""
    return bool(inferred.mapping.failed_at or inferred.mapping.ends_well)


def _writable(inferred: Inferred, names: tuple[str, ...]) -> list[str]:
    columns = [inferred.table.columns[name] for name in names]
    return [
        column.name
        for column in columns
        if not column.generated and (column.iso or column.type in TIMES | NUMBERS)
    ]


def _types(inferred: Inferred) -> dict[str, str]:
    mapping = inferred.mapping
    times = {name for names in mapping.clocks.values() for name in names}
    times |= {*mapping.touched, mapping.failed_at or ""}
    roles = {name for name in mapping.columns.values() if name}
    times |= {*mapping.locked_at}
    used = times | roles | {*marks(inferred).values(), *mapping.locks, mapping.status or ""}
    used |= {limit.name for limit in (*mapping.timeouts, *mapping.silences)}
    used |= {*mapping.deleted, *mapping.asked_to_stop, mapping.version or ""}
    for learned in mapping.ends.values():
        times |= set(learned.times)
        used |= {*learned.times, *learned.constants}
    types = {}
    for name in sorted(used & inferred.table.columns.keys()):
        usual = "timestamptz" if name in times else "text"
        if (shown := _type(inferred, inferred.table.columns[name])) != usual:
            types[name] = shown
    return types


def _type(inferred: Inferred, column: Column) -> str:
    shown = {
        "int8": "bigint",
        "int4": "integer",
        "int2": "smallint",
        "bool": "boolean",
        "_text": "text[]",
    }.get(column.type, column.type)
    if column.labels:
        shown = inferred.table.shown[column.name].replace('"', "")
    elif column.type == "interval":
        shown = "interval"
    width = "" if column.width is None else f"({column.width})"
    is_status = column.name == inferred.mapping.status
    matters = column.type in TEXTS or column.name in inferred.mapping.clock("finished")
    not_null = " not null" if column.not_null and matters and not is_status else ""
    zone = f" at {column.zone}" if column.type == "timestamp" and column.zone != "UTC" else ""
    return f"{shown}{width}{zone}{not_null}"


def _also(inferred: Inferred) -> dict[str, dict[str, str]]:
    mapping = inferred.mapping
    also: dict[State, dict[str, str]] = {
        state: {} for state in (State.RUNNING, *ENDS, State.CANCELLED)
    }
    if mapping.columns.get("attempts"):
        also[State.RUNNING][mapping.columns["attempts"] or ""] = "raise"
    _add_locks(inferred, also)
    described, born = inferred.table.columns, set(mapping.clock("queued"))
    for name in (*mapping.clock("started"), *mapping.asked_to_stop):
        if name not in born and nothing(described[name]) in {"null", "false"}:
            also[State.PENDING][name] = "nothing"
        elif name in mapping.asked_to_stop and described[name].type in NUMBERS:
            also[State.PENDING][name] = "=0"
    if _ends_apart(inferred):
        also[State.COMPLETED] |= dict.fromkeys(mapping.clock("finished")[:1], "now")
        also[State.FAILED] |= {mapping.failed_at: "now"} if mapping.failed_at else {}
    if mapping.version:
        for columns in also.values():
            columns[mapping.version] = "raise"
    _add_learned(inferred, also)
    written = {mapping.key, mapping.status, *_writable(inferred, mapping.touched)}
    for state, columns in also.items():
        started = set(mapping.clock("started")[:1]) if state == State.RUNNING else set()
        for twice in columns.keys() & (written | started):
            del columns[twice]
    return {str(state): columns for state, columns in also.items() if columns}


def _add_locks(inferred: Inferred, also: dict[State, dict[str, str]]) -> None:
    """A claim names its worker and stamps the lock; the end takes both away. A lease is not
    written: its own workers would take one that ends now for one that is over."""
    mapping = inferred.mapping
    for name in mapping.locks:
        column = inferred.table.columns[name]
        # a column with a foreign key holds a row of the user's own table of workers
        is_ours = name not in mapping.clock("lease") and name not in inferred.table.points_to
        if is_ours and column.type in TEXTS | TIMES and not column.labels:
            is_time = column.type in TIMES or column.iso
            also[State.RUNNING][name] = "now" if is_time else "worker"
        for state in ENDS:
            if nothing(column) == "null":
                also[state][name] = "nothing"


def _add_learned(inferred: Inferred, also: dict[State, dict[str, str]]) -> None:
    """What the rows show that an end sets, and what an open row has in its place."""
    for state, learned in inferred.mapping.ends.items():
        also[state] |= {name: f"={text}" for name, text in learned.constants.items()}
        also[state] |= dict.fromkeys(learned.times, "now")
        also[State.PENDING] |= {name: f"={text}" for name, text in learned.open_constants.items()}
        for name in learned.times:
            if nothing(inferred.table.columns[name]) == "null":
                also[State.PENDING][name] = "nothing"


def _jwt_role(inferred: Inferred) -> str | None:
    """The role that a trigger of the table asks for: it may let only Supabase's service role, by
    auth.role() = 'service_role', change its time columns."""
    sources = [trigger.source for trigger in inferred.table.triggers if trigger.before_update]
    return "service_role" if "service_role" in " ".join(sources) else None


def _rules(inferred: Inferred, history: History) -> dict[str, Any]:
    """The bundle's own rule for every kind; a worker that never beats may be silent for half an
    hour, and as long as a run. The tries are those that the table allows."""
    rule = usual_rule()
    if history.run_for is not None:
        rule |= _times(history.run_for)
    if inferred.silence is not None:
        rule["silent_for"] = _time(inferred.silence)
    limit = inferred.mapping.columns.get("limit")
    if limit and (tries := _tries(inferred, limit)):
        rule["attempts"] = tries
    return {"*": rule}


def _times(run_for: float) -> dict[str, Any]:
    """A run has the time that finished rows took."""
    times = {"run_for": _time(run_for)}
    platform = parse(DEFAULT.read_text(encoding="utf-8"), DEFAULT.name)
    if run_for > platform.timeout - platform.margin:
        times["runs_on"] = "pool"
    return times


def _time(seconds: float) -> str:
    return f"{seconds:g}s" if seconds % 60 else span(seconds)


def usual_rule() -> dict[str, Any]:
    """That of the bundle's own watch, as it was before anybody changed it, but for a table whose
    workers are not pushed to at once."""
    return {
        "pending_for": "1h",
        "redispatch_after": "2m",
        "run_for": "570s",
        "silent_for": "30m",
        "attempts": 3,
        "backoff": {"first": "2s", "factor": 4, "max": "5m"},
        "on_lost": "retry",
        "on_error": "retry",
        "isolation": "process",
        "memory": "400MB",
    }


def _tries(inferred: Inferred, limit: str) -> int | None:
    """How many tries the rows allow: what they all say, else the default of the column."""
    words = [word for listed in inferred.mapping.words.values() for word in listed]
    text = inferred.evidence.constant(limit, words) or inferred.table.columns[limit].default or ""
    tries = int(text) if text.isdigit() else 0
    if counts_retries(limit) and tries:
        tries += 1
    return tries if 1 <= tries <= MOST_TRIES else None
