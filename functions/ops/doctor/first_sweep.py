"""What the next sweep of an adopted table decides: what it would end and what it would start again;
and where that differs from what `check` calls stuck, since the watch says other than the table
does."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from functions.core.answers import Rescued, StuckTasks, TaskStatus
from functions.core.explain import explain
from functions.core.policy import Policy, Watch
from functions.errors import PolicyError, StoreError
from functions.ops.cli.out import counted, span
from functions.ops.doctor.finding import Finding, fine, warns
from functions.ops.inspect import check
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import SILENCE_SECONDS, WAIT_SECONDS, Limits
from functions.ops.inspect.session import Connection
from functions.ops.inspect.stuck import Stuck, find_stuck
from functions.store.page_answers import Summary
from functions.store.reader import read

MOST_TASKS = 500
SHOWN_TASKS = 5


@dataclass(frozen=True)
class Look:
    """What `check` sees of the table alone."""

    inferred: Inferred
    stuck: list[Stuck]
    total: int


def look(connection: Connection, watch: Watch) -> Look | None:
    """None where `check` cannot say, or the table is ours."""
    if watch.own:
        return None
    try:
        inferred = check.infer_table(connection, watch.table)
        if inferred.refused or inferred.blind:
            return None
        stuck, total, *_ = find_stuck(connection, inferred, Limits(limit=MOST_TASKS))
    except (StoreError, PolicyError, psycopg.Error):  # the other checks say what is in the way
        return None
    return Look(inferred, list(stuck), total)


def decided(
    connection: Connection, policy: Policy, watch: Watch, by_check: Look | None
) -> list[Finding]:
    """In a transaction of the caller, in which the verbs are there."""
    if watch.own:
        return []
    query = f"select unstuck.{watch.name}_stuck(p_rules => %s, p_limit => %s)"
    rules = str(watch.rules_json)
    row = connection.execute(query.encode(), (rules, MOST_TASKS)).fetchone()
    answer = read(StuckTasks, row[0] if row else {})
    hidden = by_check is not None and by_check.inferred.table.row_security
    findings = [] if hidden else [_decision(watch, answer)]
    findings += _undated(connection, watch)
    if by_check and by_check.total <= MOST_TASKS and answer.count <= MOST_TASKS:
        findings += _differences(connection, policy, watch, by_check, answer.tasks)
    return findings


def _decision(watch: Watch, answer: StuckTasks) -> Finding:
    if not answer.count:
        return fine(watch.name, "next sweep", "the next sweep finds nothing to settle")
    groups = []
    for group in answer.groups:
        of_kind = f" of the kind {group.kind}" if group.kind else ""
        ages = f"{span(group.oldest)} old"
        if span(group.newest) != span(group.oldest):
            ages = f"{span(group.newest)} to {ages}"
        does = "starts again" if group.state == "pending" else f"ends as {group.state}"
        groups.append(f"it {does} {group.count} {group.was}{of_kind}, {ages} ({group.reason})")
    more = " or more" if answer.count >= answer.most else ""
    return warns(
        watch.name,
        "next sweep",
        f"the next sweep settles {counted(answer.count, 'task')}{more}: {'; '.join(groups)}",
        "tasks that ran outside the guard are started again only when they were alive within "
        "restart_within (1d by default); what is older fails.",
        f"`sweep --dry-run --in {watch.name}` shows the same. Change restart_within, silent_for or "
        "pending_for in the rules before the first sweep, if that is not what you want; "
        "`undo` takes back what a sweep has failed.",
    )


def _undated(connection: Connection, watch: Watch) -> Iterator[Finding]:
    """The open tasks that no clock dates: no sweep ends them, which is no sign of health."""
    query = f"select unstuck.{watch.name}_pulse(p_rules => %s)"
    row = connection.execute(query.encode(), (str(watch.rules_json),)).fetchone()
    unjudged = read(Summary, row[0]).stuck.unjudged if row else 0
    if unjudged:
        yield warns(
            watch.name,
            "undated",
            f"nobody can say since when {counted(unjudged, 'open task')} waited or ran: the clocks "
            "are empty",
            "no sweep ends such a task, however long it hangs.",
            "Let the application set one of the clocks of the watch (a default now() is enough). "
            "Or take a clock that it never sets out of `clocks`, with `fence: observe`: then the "
            "guard sees since when each task is there. Or end these by hand (`fail`).",
        )


def _differences(
    connection: Connection, policy: Policy, watch: Watch, by_check: Look, tasks: list[Rescued]
) -> Iterator[Finding]:
    """What only the ledger and the trigger know is none: that a worker in the guard holds a task,
    or one outside has taken it, or that it was put back."""
    by_sweep = {str(task.task_id): task for task in tasks if not task.live}
    called = {task.id: task for task in by_check.stuck}
    left = {}
    seen = _seen_by_trigger(connection, watch)
    for key in sorted(called.keys() - by_sweep.keys() - seen):
        status = _status(connection, watch, key)
        if status is None or not (status.attempt and status.attempt.outcome is None):
            left[key] = explain(policy, watch, status) if status else "It is gone."
    taken = {
        key: f"{task.was}, {task.state} as {task.reason}"
        for key, task in by_sweep.items()
        if key not in called and key not in seen
    }
    if left:
        fact = f"check calls {len(left)} stuck, and the sweep leaves them: {_shown(left)}"
        yield _difference(watch, by_check.inferred, fact)
    if taken:
        fact = f"the sweep takes {len(taken)}, which check does not call stuck: {_shown(taken)}"
        yield _difference(watch, by_check.inferred, fact)


def _seen_by_trigger(connection: Connection, watch: Watch) -> set[str]:
    query = "select o.task_id from unstuck.observed o where o.watch = %s"
    return {task_id for (task_id,) in connection.execute(query, (watch.name,)).fetchall()}


def _status(connection: Connection, watch: Watch, key: str) -> TaskStatus | None:
    query = f"select unstuck.{watch.name}_status(%s, %s, false)"
    row = connection.execute(query.encode(), (key, str(watch.rules_json))).fetchone()
    if not row or row[0]["verdict"] == "missing":
        return None
    return read(TaskStatus, row[0])


def _shown(sentences: dict[str, str]) -> str:
    shown = [f"{key}: {text.rstrip('.')}" for key, text in list(sentences.items())[:SHOWN_TASKS]]
    more = len(sentences) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more else [])])


def _difference(watch: Watch, inferred: Inferred, fact: str) -> Finding:
    reasons = [*_described(watch, inferred), *_numbers(watch, inferred)]
    return warns(
        watch.name,
        "first sweep",
        fact,
        f"{'; '.join(reasons) or 'a task that was put back waits from that moment'}.",
        "Look at one with `explain`. Correct what the watch says, or leave it: the sweep goes by "
        "it.",
    )


def _described(watch: Watch, inferred: Inferred) -> Iterator[str]:
    """Which words and clocks the watch has other than the table shows."""
    mapping = inferred.mapping
    for state, words in mapping.words.items():
        own = set(map(str, watch.words[state]))
        shown = {str(word) for word in words if word not in inferred.assumed}
        if own != shown:
            yield f"{state} is {_listed(own)} in the watch, and {_listed(shown)} in the table"
    for clock in ("queued", "started", "due", "lease", "deadline"):
        own, shown = set(watch.clocks.get(clock, ())), set(mapping.clock(clock))
        if own != shown and not (clock == "queued" and shown <= own):
            by_both = f"{_listed(own)} in the watch, and {_listed(shown)} by `check`"
            yield f"the clock {clock} is {by_both}"


def _listed(names: set[Any]) -> str:
    return ", ".join(sorted(names)) or "none"


def _numbers(watch: Watch, inferred: Inferred) -> Iterator[str]:
    """Which times of the rules are not those by which `check` judges."""
    silence = inferred.silence or SILENCE_SECONDS
    for name, seconds in (("silent_for", silence), ("pending_for", WAIT_SECONDS)):
        own = {getattr(rule, name) for rule in watch.rules.values()} - {seconds}
        if own:
            times = ", ".join(span(time) for time in sorted(own))
            yield f"{name} is {times} in the rules, and check judges by {span(seconds)}"
