"""Whether the first sweep of an adopted table would take what `check` calls stuck: they differ
where the watch says other than the table does."""

from typing import Any

import psycopg

from functions.core.policy import Watch
from functions.errors import PolicyError, StoreError
from functions.ops.doctor.finding import Finding, warns
from functions.ops.doctor.session import rolled_back
from functions.ops.inspect import check
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import Connection
from functions.ops.inspect.stuck import find_stuck

MOST_TASKS = 500
SHOWN_TASKS = 5


def compared(connection: Connection, watch: Watch) -> list[Finding]:
    """Of at most MOST_TASKS on each side; where there are more, nothing is said."""
    if watch.own:
        return []
    try:
        inferred = check.infer_table(connection, watch.table)
        if inferred.refused or inferred.blind:
            return []
        stuck, total, *_ = find_stuck(connection, inferred, Limits(limit=MOST_TASKS))
        with rolled_back(connection):
            query = f"select unstuck.{watch.name}_preview(p_rules => %s, p_limit => %s)"
            row = connection.execute(query.encode(), (watch.rules_json, MOST_TASKS)).fetchone()
    except (StoreError, PolicyError, psycopg.Error):  # the other checks say what is in the way
        return []
    rescued: list[dict[str, Any]] = row[0] if row else []
    if total > MOST_TASKS or len(rescued) >= MOST_TASKS:
        return []
    by_check = {task.id for task in stuck} - _seen_by_trigger(connection, watch)
    by_sweep = {str(task["task_id"]) for task in rescued if not task.get("live")}
    return [
        *_difference(watch, by_check - by_sweep, "check calls {} stuck, and the sweep leaves them"),
        *_difference(
            watch, by_sweep - by_check, "the sweep takes {}, which check does not call stuck"
        ),
    ]


def _seen_by_trigger(connection: Connection, watch: Watch) -> set[str]:
    """The tasks of which a trigger saw what no column tells `check`: that they were put back, or
    taken outside the guard."""
    with rolled_back(connection):
        rows = connection.execute(
            "select o.task_id from unstuck.observed o where o.watch = %s", (watch.name,)
        ).fetchall()
    return {task_id for (task_id,) in rows}


def _difference(watch: Watch, keys: set[str], sentence: str) -> list[Finding]:
    if not keys:
        return []
    shown = ", ".join(sorted(keys)[:SHOWN_TASKS])
    more = f" and {len(keys) - SHOWN_TASKS} more" if len(keys) > SHOWN_TASKS else ""
    return [
        warns(
            watch.name,
            "first sweep",
            sentence.format(f"{shown}{more}"),
            "the words, clocks or times of the watch differ from what the table shows.",
            "Look at one with `explain`, and compare the watch with what `adopt` prints.",
        )
    ]
