"""The steps that the tests of the verbs share: make a task, claim it, let time pass, look at its
rows."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg

from functions.core.answers import Claimed, Created, Rescued, Settled
from functions.core.policy import Watch
from functions.core.states import SettleAs
from functions.store import Store

Db = psycopg.Connection[dict[str, Any]]
LEASE = 30.0  # of the suite's policy
DEADLINE = LEASE + 570.0
PENDING_FOR = 900.0
SILENT_FOR = 900.0
REDISPATCH_AFTER = 120.0
A_MOMENT = 1.0  # seconds that the test itself may take between two statements
NIL = str(UUID(int=0))


def created(store: Store, watch: Watch, kind: str = "image", **more: Any) -> str:
    answer = store.create(watch, kind, {}, **more)
    assert isinstance(answer, Created)
    return answer.task_id


def claimed(store: Store, watch: Watch, kind: str = "image", **more: Any) -> Claimed:
    """A new task in the hands of a worker."""
    return claimed_again(store, watch, created(store, watch, kind, **more))


def claimed_again(store: Store, watch: Watch, task_id: str | None) -> Claimed:
    answer = store.claim(watch, task_id, "worker-1")
    assert isinstance(answer, Claimed)
    return answer


def settled(store: Store, watch: Watch, attempt: Claimed, settle_as: str, **more: Any) -> Settled:
    answer = store.settle(watch, attempt.task_id, attempt.token, SettleAs(settle_as), **more)
    assert isinstance(answer, Settled)
    return answer


def swept(store: Store, watch: Watch, **more: Any) -> list[Rescued]:
    """What one sweep rescued; all of it."""
    answer = store.sweep(watch, 500, **more)
    assert (answer.unsweepable, answer.more) == ([], False)
    return answer.rescued


def one(db: Db, query: str, *arguments: Any) -> dict[str, Any]:
    (row,) = db.execute(query, arguments).fetchall()
    return row


def row(db: Db, task_id: str, table: str = "tasks") -> dict[str, Any]:
    return one(db, f"select * from public.{table} where id = %s", task_id)


def attempts(db: Db, task_id: str) -> list[dict[str, Any]]:
    return db.execute(
        "select * from unstuck.attempts where task_id = %s order by number", (task_id,)
    ).fetchall()


def refusals(db: Db, task_id: str) -> list[tuple[str, str, str]]:
    found = db.execute(
        "select * from unstuck.refusals where task_id = %s order by id", (task_id,)
    ).fetchall()
    return [(one["source"], one["wanted"], one["because"]) for one in found]


def by_foreigner(db: Db, task_id: str, status: str, table: str = "tasks") -> int:
    """Writes a status as somebody who knows nothing of Unstuck. Returns the number of rows it
    moved."""
    return db.execute(
        f"update public.{table} set status = %s where id = %s", (status, task_id)
    ).rowcount


def past_the_fence(db: Db, task_id: str, **values: Any) -> None:
    """What a person does with the fence switched off, or what happens to a table that has none."""
    db.execute("alter table public.tasks disable trigger unstuck_fence")
    for name, value in values.items():
        db.execute(f"update public.tasks set {name} = %s where id = %s", (value, task_id))
    db.execute("alter table public.tasks enable trigger unstuck_fence")


def put_back(db: Db, task_id: str) -> None:
    past_the_fence(db, task_id, status="pending", scheduled_at="now", finished_at=None)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call answered; all began at the same moment."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))
