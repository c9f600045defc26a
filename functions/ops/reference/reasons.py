"""docs/reasons.md: states, outcomes and reasons, from the words of states.py and the sentences of
rules.sql."""

import re

from functions.core.states import MOVES, Outcome, Reason, State
from functions.install.render import template

REASONS: dict[Reason, tuple[str, str]] = {
    Reason.NEVER_CLAIMED: (
        "No worker took it within `pending_for`, although it was pushed again.",
        "Do workers run? `stats` for the queue's age, the log of the worker for `claim_refused`, `dispatch_failed`.",
    ),
    Reason.LEASE_LOST: (
        "The worker stopped without a word: killed, frozen, or cut off from the database.",
        "The log of its instance in that minute; memory and timeout of the function.",
    ),
    Reason.DEADLINE: (
        "It ran longer than `run_for` of its kind.",
        "A request without a time limit? Else raise `run_for`.",
    ),
    Reason.OUT_OF_MEMORY: (
        "Its process held more than `memory` of its kind.",
        "Stream instead of loading; else raise `memory`, and that of the function.",
    ),
    Reason.CRASHED: (
        "Its process ended by a signal or an exit code without a result; `detail` has it.",
        "A C library, or a handler that exits.",
    ),
    Reason.SHUTDOWN: (
        "The platform took the instance away. Burns no try, ten times.",
        "Nothing, unless it happens often.",
    ),
    Reason.HANDLER_ERROR: (
        "The handler raised `Fail`, or an error under `on_error`.",
        "`detail` has the traceback.",
    ),
    Reason.TRANSIENT: (
        "The handler raised `Retry`, or a timeout or connection error.",
        "Nothing: it is tried again.",
    ),
    Reason.TRANSIENT_EXHAUSTED: (
        "The same, and no try was left.",
        "The provider; then `retry --reason transient_exhausted`.",
    ),
    Reason.ATTEMPTS_EXHAUSTED: (
        "Each try was lost. `cause` of the attempts says how.",
        "`explain ID` shows every attempt.",
    ),
    Reason.STALE: (
        "It was running without the guard, and none of its clocks moved for `silent_for`.",
        "The worker that is not in the guard.",
    ),
    Reason.CANCELLED: ("A user or a person cancelled it.", ""),
    Reason.UNCERTAIN: (
        "A try was lost whose work must not be done twice (`on_lost: uncertain`).",
        "Look whether it was done; then `retry` or leave it.",
    ),
    Reason.BY_HAND: ("A person ended it or put it back.", ""),
}
"""What each means, and where to look."""
OUTCOMES = {
    Outcome.COMPLETED: "The task is completed by it.",
    Outcome.FAILED: "The task failed with it.",
    Outcome.RETRIED: "The task is pending again; the try counts.",
    Outcome.RELEASED: "The task is pending again; the try does not count.",
    Outcome.CANCELLED: "The task was cancelled.",
    Outcome.OVERTAKEN: "Somebody who does not use the guard moved the task, or deleted it.",
}
STATES = {
    State.PENDING: "waits for a worker",
    State.RUNNING: "a worker is at it",
    State.COMPLETED: "ended, with a result",
    State.FAILED: "ended, with a reason",
    State.CANCELLED: "ended, because somebody wished so",
    State.RESTING: "waits for a person; never swept",
}


def text() -> str:
    moves = [
        f"| {one} | {STATES[one]} | {', '.join(sorted(to for was, to in MOVES if was == one)) or '-'} |"
        for one in State
    ]
    outcomes = [f"| `{one}` | {told} |" for one, told in OUTCOMES.items()]
    said = dict(re.findall(r"when '(\w+)'\s+then '([^']+)'", template("rules")))
    reasons = [
        f"| `{one}` | {means} | {look} | {said.get(one, '-')} |"
        for one, (means, look) in REASONS.items()
    ]
    return "\n".join(
        [
            "# States, outcomes, reasons\n",
            "<!-- Made by `make docs` from functions/core/states.py and functions/sql/rules.sql. -->\n",
            "## States of a task\n",
            "| state | means | may become |",
            "|---|---|---|",
            *moves,
            "",
            "A table's own words are mapped to these, many to one, in its watch.\n",
            "## Outcomes of an attempt\n",
            "| outcome | means |",
            "|---|---|",
            *outcomes,
            "",
            "## Reasons\n",
            "The code in `reason`; beside it stands the sentence for the user, unless the handler gave one.\n",
            "| reason | means | look at | sentence |",
            "|---|---|---|---|",
            *reasons,
            "",
        ]
    )
