"""docs/reasons.md: states, outcomes and reasons, from the words of states.py and the sentences of
rules.sql."""

import re

from functions.core.states import MOVES, Outcome, State
from functions.install.render import template
from functions.page.reasons import REASONS

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

*For you if a code in a row or in the log is new to you. 1 minute.*

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
