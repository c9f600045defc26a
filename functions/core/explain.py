"""One or two sentences about a task: where it is, why, since when, and what will happen next and
when.

A pure function of what `status` answers and of the rule, so that the API, the command line and the
page say the same."""

from functions.core.answers import LastAttempt, Pause, TaskStatus
from functions.core.policy import Policy, Rule, Watch
from functions.core.progress import progress_of
from functions.core.states import Outcome, State

_CAUSES = {
    "lease_lost": "the worker stopped without a word",
    "deadline": "the work took longer than it may",
    "out_of_memory": "the work needed more memory than it may use",
    "crashed": "the process that did the work crashed",
    "shutdown": "the worker was shut down",
    "transient": "it failed for a passing reason",
    "handler_error": "the handler raised an error",
    "stale": "nothing was heard of it for too long",
    "by_hand": "a person put it back",
}


def explain(policy: Policy, watch: Watch, status: TaskStatus) -> str:
    """`status` is the answer of `Store.status`."""
    rule = watch.rule(status.kind)
    match status.state:
        case State.PENDING:
            return _pending(policy, rule, status)
        case State.RUNNING:
            return _running(policy, rule, status)
        case State.RESTING:
            return f"It waits for a person ({status.word}). It is never swept."
        case None if watch.states_named(status.word or ""):
            return (
                f"Its status is {status.word!r}, but its row says that it has ended or was deleted "
                f"({', '.join((*watch.ended, *watch.deleted))}): no sweep touches it."
            )
        case None:
            return (
                f"Its status {status.word!r} is not a word of the watch {watch.name}. "
                "Add it to `words` in policy.yaml."
            )
    return _ended(status)


def span(seconds: float) -> str:
    """A time as a person says it: 45s, 12m, 3h 20m, 46d 4h."""
    left = max(0, round(seconds))
    units = [
        (left // 86400, "d"),
        (left % 86400 // 3600, "h"),
        (left % 3600 // 60, "m"),
        (left % 60, "s"),
    ]
    return " ".join([f"{count}{unit}" for count, unit in units if count][:2]) or "0s"


def headline(text: str) -> str:
    """The line of a longer text that says what went wrong: the last one of a Python traceback, else
    the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if any(line.startswith("Traceback (") for line in lines) else lines[0]


def _pending(policy: Policy, rule: Rule, status: TaskStatus) -> str:
    attempt, waited = status.attempt, status.waited
    again = ""
    if (
        attempt
        and attempt.ended_ago is not None
        and attempt.outcome in {Outcome.RETRIED, Outcome.RELEASED}
    ):
        again = (
            f"Attempt {attempt.number} ended {span(attempt.ended_ago)} ago: "
            f"{_cause(attempt)}.{_evidence(attempt)} {_tries_left(attempt)} "
        )
    asked = status.overdue and (status.pending_left or 1) > 0
    if asked and not (attempt and attempt.ended_ago is None):
        return f"{again}Its user asked to stop it: {_next_sweep(policy)} cancels it."
    if status.due_in and status.due_in > 0:
        subject = "the next try" if again else "it"
        return f"{again}It is pending; {subject} may start in {span(status.due_in)}."
    if status.paused:
        return f"{again}{_paused(status.paused)}"
    if waited is None:
        return f"{again}It waits for a worker; since when is not known, so that no sweep fails it."
    left = rule.pending_for - waited if status.pending_left is None else status.pending_left
    if left <= 0:
        return (
            f"{again}No worker picked it up for {span(waited)}: "
            f"{_next_sweep(policy)} fails it as never_claimed."
        )
    until_push = rule.redispatch_after - waited
    push = f"is pushed again in {span(until_push)}" if until_push > 0 else "was pushed again"
    return (
        f"{again}It has waited {span(waited)} for a worker. "
        f"It {push}, and fails as never_claimed in {span(left)}."
    )


def _paused(pause: Pause) -> str:
    paused = "All tasks of its table are" if pause.kind == "*" else "Its kind is"
    reason = f" ({pause.why})" if pause.why else ""
    if pause.breaker:
        left = span(pause.left or 0)
        end = f"In {left} one task is let through, to see whether it works again."
    elif pause.left is None:
        end = "It waits until somebody resumes it."
    else:
        end = f"It is taken again in {span(pause.left)}."
    return (
        f"{paused} paused since {span(pause.age)} by {pause.who}{reason}. {end} "
        "The time of a pause does not count as waiting."
    )


def _running(policy: Policy, rule: Rule, status: TaskStatus) -> str:
    attempt = status.attempt
    if attempt is None or attempt.lease_left is None or attempt.deadline_left is None:
        if status.silent is None:
            return "It runs without the guard, and no clock says since when: no sweep ends it."
        left = rule.silent_for - status.silent
        so_far = f"It runs without the guard; the last sign of life came {span(status.silent)} ago."
        if left > 0:
            return f"{so_far} After {span(left)} more of silence the sweep ends it."
        return f"{so_far} That is too long: {_next_sweep(policy)} ends it."
    so_far = (
        f"Attempt {attempt.number} has been running for {span(attempt.age)}{_progress(attempt)}"
    )
    if attempt.lease_left <= 0:
        action = "puts it back" if _retries(attempt, rule) else "fails it"
        return (
            f"{so_far}, but its lease or deadline ran out {span(-attempt.lease_left)} ago: "
            f"{_next_sweep(policy)} {action}."
        )
    return (
        f"{so_far}; its last beat came {span(attempt.silent)} ago. "
        f"Without another one it is taken back in {span(attempt.lease_left)}, "
        f"and in {span(attempt.deadline_left)} at the latest."
    )


def _ended(status: TaskStatus) -> str:
    last = status.attempt
    attempt = None
    if last and last.outcome and last.outcome.value == status.state:
        attempt = last  # else somebody ended it behind the guard
    when = f" {span(attempt.ended_ago or 0)} ago" if attempt else ""
    if status.state == State.COMPLETED:
        by = (
            f" by attempt {attempt.number}, which took {span(attempt.took or 0)}" if attempt else ""
        )
        return f"It was completed{when}{by}."
    if status.state == State.CANCELLED:
        return f"It was cancelled{when}."
    why = f" as {status.reason}" if status.reason else ""
    return (
        f"It failed{when}{why}: {status.error or 'no reason was written down'}{_evidence(attempt)}"
    )


def _cause(attempt: LastAttempt) -> str:
    cause = attempt.cause or attempt.reason or attempt.outcome or ""
    return _CAUSES.get(cause, cause)


def _evidence(attempt: LastAttempt | None) -> str:
    """What the platform's log says of a worker that stopped without a word."""
    return f" {attempt.evidence}" if attempt and attempt.evidence else ""


def _retries(attempt: LastAttempt, rule: Rule) -> bool:
    return rule.on_lost == "retry" and attempt.tries < attempt.of


def _tries_left(attempt: LastAttempt) -> str:
    is_released = attempt.outcome is Outcome.RELEASED  # such a try does not count
    left = max(0, attempt.of - attempt.tries + is_released)
    return f"{left} of {attempt.of} tries {'is' if left == 1 else 'are'} left."


def _progress(attempt: LastAttempt) -> str:
    fraction, message = progress_of(attempt.progress)
    parts = [f"{fraction:.0%}"] if fraction is not None else []
    parts += [message] if message else []
    return f" ({', '.join(parts)})" if parts else ""


def _next_sweep(policy: Policy) -> str:
    return f"the next sweep, within {span(policy.sweep_every)},"
