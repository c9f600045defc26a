"""docs/reasons.md: states, outcomes and reasons, from the words of states.py and the sentences of
rules.sql."""

import re

from functions.core.states import MOVES, Outcome, Reason, State
from functions.install.render import template

REASONS: dict[Reason, tuple[str, str]] = {
    Reason.NEVER_CLAIMED: (
        (
            "No worker claimed the task within `pending_for`, although it was pushed again; or its "
            "turn did not come within `pending_at_most`, because more tasks came than were done."
        ),
        (
            "Whether workers run. `stats` shows how long tasks wait; the log has "
            "`claim_refused` and `dispatch_failed`."
        ),
    ),
    Reason.LEASE_LOST: (
        (
            "No heartbeat of the worker came in time: it was killed, frozen, or cut off from "
            "the database."
        ),
        "The log of its instance in that minute; the memory and timeout of the function.",
    ),
    Reason.DEADLINE: (
        "The attempt ran longer than `run_for` of its kind.",
        "A request of the handler that has no time limit; else raise `run_for`.",
    ),
    Reason.OUT_OF_MEMORY: (
        "The handler's process used more memory than `memory` of its kind.",
        (
            "Whether the handler can stream instead of load; else raise `memory`, and the "
            "memory of the function."
        ),
    ),
    Reason.CRASHED: (
        (
            "The handler's process ended with a signal or an exit code, without a result; "
            "`detail` names it."
        ),
        "A C library that crashes, or a handler that exits.",
    ),
    Reason.SHUTDOWN: (
        (
            "The platform shut the instance down. The first ten times the try does not count, "
            "unless `on_lost` says that the work must not be repeated."
        ),
        "Nothing, unless it happens often.",
    ),
    Reason.HANDLER_ERROR: (
        (
            "The handler raised `Fail`, or an error that is neither `Fail` nor `Retry` (rule "
            "`on_error`)."
        ),
        "`detail` has the traceback.",
    ),
    Reason.NO_HANDLER: (
        (
            "The worker has no such handler, though a module of its name. The task is tried again "
            "a minute later, by another worker if there is one; the first ten times do not count."
        ),
        "Whether a deploy is under way; `detail` names what is missing.",
    ),
    Reason.TRANSIENT: (
        (
            "The handler raised `Retry`, or a timeout or connection error. Or its module could not "
            "be imported (a library is missing); the first ten times that does not count. The task "
            "is tried again."
        ),
        "Nothing.",
    ),
    Reason.TRANSIENT_EXHAUSTED: (
        "As `transient`, but no try was left.",
        "The provider that the handler calls; then `retry --reason transient_exhausted`.",
    ),
    Reason.ATTEMPTS_EXHAUSTED: (
        "The last try did not succeed, and no try was left. The `cause` of each attempt says why.",
        "`explain ID` shows every attempt.",
    ),
    Reason.STALE: (
        (
            "The task was running without the guard, and none of its time columns changed "
            "for `silent_for`."
        ),
        "The worker that runs without the guard.",
    ),
    Reason.CANCELLED: ("A user or an operator cancelled the task.", ""),
    Reason.UNCERTAIN: (
        "An attempt was lost, and its work must not be done twice (`on_lost: uncertain`).",
        "Whether the work was done; then `retry` the task or leave it.",
    ),
    Reason.BY_HAND: ("An operator ended the task or put it back.", ""),
}
"""What each reason means, and where to look."""
OUTCOMES = {
    Outcome.COMPLETED: "This attempt completed the task.",
    Outcome.FAILED: "The task failed with this attempt.",
    Outcome.RETRIED: "The task is pending again, and this try counts.",
    Outcome.RELEASED: "The task is pending again, and this try does not count.",
    Outcome.CANCELLED: "The task was cancelled.",
    Outcome.OVERTAKEN: "Other code moved or deleted the task meanwhile.",
}
STATES = {
    State.PENDING: "waits for a worker",
    State.RUNNING: "a worker holds it",
    State.COMPLETED: "ended, with a result",
    State.FAILED: "ended, with a reason",
    State.CANCELLED: "ended, because somebody cancelled it",
    State.RESTING: "waits for a person; the sweep never touches it",
}


_PAGE = """# States, outcomes, reasons

<!-- Made by `make docs` from functions/core/states.py and functions/sql/rules.sql. -->

## States of a task

| state | meaning | may become |
|---|---|---|
{states}

The watch of a table (its entry in `policy.yaml`) maps its own status values to these, many to one.
Other words are in the [glossary](glossary.md).

## Outcomes of an attempt

| outcome | meaning |
|---|---|
{outcomes}

## Reasons

The code is in the column `reason`. The sentence is for the user; it is used when the handler gave
none. `cause` is the reason of one attempt, where it differs from that of its task.

| reason | meaning | look at | sentence |
|---|---|---|---|
{reasons}
"""


def text() -> str:
    states = [f"| {state} | {STATES[state]} | {_next_states(state) or '-'} |" for state in State]
    outcomes = [f"| `{outcome}` | {meaning} |" for outcome, meaning in OUTCOMES.items()]
    texts = re.findall(r"when '(\w+)' then((?:\s+'[^']*')+)", template("rules"))
    sentences = {reason: "".join(re.findall(r"'([^']*)'", text)) for reason, text in texts}
    reasons = [
        f"| `{reason}` | {meaning} | {where_to_look} | {sentences.get(reason, '-')} |"
        for reason, (meaning, where_to_look) in REASONS.items()
    ]
    return _PAGE.format(
        states="\n".join(states), outcomes="\n".join(outcomes), reasons="\n".join(reasons)
    )


def _next_states(state: State) -> str:
    return ", ".join(sorted(after for before, after in MOVES if before == state))
