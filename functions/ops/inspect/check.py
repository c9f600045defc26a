"""What `check` does, apart from its options: inspects one table or lists tables, and prints it as
JSON or in words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from functions.core.states import State
from functions.ops.cli.out import print_message, print_table, span
from functions.ops.inspect import evidence, history
from functions.ops.inspect.catalogue import candidates, facts, labels_behind, occurring, table_oid
from functions.ops.inspect.error_shape import error_keys
from functions.ops.inspect.fix import Fixed
from functions.ops.inspect.indexes import covered, recommended
from functions.ops.inspect.infer import Inferred, infer
from functions.ops.inspect.mapping import override_of
from functions.ops.inspect.sentences import alternatives, doubt
from functions.ops.inspect.session import Connection, read_only
from functions.ops.inspect.stuck import Stuck

JSON_SCHEMA = 1
"""Raised when a key of the JSON changes its meaning."""


@dataclass(frozen=True)
class Inspection:
    """One look at one table. `total` counts the stuck tasks that --limit hides too, `unjudged` the
    open ones of which no column tells since when."""

    inferred: Inferred
    stuck: Sequence[Stuck] = ()
    total: int = 0
    open: int = 0
    unjudged: int = 0
    watch: str | None = None
    """The watch whose rules say what is stuck, where the table is guarded."""

    @property
    def hidden(self) -> bool:
        """Whether there may be rows that this role does not see."""
        return self.inferred.table.row_security


def infer_table(
    connection: Connection,
    name: str,
    map_file: str | None = None,
    words: Sequence[str] | None = None,
) -> Inferred:
    """What the table of this name and its rows tell, and what the --map file says instead, and
    `words`, as `failed=error`.

    Raises StoreError for a table that is not there, PolicyError for a map that can't be used.
    """
    with read_only(connection):
        inferred = _infer(connection, table_oid(connection, name), map_file, words)
    if not inferred.refused and not inferred.blind:
        past = history.runs(connection, inferred)
        inferred.silence = history.silence(inferred, past)
        if inferred.silence:
            limit = span(inferred.silence)
            inferred.doubts.append(doubt("took", past=past.sentence, limit=limit))
    return inferred


def _infer(
    connection: Connection,
    oid: int,
    map_file: str | None = None,
    words: Sequence[str] | None = None,
) -> Inferred:
    table_facts = facts(connection, oid)
    inferred = infer(
        table_facts,
        lambda column: occurring(connection, table_facts, column),
        lambda other_oid: labels_behind(connection, other_oid),
        lambda: override_of(map_file, words or (), table_facts.columns),
        lambda status, words: evidence.read(connection, table_facts, status, words),
    )
    if not inferred.refused and (keys := error_keys(connection, inferred)):
        name = inferred.mapping.columns["error"] or ""
        columns = inferred.table.columns | {name: replace(inferred.table.columns[name], keys=keys)}
        inferred.table = replace(inferred.table, columns=columns)
    if table_facts.row_security:
        inferred.doubts.append(doubt("hidden"))
    return inferred


def tables(connection: Connection) -> list[dict[str, Any]]:
    """The tables that may hold tasks, those that surely do first, and why."""
    with read_only(connection):
        rows = [
            {"table": name, **_verdict(_infer(connection, oid))}
            for oid, name in candidates(connection)
        ]
    return sorted(rows, key=lambda row: ("yes", "likely", "no").index(row["sure"]))


def _verdict(inferred: Inferred) -> dict[str, Any]:
    return {
        "sure": _sure(inferred),
        "why": _why(inferred),
        "refused": inferred.refused,
        "unsure": inferred.unsure,
    }


def _sure(inferred: Inferred) -> str:
    if inferred.refused:
        return "no"
    return "likely" if inferred.blind or inferred.assumed else "yes"


def _why(inferred: Inferred) -> str:
    if inferred.refused:
        return inferred.refused
    mapping = inferred.mapping
    if inferred.blind:
        return f"{mapping.status} may be its status, but nothing tells what its values mean"
    meanings = []
    for state in (State.PENDING, State.RUNNING, State.FAILED):
        sure = [word for word in mapping.words.get(state, ()) if word not in inferred.assumed]
        if sure:
            meanings.append(f"{alternatives(sure)} for {state}")
    return f"{mapping.status} has {', '.join(meanings) or 'no word that is known for sure'}"


def as_json(inspection: Inspection, fixed: Fixed | None = None) -> dict[str, Any]:
    """The object of `check --json`, in its exact form."""
    inferred = inspection.inferred
    answer = {
        "schema": JSON_SCHEMA,
        "table": inferred.table.title,
        "inferred": inferred.mapping.as_json(),
        "unsure": inferred.unsure,
        "refused": inferred.refused,
        "stuck": [task.as_json() for task in inspection.stuck],
        "open": inspection.open,
        "unjudged": inspection.unjudged,
        "guarded": inspection.watch,
    }
    if fixed is not None:
        answer |= {"fixed": fixed.ids, "unsweepable": fixed.unsweepable}
    return answer


def show_tables(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print_message(
            "no table has a column that looks like a status. "
            "Name one with --table and say the rest with --map FILE."
        )
        return
    print_table(
        ("table", "task table", "why"), [(row["table"], row["sure"], row["why"]) for row in rows]
    )
    print_message("--table NAME looks at one of them.")


def show_mapping(inferred: Inferred) -> None:
    """What was inferred, how sure it is, and what to give where it is not."""
    mapping = inferred.mapping
    words_of_states = [
        f"{state} = {', '.join(map(str, mapping.words[state]))}"
        for state in State
        if mapping.words.get(state)
    ]
    clocks = [f"{name} = {', '.join(names)}" for name, names in mapping.clocks.items() if names]
    others = [f"{name} = {column}" for name, column in mapping.columns.items() if column]
    print_message(f"{inferred.table.title}: key {mapping.key}, status {mapping.status}")
    for title, parts in (("words", words_of_states), ("clocks", clocks), ("columns", others)):
        print_message(f"  {title}: {'; '.join(parts) or 'none'}")
    print_message("  all of it is certain" if not inferred.doubts else "  not certain:")
    for text in inferred.unsure:
        print_message(f"  - {text}")


def show_stuck(inspection: Inspection) -> None:
    action = "the sweep would" if inspection.watch else "--fix would"
    if inspection.stuck:
        rows = [
            (task.id, task.word, span(task.age), task.kind, task.reason, task.action)
            for task in inspection.stuck
        ]
        print_table(("task", "status", "for", "kind", "why", action), rows)
    shown = len(inspection.stuck)
    hidden = f" (the oldest {shown} are shown: --limit)" if inspection.total > shown else ""
    print_message(f"{inspection.total} stuck of {inspection.open} open{hidden}")
    if inspection.unjudged:
        print_message(
            f"cannot say: {inspection.unjudged} open rows, no column tells since when. "
            "Name one with --map FILE (clocks), or a task with --job-id."
        )
    if inspection.hidden:
        print_message(
            "cannot say of all: row level security may hide rows from this role. Use a role in "
            "--dsn that bypasses it."
        )
    if not covered(inspection.inferred):
        print_message(
            "no index leads to the open tasks: each look reads the whole table. On a large one:"
        )
        for statement in recommended(inspection.inferred):
            print_message(f"  {statement}")


def show_fixed(fixed: Fixed, action: str) -> None:
    print_message(f"{len(fixed.ids)} {'put back or failed' if action == 'requeue' else 'failed'}")
    if fixed.unsweepable:
        print_table(
            ("task", "can't be written because"),
            [(task["id"], task["error"]) for task in fixed.unsweepable],
        )
        print_message(
            f"{len(fixed.unsweepable)} can't be written: the table's own rules refuse it. "
            "Mend them by hand, or the rule."
        )
