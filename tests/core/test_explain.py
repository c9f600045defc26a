"""The sentences of `explain` for each state a task can be in, from what the real store answers."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from functions.core.answers import Claimed, Settled, TaskStatus
from functions.core.explain import explain, span
from functions.core.policy import DEFAULT, Policy, parse
from functions.install.migrate import migrate
from functions.store.postgres import PostgresStore

POLICY = DEFAULT.read_text(encoding="utf-8").replace(
    "cancelled: [cancelled]", "cancelled: [cancelled]\n      resting: [paused]"
)


class World:
    """The own table, with a resting word and without the CHECK on its words."""

    def __init__(self, dsn: str, policy: Policy) -> None:
        self.policy, self.watch, self.store = policy, policy.watch(), PostgresStore(dsn)
        self.db = psycopg.connect(dsn, autocommit=True)
        self.db.execute("alter table public.tasks drop constraint tasks_status_check")

    def task(self, status: str = "pending", ago: str = "0s", kind: str = "other") -> str:
        row = self.db.execute(
            "insert into public.tasks (kind, status, created_at, scheduled_at, updated_at) "
            "values (%s, %s, now() - %s::interval, now() - %s::interval, now() - %s::interval) "
            "returning id::text",
            (kind, status, ago, ago, ago),
        ).fetchone()
        return str(row and row[0])

    def claimed(self, task: str | None = None) -> Claimed:
        answer = self.store.claim(self.watch, task or self.task(), "worker-1")
        assert isinstance(answer, Claimed)
        return answer

    def settled(self, outcome: str, **more: Any) -> str:
        held = self.claimed()
        answer = self.store.settle(self.watch, held.task_id, held.token, outcome, **more)
        assert isinstance(answer, Settled)
        return held.task_id

    def aged(self, task: str, by: str) -> str:
        """As if it had been claimed and had ended earlier."""
        self.db.execute(
            "update unstuck.attempts set started_at = started_at - %s::interval, "
            "beat_at = beat_at - %s::interval, "
            "ended_at = ended_at - %s::interval, lease_until = lease_until - %s::interval, "
            "deadline_at = deadline_at - %s::interval where task_id = %s",
            (*[by] * 5, task),
        )
        return task

    def said(self, task: str) -> str:
        return explain(self.policy, self.watch, self.store.status(self.watch, task, heal=False))


@pytest.fixture
def world(database: str) -> Iterator[World]:
    policy = parse(POLICY)
    migrate(database, policy)
    made = World(database, policy)
    yield made
    made.db.close()
    made.store.close()


def due_later(world: World) -> str:
    return str(world.store.create(world.watch, "other", {}, delay=3600).task_id)


def retried(world: World) -> str:
    return world.aged(world.settled("retry", reason="transient", error="Busy.", after=120.0), "60s")


def retried_and_due(world: World) -> str:
    return world.settled("retry", reason="handler_error", error="Busy.", after=0.0)


def put_back(world: World) -> str:
    task = str(world.claimed().task_id)
    world.store.operate(world.watch, "requeue", [task])
    return task


def progressing(world: World) -> str:
    held = world.claimed()
    world.store.beat(
        world.watch, held.task_id, held.token, {"fraction": 0.4, "message": "2 of 5 pages"}
    )
    return str(held.task_id)


def silent(world: World) -> str:
    return world.aged(str(world.claimed().task_id), "1 hour")


def silent_for_the_last_time(world: World) -> str:
    task = silent(world)
    world.db.execute("update unstuck.attempts set tries = 3 where task_id = %s", (task,))
    return task


def completed_by_somebody(world: World) -> str:
    task = world.settled("retry", reason="transient", error="Busy.", after=0.0)
    world.db.execute("update public.tasks set status = 'completed' where id = %s", (task,))
    return task


def failed_by_the_sweep(world: World) -> str:
    task = world.task(ago="1 hour")
    world.store.sweep(world.watch, 500)
    return task


def by_hand(action: str, **more: Any) -> Callable[[World], str]:
    def make(world: World) -> str:
        task = world.task()
        world.store.operate(world.watch, action, [task], more.get("error"))
        return task

    return make


CASES: dict[str, tuple[Callable[[World], str], str]] = {
    "pending, fresh": (
        World.task,
        (
            "It has waited <0s> for a worker. It is pushed again in <2m>, and fails as "
            "never_claimed in <15m>."
        ),
    ),
    "pending, pushed again": (
        lambda world: world.task(ago="5m"),
        (
            "It has waited <5m> for a worker. It was pushed again, and fails as never_claimed in "
            "<10m>."
        ),
    ),
    "pending, due later": (due_later, "It is pending; it may start in <1h>."),
    "pending, after a retry": (
        retried,
        (
            "Attempt 1 ended <1m> ago: it failed for a passing reason. 2 of 3 tries are left. "
            "It is pending; the next try ..."
        ),
    ),
    "pending, after a retry, due later": (
        retried,
        "... It is pending; the next try may start in <2m>.",
    ),
    "pending, after a retry, due": (
        retried_and_due,
        (
            "Attempt 1 ended <0s> ago: the handler raised an error. 2 of 3 tries are left. It has "
            "waited <0s> for a worker. ..."
        ),
    ),
    "pending, put back by a person": (
        put_back,
        (
            "Attempt 1 ended <0s> ago: a person put it back. 3 of 3 tries are left. It has waited "
            "<0s> for a worker. ..."
        ),
    ),
    "pending, overdue": (
        lambda world: world.task(ago="1h"),
        "No worker picked it up for <1h>: the next sweep, within 1m, fails it as never_claimed.",
    ),
    "running, healthy": (
        lambda world: str(world.claimed().task_id),
        (
            "Attempt 1 has been running for <0s>; its last beat came <0s> ago. Without another one "
            "it is taken back in <30s>, and in ..."
        ),
    ),
    "running, with its deadline": (
        lambda world: str(world.claimed().task_id),
        "... and in <10m> at the latest.",
    ),
    "running, with progress": (
        progressing,
        "Attempt 1 has been running for <0s> (40%, 2 of 5 pages); its last beat came ...",
    ),
    "running, overdue": (
        silent,
        (
            "Attempt 1 has been running for <1h>, but its lease or deadline ran out <50m> ago: the "
            "next sweep, within 1m, puts it back."
        ),
    ),
    "running, overdue, the last try": (
        silent_for_the_last_time,
        "... the next sweep, within 1m, fails it.",
    ),
    "running, without the guard": (
        lambda world: world.task("processing", "5m"),
        (
            "It runs without the guard; the last sign of life came <5m> ago. After <10m> more of "
            "silence the sweep ends it."
        ),
    ),
    "running, without the guard, overdue": (
        lambda world: world.task("processing", "1h"),
        "... came <1h> ago. That is too long: the next sweep, within 1m, ends it.",
    ),
    "completed": (
        lambda world: world.aged(world.settled("complete", result={}), "2m"),
        "It was completed <2m> ago by attempt 1, which took <0s>.",
    ),
    "completed behind the guard": (completed_by_somebody, "It was completed."),
    "failed by its handler": (
        lambda world: world.settled("fail", reason="handler_error", error="The prompt is empty."),
        "It failed <0s> ago as handler_error: The prompt is empty.",
    ),
    "failed by the sweep": (
        failed_by_the_sweep,
        "It failed <0s> ago as never_claimed: No worker picked the task up in time.",
    ),
    "failed by a person": (
        by_hand("fail", error="Not today."),
        "It failed <0s> ago as by_hand: Not today.",
    ),
    "failed without a word": (
        lambda world: world.task("failed"),
        "It failed: no reason was written down",
    ),
    "cancelled": (by_hand("cancel"), "It was cancelled <0s> ago."),
    "cancelled behind the guard": (lambda world: world.task("cancelled"), "It was cancelled."),
    "resting": (
        lambda world: world.task("paused"),
        "It waits for a person (paused). It is never swept.",
    ),
    "an unknown word": (
        lambda world: world.task("melting"),
        "Its status 'melting' is not a word of the watch tasks. Add it to `words` in policy.yaml.",
    ),
}
"""`<5m>` stands for that time, give or take what a slow machine takes; `...` for anything."""


def pattern(wanted: str) -> str:
    def about(time: re.Match[str]) -> str:
        seconds = sum(
            int(count) * {"s": 1, "m": 60, "h": 3600}[unit]
            for count, unit in re.findall(r"(\d+)([smh])", time[1])
        )
        return "|".join(span(seconds + off) for off in range(-15, 16))

    return re.sub(
        r"<(\w+)>", lambda time: f"({about(time)})", re.escape(wanted).replace(r"\.\.\.", ".*")
    )


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_of(world: World, case: str) -> None:
    make, wanted = CASES[case]
    said = world.said(make(world))
    assert re.fullmatch(pattern(wanted), said), said


def test_without_clocks_it_says_that_nobody_knows(world: World) -> None:
    """A table whose clocks hold nulls."""
    for word, wanted in (
        ("pending", "It waits for a worker; since when is not known, so that no sweep fails it."),
        (
            "processing",
            "It runs without the guard, and no clock says since when: no sweep ends it.",
        ),
    ):
        status = world.store.status(world.watch, world.task(word), heal=False)
        unknown = TaskStatus(**vars(status) | {"waited": None, "silent": None, "due_in": None})
        assert explain(world.policy, world.watch, unknown) == wanted


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (45, "45s"),
        (720, "12m"),
        (12_000, "3h 20m"),
        (3_988_800, "46d 4h"),
        (86_401, "1d 1s"),
    ],
)
def test_a_time_as_a_person_says_it(seconds: float, said: str) -> None:
    assert span(seconds) == said
