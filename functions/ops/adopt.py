"""adopt: from what was inferred of a table to the watch that policy.yaml needs: names, words,
clocks, types, and what else a move to a state has to write."""

import re
from pathlib import Path
from typing import Any

import yaml

from functions.core.policy import DEFAULT, parse
from functions.core.states import State
from functions.errors import PolicyError
from functions.install.column_sql import NUMBERS, TEXTS, TIMES, Column, nothing
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.status import flag_state

KEYS = {"uuid": "uuid", "int2": "integer", "int4": "integer", "int8": "bigint"} | dict.fromkeys(
    TEXTS, "text"
)
ENDS = (State.PENDING, State.COMPLETED, State.FAILED)


def watch(inferred: Inferred, name: str | None = None) -> dict[str, Any]:
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
        "words": {str(state): list(words) for state, words in mapping.words.items() if words},
        "marks": marks(inferred),
        "columns": {
            role: mapping.columns[role]
            for role in ("kind", "owner", "error")
            if mapping.columns.get(role)
        },
        "clocks": _clocks(inferred),
        "types": _types(inferred),
        "also": _also(inferred),
        "jwt_role": _jwt_role(inferred),
        "fence": None,
        "rules": _rules(),
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
    return None


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
    dumped: str = yaml.safe_dump(
        watches, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    return "".join(f"  {line}\n" for line in dumped.splitlines())


def write(watches: dict[str, Any], path: Path = DEFAULT) -> None:
    """Adds the watch to a policy file, whose comments stay. Raises PolicyError when the result
    would not be one."""
    before = path.read_text(encoding="utf-8")
    name = next(iter(watches))
    if name in parse(before, path.name).watches:
        raise PolicyError(
            f"{path.name}: there is a watch {name!r} already. Remove it first, or give --name."
        )
    after = f"{before.rstrip()}\n\n{text(watches)}"
    if name not in parse(after, path.name).watches:
        raise PolicyError(
            f"{path.name}: `watches` is not its last part. Paste the watch there by hand."
        )
    scratch = path.with_suffix(".new")
    scratch.write_text(after, encoding="utf-8")
    scratch.replace(path)


def _clocks(inferred: Inferred) -> dict[str, list[str]]:
    """`alive` falls back on the start and then on the birth: NULL means the next clock."""
    mapping = inferred.mapping
    alive = dict.fromkeys(
        (*mapping.clock("alive"), *mapping.clock("started"), *mapping.clock("queued"))
    )
    clocks = {
        "queued": list(mapping.clock("queued")),
        "due": _writable(inferred, mapping.clock("due")),
        "started": list(mapping.clock("started")),
        "alive": list(alive),
        "touched": _writable(inferred, mapping.touched),
        "finished": [] if _ends_apart(inferred) else list(mapping.clock("finished")),
    }
    if clocks["due"]:
        clocks["queued"] = list(dict.fromkeys([*clocks["due"], *clocks["queued"]]))
    return {name: columns for name, columns in clocks.items() if columns}


def _ends_apart(inferred: Inferred) -> bool:
    """A good and a bad end have columns of their own."""
    return bool(inferred.mapping.failed_at or inferred.mapping.ends_well)


def _writable(inferred: Inferred, names: tuple[str, ...]) -> list[str]:
    columns = [inferred.table.columns[name] for name in names]
    return [
        column.name for column in columns if not column.generated and column.type in TIMES | NUMBERS
    ]


def _types(inferred: Inferred) -> dict[str, str]:
    mapping = inferred.mapping
    times = {name for names in mapping.clocks.values() for name in names}
    times |= {*mapping.touched, mapping.failed_at or ""}
    roles = {name for name in mapping.columns.values() if name}
    used = times | roles | {*marks(inferred).values(), *mapping.locks, mapping.status or ""}
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
    width = f"({column.width})" if column.width else ""
    is_status = column.name == inferred.mapping.status
    not_null = " not null" if column.not_null and column.type in TEXTS and not is_status else ""
    return f"{shown}{width}{not_null}"


def _also(inferred: Inferred) -> dict[str, dict[str, str]]:
    mapping, also = inferred.mapping, {state: dict[str, str]() for state in (State.RUNNING, *ENDS)}
    if mapping.columns.get("attempts"):
        also[State.RUNNING][mapping.columns["attempts"] or ""] = "raise"
    for name in mapping.locks:
        column = inferred.table.columns[name]
        # a column with a foreign key holds a row of the user's own table of workers
        if column.type in TEXTS | TIMES and name not in inferred.table.points_to:
            also[State.RUNNING][name] = "now" if column.type in TIMES else "worker"
        for state in ENDS:
            if nothing(column) == "null":
                also[state][name] = "nothing"
    born = set(mapping.clock("queued"))
    for name in mapping.clock("started"):
        if name not in born and nothing(inferred.table.columns[name]) == "null":
            also[State.PENDING][name] = "nothing"
    if _ends_apart(inferred):
        also[State.COMPLETED] |= dict.fromkeys(mapping.clock("finished")[:1], "now")
        also[State.FAILED] |= {mapping.failed_at: "now"} if mapping.failed_at else {}
    return {str(state): columns for state, columns in also.items() if columns}


def _jwt_role(inferred: Inferred) -> str | None:
    """The role that a trigger of the table asks for: it may let only Supabase's service role, by
    auth.role() = 'service_role', change its time columns."""
    sources = [trigger.source for trigger in inferred.table.triggers if trigger.before_update]
    return "service_role" if "service_role" in " ".join(sources) else None


def _rules() -> dict[str, Any]:
    """The bundle's own rule for every kind; a worker that never beats may be silent for half an
    hour."""
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    usual: dict[str, Any] = policy["watches"]["tasks"]["rules"]["*"]
    return {"*": usual | {"pending_for": "1h", "silent_for": "30m"}}
