"""What `check` does, apart from its options: looks at one table or for tables, and says it as JSON
or in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from functions.core.states import State
from functions.ops.cli.out import print_message, print_table, span
from functions.ops.look import mapping
from functions.ops.look.catalogue import (
    Connection,
    Facts,
    candidates,
    facts,
    find,
    labels_behind,
    occurring,
)
from functions.ops.look.fix import Fixed
from functions.ops.look.indexes import covered, recommended
from functions.ops.look.infer import Inferred, infer
from functions.ops.look.mapping import Override
from functions.ops.look.sentences import doubt, listed
from functions.ops.look.session import looking
from functions.ops.look.stuck import Stuck

SCHEMA = 1
"""Of the JSON: raised when a key changes its meaning."""


@dataclass(frozen=True)
class Seen:
    """One look at one table. `total` counts the stuck tasks that --limit hides too."""

    found: Inferred
    stuck: Sequence[Stuck] = ()
    total: int = 0
    open: int = 0


def inferred(connection: Connection, name: str, map_file: str | None = None) -> Inferred:
    """Raises StoreError for a table that is not there, PolicyError for a map that can't be used."""
    with looking(connection):
        return _inferred(connection, find(connection, name), map_file)


def _inferred(connection: Connection, oid: int, map_file: str | None = None) -> Inferred:
    def load(seen: Facts) -> Override:
        return mapping.load(map_file, seen.columns) if map_file else {}

    one = facts(connection, oid)
    found = infer(
        one,
        lambda column: occurring(connection, one, column),
        lambda other: labels_behind(connection, other),
        load,
    )
    if one.row_security:
        found.doubts.append(doubt("hidden"))
    return found


def tables(connection: Connection) -> list[dict[str, Any]]:
    """The tables that may hold tasks, those that surely do first, and why."""
    found = []
    with looking(connection):
        for oid, name in candidates(connection):
            one = _inferred(connection, oid)
            found.append(
                {
                    "table": name,
                    "sure": _sure(one),
                    "why": _why(one),
                    "refused": one.refused,
                    "unsure": one.unsure,
                }
            )
    return sorted(found, key=lambda one: ("yes", "likely", "no").index(one["sure"]))


def _sure(found: Inferred) -> str:
    if found.refused:
        return "no"
    return "likely" if found.blind or found.assumed else "yes"


def _why(found: Inferred) -> str:
    if found.refused:
        return found.refused
    if found.blind:
        return f"{found.mapping.status} may be its status, but nothing tells what its values mean"
    known = {
        state: [one for one in found.mapping.words.get(state, ()) if one not in found.assumed]
        for state in State
    }
    told = [
        f"{listed(known[state])} for {state}"
        for state in (State.PENDING, State.RUNNING, State.FAILED)
        if known[state]
    ]
    return f"{found.mapping.status} has {', '.join(told) or 'no word that is known for sure'}"


def as_json(seen: Seen, fixed: Fixed | None = None) -> dict[str, Any]:
    """The object of `check --json`, in its exact form."""
    found = seen.found
    answer = {
        "schema": SCHEMA,
        "table": found.table.title,
        "inferred": found.mapping.as_json(),
        "unsure": found.unsure,
        "refused": found.refused,
        "stuck": [one.as_json() for one in seen.stuck],
        "open": seen.open,
    }
    return (
        answer if fixed is None else answer | {"fixed": fixed.ids, "unsweepable": fixed.unsweepable}
    )


def show_tables(found: list[dict[str, Any]]) -> None:
    if not found:
        print_message(
            "no table has a column that looks like a status. Name one with --table and say the rest with --map FILE."
        )
        return
    print_table(
        ("table", "task table", "why"), [(one["table"], one["sure"], one["why"]) for one in found]
    )
    print_message("--table NAME looks at one of them.")


def show_mapping(found: Inferred) -> None:
    """What was inferred, how sure it is, and what to give where it is not."""
    told = found.mapping
    spoken = [
        f"{state} = {', '.join(map(str, told.words[state]))}"
        for state in State
        if told.words.get(state)
    ]
    clocks = [f"{name} = {', '.join(names)}" for name, names in told.clocks.items() if names]
    others = [f"{name} = {one}" for name, one in told.columns.items() if one]
    print_message(f"{found.table.title}: key {told.key}, status {told.status}")
    for title, parts in (("words", spoken), ("clocks", clocks), ("columns", others)):
        print_message(f"  {title}: {'; '.join(parts) or 'none'}")
    print_message("  all of it is certain" if not found.doubts else "  not certain:")
    for text in found.unsure:
        print_message(f"  - {text}")


def show_stuck(seen: Seen) -> None:
    if seen.stuck:
        rows = [
            (one.id, one.word, span(one.age), one.kind, one.reason, one.action)
            for one in seen.stuck
        ]
        print_table(
            ("task", "status", "for", "kind", "why", "--fix would"),
            rows,
            title=seen.found.table.title,
        )
    hidden = (
        f" (the oldest {len(seen.stuck)} are shown: --limit)"
        if seen.total > len(seen.stuck)
        else ""
    )
    print_message(f"{seen.total} stuck of {seen.open} open{hidden}")
    if not covered(seen.found):
        print_message(
            "no index leads to the open tasks: each look reads the whole table. On a large one:"
        )
        for statement in recommended(seen.found):
            print_message(f"  {statement}")


def show_fixed(fixed: Fixed, action: str) -> None:
    print_message(f"{len(fixed.ids)} {'put back or failed' if action == 'requeue' else 'failed'}")
    if fixed.unsweepable:
        print_table(
            ("task", "can't be written because"),
            [(one["id"], one["error"]) for one in fixed.unsweepable],
        )
        print_message(
            f"{len(fixed.unsweepable)} can't be written: the table's own rules refuse it. Mend them by hand, or the rule."
        )
