"""The six invariants. Each is judged from what the actors were told, from the journal that triggers
wrote beside the shipped SQL, and from the rows."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from tests.interleave.stage import RULES, Event, Played
from tests.interleave.world import BALANCE, COST, LEASE_SECONDS, STATES, TRIES

ENDED = ("completed", "failed", "cancelled")
PEOPLE = ("cancel", "reopen", "requeue", "by hand")
"""Actors that may take a task from a worker whose lease still runs."""
HOLDERS = ("worker", "second", "zombie")
MEANT = {
    "complete": {"completed"},
    "fail": {"failed"},
    "retry": {"pending", "failed"},
    "release": {"pending", "failed"},
}
"""To which states each settle may lead."""
BY_HAND = {
    "reopen": "pending",
    "requeue": "pending",
    "end by hand": "failed",
    "stop all": "cancelled",
}
WRITTEN = {
    "write an end": "cancelled",
    "end past the fence": "cancelled",
    "put back": "pending",
    "put back past the fence": "pending",
}
SETTLED_BEFORE = ("transient", "handler_error", None)
"""The reasons of attempts that end before the actors come."""

Judge = Callable[[Played, str], Iterator[str]]


def violations(played: Played) -> list[str]:
    """What was broken, a sentence each; the number before it is that of the invariant."""
    sentences = [
        f"{number}: {sentence}"
        for number, judges in PROMISES.items()
        for judge in judges
        for task in played.ids
        for sentence in judge(played, task)
    ]
    return sentences + list(errors(played))


def one_attempt_lives(played: Played, task: str) -> Iterator[str]:
    """At most one attempt of a task lives, and one that has ended stays as it ended."""
    live, numbers = 0, []
    for line in _journal(played, task, "attempt"):
        was, becomes = line["was"], line["becomes"]
        live += (becomes == "live") - (was == "live")
        if live > 1:
            yield f"attempt {line['number']} lives beside another one"
        if was == "none":
            numbers.append(line["number"])
        elif was != "live" and becomes not in ("overtaken", was):
            yield f"attempt {line['number']} had ended as {was} and became {becomes}"
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the attempts have the numbers {numbers}"


def a_lease_is_kept(played: Played, task: str) -> Iterator[str]:
    """Nobody but a person takes a task from a worker whose lease runs; and a lease is whole."""
    for line in _journal(played, task, "attempt"):
        ends = line["was"] == "live" != line["becomes"]
        if not ends or _moment(line["at"]) >= _moment(line["lives_until"]):
            continue
        actor = line["actor"]
        if actor == "scheduler":
            taken = line["reason"] not in SETTLED_BEFORE
        elif actor in HOLDERS:
            taken = line["token"] not in _tokens(played, actor)
        else:
            taken = actor not in PEOPLE
        if taken:
            yield f"{actor} ended attempt {line['number']}, whose lease was not over"
    for attempt in _attempts(played, task):
        if attempt["worker"] is not None and not _is_whole(attempt):
            yield f"attempt {attempt['number']} had less than its lease, or than its time"


def a_claim_says_who_holds_it(played: Played, task: str) -> Iterator[str]:
    begun = {line["token"] for line in _journal(played, task, "attempt") if line["was"] == "none"}
    for event in _told(played, task):
        if event.verb not in ("claim", "next", "again"):
            continue
        verdict, token = event.answer["verdict"], str(event.token)
        if verdict == "claimed" and (token not in begun or event.answer["token"] != token):
            yield f"{event.actor} was told that it holds the task, and it has no attempt"
        if verdict == "claimed" and event.verb == "again" and _had_ended(played, task, event):
            yield f"{event.actor} was told that it still holds what was taken away"
        if verdict != "claimed" and event.verb == "claim" and token in begun:
            yield f"{event.actor} was told {verdict}, and it has an attempt"


def a_heartbeat_says_who_lives(played: Played, task: str) -> Iterator[str]:
    for event in _told(played, task):
        if event.verb not in ("beat", "checkpoint"):
            continue
        leases = [
            line
            for line in _journal(played, task, "attempt")
            if line["actor"] == event.actor
            and _moment(line["at"]) == event.at
            and line["was"] == line["becomes"] == "live"
            and line["token"] == str(event.token)
            and (_moment(line["leased_until"]) - event.at).total_seconds() == LEASE_SECONDS
        ]
        if (event.answer["verdict"] == "held") != bool(leases):
            yield f"a heartbeat was told {event.answer['verdict']}: {len(leases)} leases"


def _is_whole(attempt: dict[str, Any]) -> bool:
    started = _moment(attempt["started_at"])
    leased = (_moment(attempt["lease_until"]) - started).total_seconds()
    allowed = (_moment(attempt["deadline_at"]) - started).total_seconds()
    return leased >= LEASE_SECONDS and allowed > LEASE_SECONDS


def _had_ended(played: Played, task: str, event: Event) -> bool:
    """Whether the end of the actor's attempt was committed before its verb began."""
    ends = {
        _moment(line["at"])
        for line in _journal(played, task, "attempt")
        if line["token"] == str(event.token) and line["was"] == "live" != line["becomes"]
    }
    return any(
        other.at in ends and other.done_at is not None and other.done_at < event.at
        for other in played.log
    )


def an_ended_state_stays(played: Played, task: str) -> Iterator[str]:
    """Only a person starts a task again that has ended, and only after failed or cancelled; its
    result never changes. A stranger ends no task that is held."""
    held = _lives(played, task)
    for line in _journal(played, task, "task"):
        was, becomes = STATES[line["was"]], STATES[line["becomes"]]
        leaves = was in ENDED and (becomes != was or line["changed"])
        may_leave = line["actor"] == "reopen" and becomes == "pending" and was != "completed"
        if leaves and not may_leave:
            yield f"{line['actor']} moved a task that was {was} to {becomes}"
        is_stranger = line["actor"] == "foreign" and not _may_pass(played)
        if is_stranger and held(line["seq"]) and was != becomes:
            yield f"somebody else moved a held task from {was} to {becomes}"


def an_answer_is_in_the_row(played: Played, task: str) -> Iterator[str]:
    """What an actor was told of an end is so, for good."""
    moves = list(_journal(played, task, "task"))
    seen = {STATES[line[side]] for line in moves for side in ("was", "becomes")}
    for event in _told(played, task):
        own = [
            STATES[line["becomes"]]
            for line in moves
            if line["actor"] == event.actor and _moment(line["at"]) == event.at
        ]
        states = _states_of_answer(event, task)
        if states is not None and states != own:
            yield f"{event.actor} {event.verb} was told {states}, and the row moved to {own}"
        verdict = event.answer.get("verdict") if isinstance(event.answer, dict) else None
        if event.verb == "cancel" and verdict != "cancelled" and not seen & set(ENDED):
            yield f"the user was told {verdict}, and the task had not ended"
        if event.verb == "poll" and seen and event.answer["state"] not in seen:
            yield f"the poll was told {event.answer['state']}, and the task never was"
        if event.verb == "poll" and event.answer["overdue"] and _may_still_wait(event.answer):
            yield "the poll was told that a task is overdue which may still wait"


def _may_still_wait(answer: dict[str, Any]) -> bool:
    """Whether the task waits, held by nobody, and has time left for that."""
    attempt = answer["attempt"]
    is_held = attempt is not None and attempt["ended_at"] is None
    return answer["state"] == "pending" and not is_held and answer["pending_left"] > 0


def _states_of_answer(event: Event, task: str) -> list[str] | None:
    """The states to which an actor was told that its verb moved the task; None: it does not say."""
    answer = event.answer
    if event.verb in MEANT:
        settled = answer["verdict"] == "settled" and not answer.get("repeat")
        return [answer["state"]] if settled else []
    if event.verb == "cancel":
        return ["cancelled"] if answer["verdict"] == "cancelled" else []
    if event.verb in BY_HAND:
        return [BY_HAND[event.verb]] if task in answer else []
    if event.verb in ("sweep", "poll"):
        own = (rescue["state"] for rescue in answer["rescued"] if rescue["task_id"] == task)
        return [state for state in own if state != "overtaken"]
    if event.verb in WRITTEN:
        return [WRITTEN[event.verb]] * int(answer)
    return None


def _may_pass(played: Played) -> bool:
    """Whether the foreign writer has the right to pass the fence."""
    return any("past the fence" in verb for verb in played.cast.verbs)


def a_result_is_the_holders(played: Played, task: str) -> Iterator[str]:
    """A task is completed by the worker whose attempt lived until then, with its result."""
    completed = [a["token"] for a in _attempts(played, task) if a["outcome"] == "completed"]
    ends = []
    for line in _journal(played, task, "task"):
        ends += [line] if STATES[line["becomes"]] == "completed" else []
        if line["changed"] and line["result"] is not None and line not in ends:
            yield f"{line['actor']} wrote a result of a task that is not completed"
    for line in ends:
        if line["actor"] not in (*HOLDERS, "scheduler") or line["result"] not in completed:
            yield f"{line['actor']} completed it with the result {line['result']}"
    if len(completed) != len(ends):
        yield f"{len(completed)} attempts completed it, and the row moved so {len(ends)} times"
    row = played.facts["rows"][task]
    if STATES[row["word"]] == "completed" and [row["result"]] != completed:
        yield f"the row has the result {row['result']}, and the ledger {completed}"


def a_settle_says_how_it_ended(played: Played, task: str) -> Iterator[str]:
    outcomes = {attempt["token"]: attempt["outcome"] for attempt in _attempts(played, task)}
    for event in _told(played, task):
        if event.verb not in MEANT:
            continue
        verdict, outcome = event.answer["verdict"], outcomes.get(str(event.token))
        if verdict == "settled" and outcome not in _outcomes(event.verb):
            yield f"{event.actor} was told settled, and its attempt is {outcome}"
        if verdict == "lost" and _settled_before(played, event):
            yield f"{event.actor} repeated its settle and was told lost"


def _settled_before(played: Played, event: Event) -> bool:
    return any(
        other.committed
        and other.at < event.at
        and (other.token, other.verb) == (event.token, event.verb)
        and other.answer["verdict"] == "settled"
        for other in played.log
    )


def _outcomes(verb: str) -> set[str]:
    return {
        {"pending": "released" if verb == "release" else "retried"}.get(state, state)
        for state in MEANT[verb]
    } | ({"cancelled"} if verb in ("retry", "release") else set())


def no_try_beyond_the_limit(played: Played, task: str) -> Iterator[str]:
    """In each life of a task at most as many attempts count as its rule allows, and it is not given
    up before. One that somebody else cut short was a try, but is not held against the limit."""
    limit = RULES[played.cast.rule].get("attempts", TRIES)
    may_repeat = RULES[played.cast.rule].get("on_lost", "retry") == "retry"
    tries = cut_short = 0
    for attempt in _attempts(played, task):
        outcome = attempt["outcome"]
        if attempt["worker"] is not None or attempt["reason"] in ("stale", "attempts_exhausted"):
            tries += outcome not in ("released", "overtaken")
            cut_short += outcome == "overtaken"
        if tries > limit or attempt["tries"] > limit:
            yield f"try {max(tries, attempt['tries'])} of {limit}"
        gone = attempt["reason"] in ("attempts_exhausted", "transient_exhausted", "transient")
        gone |= attempt["reason"] == "lease_lost" and may_repeat
        if gone and outcome == "failed" and tries + cut_short < limit:
            yield f"given up at try {tries + cut_short} of {limit}"
        if outcome == "failed" and may_repeat and attempt["reason"] in ("lease_lost", "deadline"):
            yield f"ended by {attempt['reason']}, and may be repeated"
        if outcome == "retried" and attempt["reason"] in ("attempts_exhausted", "uncertain"):
            yield f"started again although {attempt['reason']}"
        if outcome == "retried" and not may_repeat and attempt["sweep_id"] is not None:
            yield "work that must not be done twice was started again"
        if outcome in ENDED:
            tries = cut_short = 0


def every_attempt_ends(played: Played, task: str) -> Iterator[str]:
    """After the last sweep nothing is open, and what has ended says why."""
    row = played.facts["rows"][task]
    if played.stuck or STATES[row["word"]] not in ENDED:
        yield f"the task is still {row['word']} after the last sweep"
    attempts = _attempts(played, task)
    for attempt in attempts:
        if attempt["outcome"] is None:
            yield f"attempt {attempt['number']} never ended"
        elif attempt["outcome"] in ("failed", "cancelled") and not attempt["reason"]:
            yield f"attempt {attempt['number']} ended without a reason"
    if played.facts["unsweepable"]:
        yield "the sweep could not settle it"
    moves = [line for line in _journal(played, task, "task") if line["was"] != line["becomes"]]
    if moves and moves[-1]["actor"] != "foreign" and attempts:
        state = STATES[row["word"]]
        if attempts[-1]["outcome"] != state:
            yield f"the row says {state}, the ledger {attempts[-1]['outcome']}"


def an_end_counts_once(played: Played, task: str) -> Iterator[str]:
    """Credits are held once for each life and captured or released once; hooks run once for each
    end."""
    moves = [
        (STATES[line["was"]], STATES[line["becomes"]], line["actor"])
        for line in _journal(played, task, "task")
        if line["was"] != line["becomes"]
    ]
    ends = Counter(becomes for _, becomes, actor in moves if becomes in ENDED)
    by_others = Counter(
        becomes for _, becomes, actor in moves if becomes in ENDED and actor == "foreign"
    )
    reopened = sum(was in ENDED and becomes == "pending" for was, becomes, _ in moves)
    if played.cast.watch == "jobs":
        called = Counter(end["hook"] for end in played.facts["ends"] if end["task_id"] == task)
        due = ends - by_others + Counter({"reopened": reopened})
        if called != due:
            yield f"hooks ran {dict(called)}, and these were due: {dict(due)}"
        return
    entries = Counter(
        entry["entry"] for entry in played.facts["entries"] if entry["task_id"] == task
    )
    foreign = sum(by_others.values())
    due = Counter(
        hold=1 + reopened,
        capture=ends["completed"],
        release=ends["failed"] + ends["cancelled"] - foreign,
    )
    if entries != +due:
        yield f"the credits have {dict(entries)}, and these were due: {dict(+due)}"
    balance, held = played.facts["balance"]
    everything = Counter(entry["entry"] for entry in played.facts["entries"])
    left = BALANCE - COST * (everything["hold"] - everything["release"])
    still = COST * (everything["hold"] - everything["release"] - everything["capture"])
    if (balance, held) != (left, still):
        yield f"the account has {balance} and {held} held, and should have {left} and {still}"


def errors(played: Played) -> Iterator[str]:
    """Deadlocks, waits beyond lock_timeout, and errors that nobody expects."""
    for event in played.log:
        if event.sqlstate:
            yield f"error: {event.actor} {event.verb}: {event.sqlstate} {event.message}"


PROMISES: dict[int, tuple[Judge, ...]] = {
    1: (one_attempt_lives, a_lease_is_kept, a_claim_says_who_holds_it, a_heartbeat_says_who_lives),
    2: (an_ended_state_stays, an_answer_is_in_the_row),
    3: (a_result_is_the_holders, a_settle_says_how_it_ended),
    4: (no_try_beyond_the_limit,),
    5: (every_attempt_ends,),
    6: (an_end_counts_once,),
}


def _journal(played: Played, task: str, entity: str) -> list[dict[str, Any]]:
    return [
        line
        for line in played.facts["journal"]
        if line["task_id"] == task and line["entity"] == entity
    ]


def _attempts(played: Played, task: str) -> list[dict[str, Any]]:
    return [line for line in played.facts["attempts"] if line["task_id"] == task]


def _told(played: Played, task: str) -> list[Event]:
    """The answers that came and count."""
    return [
        event
        for event in played.log
        if event.committed and (event.task == task or event.verb in ("sweep", *BY_HAND))
    ]


def _tokens(played: Played, actor: str) -> set[str]:
    return {str(event.token) for event in played.log if event.actor == actor}


def _lives(played: Played, task: str) -> Any:
    """Whether an attempt lived just before a line of the journal."""
    lines = _journal(played, task, "attempt")

    def held(seq: int) -> bool:
        before = [line for line in lines if line["seq"] < seq]
        return sum((line["becomes"] == "live") - (line["was"] == "live") for line in before) > 0

    return held


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
