"""The same SQL on older servers: 16 from the wheel, 15 where Debian's is installed. The other tests
run on 18."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import Watch, load
from functions.install.migrate import check, migrate
from functions.ops.postgres.embedded import Postgres, PostgresError, find_binaries
from functions.store.postgres import PostgresStore
from tests.missing import missing
from tests.sql import install_clock, pass_time

Db = psycopg.Connection[dict[str, Any]]


@pytest.fixture(scope="module", params=[16, 15])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    try:
        find_binaries(request.param)
    except PostgresError:
        missing(
            f"PostgreSQL {request.param} is not installed here: apt install "
            f"postgresql-{request.param}"
        )
    with Postgres(version=request.param, durable=False) as server:
        migrate(server.dsn())
        yield server


@pytest.fixture
def db(server: Postgres) -> Iterator[Db]:
    with psycopg.connect(server.dsn(), autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def store(server: Postgres) -> Iterator[PostgresStore]:
    opened = PostgresStore(server.dsn())
    yield opened
    opened.close()


@pytest.fixture
def watch() -> Watch:
    return load().watch()


def minutes_pass(store: PostgresStore, db: Db, minutes: int) -> None:
    """So many, with a run of the sweep in each: a poll after a silence would end nothing."""
    for _ in range(minutes):
        pass_time(db, 60)
        run = store.sweep_begin(None, "test", 45)
        store.sweep_end(run.sweep_id, ok=True, counts={})


def test_the_migrations_apply_and_are_then_complete(server, db, request):
    version = db.execute("show server_version_num").fetchone()["server_version_num"]
    assert version.startswith(str(request.node.callspec.params["server"]))
    assert check(server.dsn()) == migrate(server.dsn()) == []


def test_the_main_loop_runs(store, db, watch):
    install_clock(db)
    done, dead = (store.create(watch, "image", {"n": n}).task_id for n in range(2))
    attempt = store.claim(watch, done, "w")
    assert store.beat(watch, done, attempt.token, {"fraction": 0.5}).verdict == "held"
    assert store.checkpoint(watch, done, attempt.token, "step", {"n": 1}).verdict == "held"
    assert (
        store.settle(watch, done, attempt.token, "complete", result={"n": 1}).state == "completed"
    )
    zombie = store.claim(watch, None, "w")
    assert zombie.task_id == dead
    assert db.execute("update public.tasks set status = 'failed'").rowcount == 0, "the fence holds"
    pass_time(db, watch.rule("image").lease + 1)
    begun = store.sweep_begin("k1", "test", 45)
    assert [task.reason for task in store.sweep(watch, 500, sweep_id=begun.sweep_id).rescued] == [
        "lease_lost"
    ]
    assert store.orphans(watch, begun.sweep_id) == 0
    assert store.suspend(watch, load()) == 0
    assert store.settle(watch, dead, zombie.token, "complete").verdict == "lost"
    store.sweep_end(begun.sweep_id, ok=True, counts={})
    minutes_pass(store, db, int(watch.rule("image").pending_for) // 60 - 1)
    assert [task.task_id for task in store.redispatch(watch, 500)] == [dead]
    minutes_pass(store, db, 2)
    healed = store.status(watch, dead)
    assert (healed.state, healed.reason) == ("failed", "never_claimed")
    assert store.overview(watch).refused == 3
    pass_time(db, 3600)
    assert store.prune(1800) == 3


def test_a_row_that_cannot_be_settled_does_not_stop_the_others(store, db, watch):
    bad, good = (
        store.create(watch, "image", {}, priority=priority).task_id for priority in (13, 1)
    )
    pass_time(db, watch.rule("image").pending_for + 1)
    db.execute(
        "alter table public.tasks add constraint unlucky check (status <> 'failed' or priority <> "
        "13)"
    )
    answer = store.sweep(watch, 500)
    assert [task.task_id for task in answer.rescued] == [good]
    assert [(task.task_id, task.code) for task in answer.unsweepable] == [(bad, "23514")]
