"""The SQL against a small model of it in Python: any interleaving of workers, sweeps, polls,
zombies, foreign writers, people and time keeps the promise.

`Task` says what each verb must answer and where it must be; `Machine` plays both and compares. The
database's clock goes on by a step for each call and else only when it is told, and its dice are
seeded: a failure happens again. Times of the model are whole microseconds, as the database's are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from functions.core.policy import Rule, Watch, load
from functions.core.record import replace
from tests.sql import SET_CLOCK, install_still_clock

ENDED = ("completed", "failed", "cancelled")
LOSSES = ("lease_lost", "deadline", "out_of_memory", "crashed", "shutdown", "stale")
WORDS = {
    "pending": "pending",
    "running": "processing",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
FREE_RELEASES = 10
MOST_REFUSALS = 50
"""So many are recorded of one task."""

SECOND = 1_000_000
A_STEP = 1_000  # for each call, so that no two tasks are of the same age
LEASE, RUN_FOR, PENDING_FOR, SILENT_FOR, BACKOFF_MAX, REDISPATCH_AFTER = 30, 300, 200, 300, 20, 50
DEFAULT = replace(
    load().watch().rules["*"],
    lease=LEASE,
    run_for=RUN_FOR,
    pending_for=PENDING_FOR,
    pending_at_most=PENDING_FOR,  # no task waits for its turn; tests/store/test_turns.py has that
    silent_for=SILENT_FOR,
    redispatch_after=REDISPATCH_AFTER,
    attempts=3,
    backoff_first=2,
    backoff_factor=4,
    backoff_max=BACKOFF_MAX,
    on_lost="retry",
)
RULES = {
    "*": DEFAULT,
    "once": replace(DEFAULT, attempts=1, pending_for=100, pending_at_most=100),
    "uncertain": replace(DEFAULT, on_lost="uncertain"),
    "fails": replace(DEFAULT, on_lost="fail", attempts=2),
}
WATCH: Watch = replace(load().watch(), rules=RULES)
MOST_ATTEMPTS = max(rule.attempts for rule in RULES.values())
KINDS = st.sampled_from(["plain", "once", "uncertain", "fails"])
OUTCOMES = st.sampled_from(["complete", "fail", "retry", "release", "return"])
REASONS = st.sampled_from([None, "transient", "handler_error", "crashed", "deadline", "shutdown"])
JUMPS = st.sampled_from([1, BACKOFF_MAX, LEASE - 1, LEASE, 100, PENDING_FOR, RUN_FOR])


@dataclass
class Attempt:
    """One row of the ledger."""

    task: "Task"
    number: int
    tries: int
    token: str
    lease_until: int = 0
    deadline: int = 0
    checkpoint: dict[str, Any] = field(default_factory=dict)
    extended: bool = False
    beat_at: int = 0
    outcome: str | None = None
    reason: str | None = None
    swept: bool = False
    started: int = 0
    ended: int = 0

    @property
    def alive_until(self) -> int:
        return min(self.lease_until, self.deadline)


@dataclass
class Task:
    id: str
    kind: str
    priority: int
    due: int
    alive: int
    state: str = "pending"
    reason: str | None = None
    result: str | None = None
    pushed: list[int] = field(default_factory=list)
    deleted: bool = False
    refusals: int = 0
    history: list[Attempt] = field(default_factory=list)

    @property
    def rule(self) -> Rule:
        return WATCH.rule(self.kind)

    @property
    def last(self) -> Attempt | None:
        return self.history[-1] if self.history else None

    @property
    def held(self) -> Attempt | None:
        return self.last if self.last and not self.last.outcome else None

    @property
    def life(self) -> list[Attempt]:
        """The attempts since it was created, or put back after an end."""
        ends = [attempt.number for attempt in self.history if attempt.outcome in ENDED]
        return self.history[max(ends, default=0) :]

    @property
    def open(self) -> bool:
        return self.state not in ENDED and not self.deleted

    def late(self, now: int) -> bool:
        if self.held:
            return self.held.alive_until <= now
        return {
            "pending": self.due + self.rule.pending_for * SECOND <= now,
            "running": self.alive + self.rule.silent_for * SECOND <= now,
        }.get(self.state, False)

    def overdue(self, now: int) -> bool:
        """Late, and not pushed again, for the first time or after it was late, only just now."""
        chance = len(self.pushed) == 1 or any(
            at >= self.due + self.rule.pending_for * SECOND for at in self.pushed
        )
        waits = chance and self.state == "pending" and not self.held
        return self.late(now) and not (waits and self.pushed[-1] > now - REDISPATCH_AFTER * SECOND)

    def quiet(self, now: int) -> bool:
        """Its push seems lost."""
        recently = now - REDISPATCH_AFTER * SECOND
        last = self.pushed[-1] if self.pushed else -1
        again = last < self.due or (
            last <= recently and self.due + self.rule.pending_for * SECOND > now
        )
        return self.state == "pending" and not self.deleted and self.due <= recently and again

    def after(self, cause: str | None, tries: int, *, begun: bool = True) -> tuple[str, str | None]:
        """The state and the reason that follow when a try ends by `cause`."""
        on_lost = self.rule.on_lost
        if on_lost == "uncertain" and not begun:
            on_lost = "retry"
        if cause in LOSSES and on_lost != "retry":
            return "failed", "uncertain" if on_lost == "uncertain" else cause
        if tries < self.rule.attempts:
            return "pending", cause
        return "failed", "transient_exhausted" if cause == "transient" else "attempts_exhausted"

    def move(self, state: str, reason: str | None, now: int) -> None:
        self.state, self.reason, self.alive = state, reason if state == "failed" else None, now

    def refuse(self) -> None:
        self.refusals = min(self.refusals + 1, MOST_REFUSALS)

    def claimed(self, token: str, now: int) -> Attempt:
        last, tries, checkpoint = self.last, 1, {}
        if last and last.outcome not in ENDED:
            tries = max(last.tries, 1) if last.outcome == "released" else last.tries + 1
            checkpoint = last.checkpoint
        lease = now + LEASE * SECOND
        attempt = Attempt(
            self,
            len(self.history) + 1,
            tries,
            token,
            lease,
            lease + RUN_FOR * SECOND,
            dict(checkpoint),
            started=now,
        )
        self.history.append(attempt)
        self.move("running", None, now)
        return attempt

    def rescued(self, now: int) -> tuple[str, str | None]:
        """What a sweep makes of it when it is overdue: the state and the reason that it reports."""
        if held := self.held:
            cause = "deadline" if held.deadline <= now else "lease_lost"
            state, reason = self.after(cause, held.tries)
            if self.state != "running":
                state = "overtaken"
            held.outcome, held.reason, held.swept = (
                {"pending": "retried"}.get(state, state),
                reason,
                True,
            )
        else:
            last = self.life[-1] if self.life else None
            if self.state == "pending":
                state, reason, tries = (
                    "failed",
                    "never_claimed",
                    self.last.tries if self.last else 0,
                )
            else:
                tries = (last.tries if last else 0) + 1
                state, reason = self.after("stale", tries)
            added = Attempt(self, len(self.history) + 1, tries, "", reason=reason, swept=True)
            added.outcome = "retried" if state == "pending" else "failed"
            added.checkpoint = dict(last.checkpoint) if last and state == "pending" else {}
            self.history.append(added)
        if state != "overtaken":
            self.move(state, reason, now)
        return state, reason


REPEATS = {
    ("complete", "completed"),
    ("fail", "failed"),
    ("retry", "retried"),
    ("retry", "failed"),
    ("release", "released"),
    ("release", "retried"),
    ("release", "failed"),
    ("return", "released"),
    ("return", "retried"),
    ("return", "failed"),
}


class Machine(RuleBasedStateMachine):
    tasks = Bundle("tasks")
    attempts = Bundle("attempts")

    def __init__(self, db: psycopg.Connection[dict[str, Any]]) -> None:
        super().__init__()
        self.db = db
        for table in ("public.tasks", "unstuck.attempts", "unstuck.refusals", "unstuck.dispatches"):
            db.execute(f"delete from {table}")
        db.execute("select setseed(0)")
        self.created: list[Task] = []
        self.now = 0
        self.agreed = False
        self.pass_time(0)

    # ---- the verbs

    def call(self, function: str, *arguments: Any) -> Any:
        self.agreed = False
        self.now += A_STEP
        places = ", ".join(["%s"] * len(arguments))
        query = f"select {SET_CLOCK}, unstuck.{function}({places}) as answer"
        row = self.db.execute(query, (self.now, *arguments)).fetchone()
        return row and row["answer"]

    @initialize(target=tasks, kinds=st.lists(KINDS, min_size=1, max_size=3))
    def begin(self, kinds: list[str]) -> Any:
        return multiple(*(self.create(kind, n % 2) for n, kind in enumerate(kinds)))

    @precondition(lambda self: len(self.created) < 4)
    @rule(target=tasks, kind=KINDS, priority=st.integers(0, 1))
    def create(self, kind: str, priority: int) -> Task:
        answer = self.call("tasks_create", kind, "{}", None, None, priority)
        task = Task(answer["task_id"], kind, priority, self.now, self.now)
        self.created.append(task)
        return task

    @rule(target=attempts, task=tasks)
    def claim(self, task: Task) -> Any:
        token = str(uuid4())
        answer = self.call("tasks_claim", task.id, "w", WATCH.rules_json, token)
        if task.deleted:
            assert answer == {"verdict": "missing"}
            return multiple()
        due = task.due
        if task.state == "running":
            assert bool(answer["rescued"]) == task.overdue(self.now)
            if task.overdue(self.now):
                self.rescue(task, answer["rescued"])
                due = self.now
        verdict = {"pending": "claimed", "running": "held"}.get(task.state, "ended")
        if verdict == "claimed" and due > self.now:
            verdict = "early"
        elif verdict == "claimed" and task.held:
            verdict = "held"
        assert (answer["verdict"], answer["task_id"]) == (verdict, task.id)
        return self.take(task, token, answer) if verdict == "claimed" else multiple()

    @rule(target=attempts, task=tasks)
    def get_and_claim(self, task: Task) -> Any:
        """Whatever it takes: a person puts it back, its backoff passes."""
        self.restart(task)
        if task.due > self.now:
            self.pass_time(BACKOFF_MAX)
        return self.claim(task)

    @rule(task=tasks, outcome=OUTCOMES, reason=REASONS)
    def try_once(self, task: Task, outcome: str, reason: str | None) -> None:
        """A whole attempt that ends by its worker."""
        self.get_and_claim(task)
        if task.held:
            self.settle(task.held, outcome, reason)

    @rule(target=attempts, task=tasks)
    def die_at_it(self, task: Task) -> Any:
        """A whole attempt that ends without a word."""
        self.get_and_claim(task)
        self.pass_time(LEASE)
        return task.held or multiple()

    @precondition(lambda self: any(task.state == "pending" for task in self.created))
    @rule(target=attempts, after=JUMPS)
    def claim_next(self, after: int) -> Any:
        self.pass_time(after)
        token = str(uuid4())
        answer = self.call("tasks_claim", None, "w", WATCH.rules_json, token)
        young = [
            task
            for task in self.created
            if task.state == "pending"
            and not task.deleted
            and not task.held
            and task.due <= self.now < task.due + task.rule.pending_for * SECOND
        ]
        if not young:
            assert answer == {"verdict": "none"}
            return multiple()
        (task,) = [task for task in young if task.id == answer["task_id"]]
        assert task.priority == max(other.priority for other in young)
        assert task.due <= min(other.due for other in young if other.priority == task.priority)
        return self.take(task, token, answer)

    def take(self, task: Task, token: str, answer: dict[str, Any]) -> Attempt:
        attempt = task.claimed(token, self.now)
        assert (answer["number"], answer["tries"]) == (attempt.number, attempt.tries)
        assert answer["checkpoint"] == attempt.checkpoint
        return attempt

    def beat(self, attempt: Attempt) -> None:
        answer = self.call("beat", "tasks", attempt.task.id, attempt.token)
        self.extend(attempt, answer)

    @rule(attempt=attempts, beats=st.sampled_from([1, 5, 12]))
    def work_on(self, attempt: Attempt, beats: int) -> None:
        for _ in range(beats):
            self.pass_time(LEASE - 1)
            self.beat(attempt)

    @rule(attempt=attempts, step=st.sampled_from("ab"), n=st.integers(0, 9))
    def checkpoint(self, attempt: Attempt, step: str, n: int) -> None:
        answer = self.call("checkpoint", "tasks", attempt.task.id, attempt.token, step, f"{n}")
        if self.extend(attempt, answer):
            attempt.checkpoint[step] = n

    def extend(self, attempt: Attempt, answer: dict[str, Any]) -> bool:
        if attempt.outcome:
            attempt.task.refuse()
            past = {
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "number": attempt.number,
                "kind": attempt.task.kind,
            }
            assert answer == {"verdict": "lost", **past}
            return False
        attempt.lease_until, attempt.extended = self.now + LEASE * SECOND, False
        attempt.beat_at = self.now
        assert answer == {"verdict": "held"}
        return True

    @rule(attempt=attempts, outcome=OUTCOMES, reason=REASONS)
    def settle(self, attempt: Attempt, outcome: str, reason: str | None) -> None:
        task = attempt.task
        answer = self.call(
            "tasks_settle",
            task.id,
            attempt.token,
            outcome,
            WATCH.rules_json,
            f'"{attempt.token}"',
            reason,
        )
        if attempt.outcome:
            repeated = not attempt.swept and (outcome, attempt.outcome) in REPEATS
            assert (answer["verdict"], "repeat" in answer) == (
                ("settled", True) if repeated else ("lost", False)
            )
            if not repeated:
                task.refuse()
            return
        state, why = {"complete": ("completed", reason), "fail": ("failed", reason)}.get(
            outcome, ("pending", reason)
        )
        may_be_free = {
            "release": task.rule.on_lost == "retry",
            "return": reason in {"shutdown", "no_handler", "transient"},
        }.get(outcome, False)
        releases = sum(attempt.outcome == "released" for attempt in task.life)
        free = may_be_free and releases < FREE_RELEASES
        if outcome in {"retry", "release", "return"} and not free:
            cause = "shutdown" if outcome == "release" and reason is None else reason
            state, why = task.after(cause, attempt.tries, begun=outcome != "return")
        attempt.outcome, attempt.reason = state, why
        if state == "pending":
            attempt.outcome = "released" if free else "retried"
        if task.deleted or task.state != "running":
            attempt.outcome = "overtaken"
            task.refuse()
            assert (answer["verdict"], answer["outcome"]) == ("lost", "overtaken")
            return
        assert (answer["verdict"], answer["state"], answer["reason"]) == ("settled", state, why)
        task.move(state, why, self.now)
        if state == "completed":
            task.result = attempt.token
        if state == "pending":
            self.wait(task, answer["retry_after"], released=attempt.outcome == "released")

    def wait(self, task: Task, seconds: float, *, released: bool = False) -> None:
        longest = min(BACKOFF_MAX, 2 * 4 ** (task.history[-1].tries - 1))
        assert seconds == 0 if released else longest / 2 <= seconds <= longest
        task.due = self.now + round(seconds * SECOND)

    # ---- the rescue

    @precondition(lambda self: any(task.overdue(self.now) for task in self.created))
    @rule()
    def sweep(self) -> None:
        answer = self.call("tasks_sweep", WATCH.rules_json)
        assert (answer["unsweepable"], answer["more"]) == ([], False)
        overdue = {
            task.id: task for task in self.created if not task.deleted and task.overdue(self.now)
        }
        rescued = {answered["task_id"]: answered for answered in answer["rescued"]}
        assert rescued.keys() == overdue.keys()
        assert len(rescued) == len(answer["rescued"])
        for task in overdue.values():
            self.rescue(task, [rescued[task.id]])

    @rule(task=tasks)
    def poll(self, task: Task) -> None:
        answer = self.call("tasks_status", task.id, WATCH.rules_json)
        if task.deleted:
            assert answer == {"verdict": "missing"}
            return
        overdue = task.open and task.overdue(self.now)
        assert bool(answer["rescued"]) == overdue
        if overdue:
            self.rescue(task, answer["rescued"])
        assert (answer["state"], answer["word"]) == (task.state, WORDS[task.state])
        assert answer["overdue"] == (task.open and task.late(self.now))
        last = answer["attempt"]
        assert (last and (last["number"], last["tries"], last["outcome"])) == (
            task.last and (task.last.number, task.last.tries, task.last.outcome)
        )

    def rescue(self, task: Task, rescued: list[dict[str, Any]]) -> None:
        (decision,) = rescued
        state, reason = task.rescued(self.now)
        assert (decision["task_id"], decision["state"], decision["reason"]) == (
            task.id,
            state,
            reason,
        )
        assert (decision["number"], decision["tries"]) == (
            task.history[-1].number,
            task.history[-1].tries,
        )
        if state == "pending":
            self.wait(task, decision["retry_after"])
        else:
            assert decision["retry_after"] is None

    @precondition(lambda self: any(task.deleted and task.held for task in self.created))
    @rule()
    def orphans(self) -> None:
        gone = [
            task.held
            for task in self.created
            if task.deleted and task.held and task.overdue(self.now)
        ]
        assert self.call("tasks_orphans", 1) == len(gone)
        for attempt in gone:
            attempt.outcome, attempt.reason, attempt.swept = "overtaken", "cancelled", True

    @precondition(lambda self: any(task.held and task.overdue(self.now) for task in self.created))
    @rule()
    def suspend(self) -> None:
        live = [task.held for task in self.created if task.held]
        expired = [
            attempt
            for attempt in live
            if not attempt.extended
            and attempt.lease_until <= self.now < attempt.deadline
            and not any(  # put off once: what dies again may be what kills its workers
                before.number == attempt.number - 1 and before.extended
                for before in attempt.task.history
            )
        ]
        granted = expired if len(expired) >= 2 and len(expired) > len(live) / 2 else []
        assert self.call("suspend", "tasks", 2, 0.5) == len(granted)
        beat_at = max((other.beat_at for other in live if other.lease_until > self.now), default=0)
        for attempt in granted:  # half a lease, where others have sent heartbeats since
            seconds = LEASE // 2 if beat_at > attempt.lease_until else LEASE
            attempt.lease_until, attempt.extended = self.now + seconds * SECOND, True

    def in_turn(self, task: Task) -> bool:
        """Tasks of its kind are claimed, and half of them were queued before it, or more."""
        recently = self.now - REDISPATCH_AFTER * SECOND
        claims = [
            attempt
            for other in self.created
            for attempt in other.history
            if other.kind == task.kind
            and attempt.token
            and (not attempt.outcome or (attempt.ended > recently and not attempt.swept))
        ]
        queued = sorted(attempt.task.due for attempt in claims if not attempt.task.deleted)
        if not queued or max(attempt.started for attempt in claims) <= recently:
            return False
        return task.due >= queued[(len(queued) - 1) // 2]

    @precondition(lambda self: any(task.quiet(self.now) for task in self.created))
    @rule()
    def redispatch(self) -> None:
        sent = self.call("tasks_redispatch", WATCH.rules_json)
        quiet = {
            task.id: task
            for task in self.created
            if task.quiet(self.now) and not self.in_turn(task)
        }
        for task in quiet.values():
            task.pushed.append(self.now)
        assert {dispatch["task_id"]: dispatch["times"] for dispatch in sent} == {
            task.id: len(task.pushed) for task in quiet.values()
        }

    @rule(seconds=JUMPS)
    def pass_time(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.db.execute(f"select {SET_CLOCK}", (self.now,))

    # ---- other people

    @rule(task=tasks, state=st.sampled_from(sorted(WORDS)), fenced=st.booleans())
    def foreign_write(self, task: Task, state: str, fenced: bool) -> None:
        """By somebody who knows nothing of us."""
        if not fenced:
            self.write_past_the_fence(task, state)
            return
        moved = self.write(task, state)
        allowed = (
            task.state == "pending"
            or (task.state == "running" and not task.held)
            or task.state == state
        )
        assert moved == (allowed and not task.deleted)
        if moved:
            task.state = state
        elif not task.deleted:
            task.refuse()

    @rule(attempt=attempts, state=st.sampled_from(["pending", "cancelled"]))
    def take_away(self, attempt: Attempt, state: str) -> None:
        if attempt.task.held:
            self.write_past_the_fence(attempt.task, state)

    @rule(task=tasks)
    def restart(self, task: Task) -> None:
        """A person puts a task back that has ended: the one way to leave such a state."""
        if task.state in ENDED and not task.deleted:
            self.write_past_the_fence(task, "pending")
            self.db.execute(
                "update public.tasks set scheduled_at = clock_timestamp() where id = %s", (task.id,)
            )
            task.due = self.now

    @precondition(lambda self: len(self.created) > 2)
    @rule(task=consumes(tasks))
    def delete(self, task: Task) -> None:
        self.db.execute("delete from public.tasks where id = %s", (task.id,))
        task.deleted = True

    def write_past_the_fence(self, task: Task, state: str) -> None:
        self.db.execute("alter table public.tasks disable trigger unstuck_fence")
        moved = self.write(task, state)
        self.db.execute("alter table public.tasks enable trigger unstuck_fence")
        assert moved == (not task.deleted)
        task.state = state

    def write(self, task: Task, state: str) -> bool:
        query = "update public.tasks set status = %s where id = %s"
        return self.db.execute(query, (WORDS[state], task.id)).rowcount == 1

    # ---- what must be true after each step

    @invariant()
    def all_is_well(self) -> None:
        for task in self.created:
            for attempt in task.history:
                attempt.ended = attempt.ended or bool(attempt.outcome) * self.now
        self.every_task_is_where_the_model_says()
        self.the_ledger_is_whole()
        self.no_task_is_tried_more_often_than_its_rule_allows()
        self.every_refused_write_is_filed()
        self.agreed = True

    def every_task_is_where_the_model_says(self) -> None:
        rows = self.db.execute("select id::text, status, result from public.tasks").fetchall()
        assert {row["id"]: (row["status"], row["result"]) for row in rows} == {
            task.id: (WORDS[task.state], task.result) for task in self.created if not task.deleted
        }

    def the_ledger_is_whole(self) -> None:
        rows = self.db.execute("select * from unstuck.attempts order by task_id, number").fetchall()
        for task in self.created:
            mine = [attempt for attempt in rows if attempt["task_id"] == task.id]
            assert [attempt["number"] for attempt in mine] == list(range(1, len(mine) + 1)), (
                "numbers are dense"
            )
            assert sum(attempt["ended_at"] is None for attempt in mine) <= 1, (
                "at most one attempt lives"
            )
            for attempt in mine[:-1]:
                assert attempt["ended_at"], "only the last attempt may live"
            for attempt in mine:
                assert (attempt["ended_at"] is None) == (attempt["outcome"] is None)
                assert not attempt["ended_at"] or attempt["ended_at"] >= attempt["started_at"]
            ends = [(attempt["outcome"], attempt["reason"], attempt["tries"]) for attempt in mine]
            assert ends == [
                (attempt.outcome, attempt.reason, attempt.tries) for attempt in task.history
            ]

    def no_task_is_tried_more_often_than_its_rule_allows(self) -> None:
        for task in self.created:
            tries = [attempt.tries for attempt in task.life if attempt.outcome != "overtaken"]
            overtaken = sum(attempt.outcome == "overtaken" for attempt in task.life)
            assert max(tries, default=0) <= task.rule.attempts + overtaken

    def every_refused_write_is_filed(self) -> None:
        query = "select task_id, count(*) from unstuck.refusals group by 1"
        rows = self.db.execute(query).fetchall()
        assert {row["task_id"]: row["count"] for row in rows} == {
            task.id: task.refusals for task in self.created if task.refusals
        }

    # ---- and in the end

    def teardown(self) -> None:
        """Every task ends. Whatever happened before, if all workers die on it: after at most
        `attempts` times a lease, a backoff and a sweep. If there are no workers any more: after one
        lease or silence, one backoff, and one `pending_for`, with a sweep after each."""
        if not self.agreed:
            return  # a step has failed
        self.pass_time(LEASE)
        self.sweep_all()
        assert not any(task.held for task in self.created)
        poisoned = [task for task in self.created if task.state == "pending" and not task.deleted]
        for _ in range(MOST_ATTEMPTS):
            self.pass_time(BACKOFF_MAX)
            for task in poisoned:
                self.claim(task)
                assert task.held or task.state in ENDED
            self.pass_time(LEASE)
            self.sweep_all()
        assert all(task.state in ENDED for task in poisoned)
        self.pass_time(SILENT_FOR)
        self.sweep_all()
        self.pass_time(BACKOFF_MAX + PENDING_FOR)
        self.sweep_all()
        assert all(task.state in ENDED for task in self.created if not task.deleted)
        self.all_is_well()

    def sweep_all(self) -> None:
        self.sweep()
        self.orphans()


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        install_still_clock(connection)
        yield connection


@pytest.mark.timeout(600)  # a failure is made smaller for up to 300 s, which no timeout may stop
def test_any_interleaving_keeps_the_promise(db):
    chosen = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(lambda: Machine(db), settings=chosen)
