"""Kinds whose rule says `runs_on: pool`: they are not pushed, whoever makes them pending again, and
the workers of a pool take them and nothing else."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import yaml

from functions.core.answers import ClaimRefusal, NotClaimed
from functions.core.policy import DEFAULT, Policy, parse
from functions.core.report import report
from functions.entry import pool
from functions.entry.app import App
from functions.errors import PolicyError
from functions.store.postgres import PostgresStore
from functions.worker import pull as pulling
from functions.worker.kinds import kinds_here, pool_kinds
from tests.entry.steps import RecordedPushes
from tests.sweep.steps import sweep

HANDLER = "tests.entry.handlers:returns"


def policy(**rules: dict[str, Any]) -> Policy:
    return parse(text(**rules))


def text(**rules: dict[str, Any]) -> str:
    found = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    found["watches"]["tasks"]["rules"] |= rules
    return yaml.safe_dump(found)


LEASES_END = (
    "update unstuck.attempts set lease = '0', lease_until = now() - interval '1 s' "
    "where ended_at is null"
)
LONG = {"runs_on": "pool", "run_for": "3h", "handler": HANDLER}


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    made = PostgresStore(database)
    yield made
    made.close()


def test_work_that_no_request_can_hold_is_accepted_where_it_runs_on_a_pool_and_only_there() -> None:
    assert policy(film=LONG).watch().rule("film").run_for == 3 * 3600
    with pytest.raises(PolicyError, match="runs_on: pool"):
        policy(film=LONG | {"runs_on": "function"})


def test_the_sweep_puts_such_a_task_back_and_pushes_only_the_others(
    database: str, store: PostgresStore
) -> None:
    rules = policy(film=LONG, short={"handler": HANDLER})
    watch = rules.watch()
    tasks = {kind: store.create(watch, kind, {}).task_id for kind in ("film", "short")}
    with psycopg.connect(database, autocommit=True) as connection:
        for kind, task_id in tasks.items():
            store.claim(watch, task_id, f"a worker of {kind}")
        connection.execute(LEASES_END)
        pushes = RecordedPushes()
        assert sweep(store, rules, pushes).requeued == 2
        connection.execute("update tasks set scheduled_at = now() - interval '5 min'")
        sweep(store, rules, pushes)
    assert {push[1] for push in pushes} == {tasks["short"]}


def test_a_rescued_task_of_a_pool_is_reported_and_not_pushed(
    database: str, store: PostgresStore, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = policy(film=LONG)
    watch = rules.watch()
    task = store.create(watch, "film", {})
    store.claim(watch, task.task_id, "w")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(LEASES_END)
    batch = store.sweep(watch, 10)
    pushes = RecordedPushes()
    report(pushes, watch, batch.rescued, by="status")
    assert "task_requeued" in capsys.readouterr().out
    assert pushes == []


def test_a_pool_takes_its_kinds_alone() -> None:
    rules = policy(film=LONG, render=LONG, elsewhere=LONG | {"handler": "not.here:handle"})
    assert pool_kinds(rules.watch()) == ["film", "render"]
    assert {"film", "image"} <= set(kinds_here(rules.watch()) or [])


def test_a_pool_asks_for_the_kinds_that_it_was_started_for(
    database: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(text(film=LONG, render=LONG))
    asked: list[Any] = []

    def guard(*arguments: Any, **_: Any) -> NotClaimed:
        asked.append(arguments[5])
        pulling.shutdown.requested.set()
        return NotClaimed(ClaimRefusal.NONE)

    monkeypatch.setattr(pulling, "guard", guard)
    monkeypatch.setattr(pool, "stop_on_signals", lambda: None)
    env = {"DATABASE_URL": database, "UNSTUCK_POLICY": str(tmp_path / "policy.yaml")}
    try:
        assert pool.run(App(env), ["render"]) == 0
        pulling.shutdown.requested.clear()
        assert pool.run(App(env), []) == 0
    finally:
        pulling.shutdown.requested.clear()
    assert asked == [["render"], ["film", "render"]]
    with pytest.raises(PolicyError, match="runs_on: pool"):
        pool.run(App(env), ["image"])
