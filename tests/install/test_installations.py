"""Two stages, or two bundles, live side by side in one database: each has functions, triggers, a
ledger, sweeps, messages and jobs of its own."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import yaml

from functions.core.policy import Policy, parse
from functions.errors import StoreError
from functions.install.migrate import check, file, migrate
from functions.install.pg_cron import procedures, schedule
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import HEAD
from tests.adopt.test_fence import RULE

Stage = Callable[..., Policy]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The policy of a stage: the same file, and another environment."""

    def policy(name: str, head: str = "", **more: Any) -> Policy:
        monkeypatch.setenv("STAGE", name)
        watch = {
            "table": "public.parcels_${STAGE}",
            "key": "id",
            "key_type": "integer",
            "status": "phase",
            "words": {
                "pending": ["waits"],
                "running": ["runs"],
                "completed": ["there"],
                "failed": ["broke"],
            },
            "columns": {},
            "clocks": {"queued": "made_at", "alive": "made_at"},
            "fence": "enforce",
            "notify": True,
            "rules": {"*": RULE},
        } | more
        dumped = yaml.safe_dump({"parcels": watch}, sort_keys=False)
        return parse(head + HEAD + "".join(f"  {line}\n" for line in dumped.splitlines()))

    return policy


def run(dsn: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def with_tables(dsn: str, *stages: str) -> None:
    for name in stages:
        run(
            dsn,
            f"create table parcels_{name} (id serial primary key, phase text not null default "
            "'waits', made_at timestamptz not null default now())",
        )
        run(dsn, f"insert into parcels_{name} default values")


def test_the_workers_of_each_stage_take_its_own_tasks(empty_database: str, stage: Stage) -> None:
    dsn = empty_database
    with_tables(dsn, "dev", "prod")
    dev, prod = stage("dev"), stage("prod")
    migrate(dsn, dev)
    migrate(dsn, prod)
    store = PostgresStore(dsn)
    assert (check(dsn, dev), check(dsn, prod)) == ([], []), "neither undoes the other"
    for policy, name, other in ((dev, "dev", "prod"), (prod, "prod", "dev")):
        watch = policy.watch("parcels")
        claimed = store.claim(watch, None, "w")
        assert claimed.verdict == "claimed"
        assert run(dsn, f"select phase from parcels_{name}") == [("runs",)]
        assert store.claim(watch, None, "w").verdict == "none"
        store.settle(watch, claimed.task_id, claimed.token, "complete")
        assert run(dsn, f"select phase from parcels_{name}") == [("there",)]
        run(dsn, f"update parcels_{name} set phase = 'waits'")
        assert run(dsn, f"select phase from parcels_{name}") == [("there",)], "the fence holds"
        ledger = run(dsn, "select count(*) from unstuck.attempts where watch = %s", watch.name)
        assert ledger == [(1,)], other
    store.close()


def test_each_stage_sweeps_at_the_same_minute_and_tells_its_own_failures(
    empty_database: str, stage: Stage
) -> None:
    dsn = empty_database
    with_tables(dsn, "dev", "prod")
    policies = [stage("dev"), stage("prod")]
    store = PostgresStore(dsn)
    for policy in policies:
        migrate(dsn, policy)
    runs = [store.sweep_begin("12:00", "test", 45, policy.own_part) for policy in policies]
    assert [begun.verdict for begun in runs] == ["begun", "begun"]
    run(dsn, "update parcels_dev set made_at = now() - interval '1 day'")
    for policy, begun in zip(policies, runs, strict=True):
        store.sweep(policy.watch(), 10, sweep_id=begun.sweep_id)
        store.sweep_end(begun.sweep_id, ok=True, counts={"of": policy.own_part})
    assert run(dsn, "select phase from parcels_prod") == [("waits",)]
    assert store.outbox_take(60, list(policies[1].watches)) is None
    message = store.outbox_take(60, list(policies[0].watches))
    assert message is not None
    assert [task.watch for task in message.tasks] == ["parcels_dev"]
    for policy in policies:
        assert store.overview(policy.watch()).last_sweep.counts == {"of": policy.own_part}
    store.close()


def test_a_stage_that_leaves_takes_nothing_of_the_other(empty_database: str, stage: Stage) -> None:
    dsn = empty_database
    with_tables(dsn, "dev", "prod")
    migrate(dsn, stage("dev"))
    prod = stage("prod")
    migrate(dsn, prod)
    without = stage("dev")
    other = without.watches.pop("parcels_dev")
    without.watches["letters_dev"] = type(other)(
        **vars(other) | {"name": "letters_dev", "table": "public.letters_dev"}
    )
    run(dsn, "create table letters_dev (like parcels_dev including all)")
    with pytest.raises(StoreError, match="another policy"):
        migrate(dsn, without)
    assert check(dsn, prod) == []


def pushed(dsn: str, policy: Policy) -> None:
    """As the file of `sql --supabase` does it, where no Supabase is."""
    run(dsn, file(policy, None))


@pytest.mark.parametrize("install", [migrate, pushed])
def test_a_stage_that_was_alone_keeps_its_history_under_its_new_name(
    install: Callable[[str, Policy], Any], empty_database: str, stage: Stage
) -> None:
    dsn = empty_database
    with_tables(dsn, "dev", "prod")
    alone = stage("dev", table="public.parcels_dev")
    install(dsn, alone)
    store = PostgresStore(dsn)
    claimed = store.claim(alone.watch(), None, "w")
    install(dsn, stage("prod"))
    dev = stage("dev")
    install(dsn, dev)
    assert check(dsn, dev) == []
    assert (
        store.settle(dev.watch(), claimed.task_id, claimed.token, "complete").state == "completed"
    )
    assert run(dsn, "select proname from pg_proc where proname = 'parcels_claim'") == []
    store.close()


def test_two_bundles_with_a_watch_of_one_name_have_an_installation_each(
    empty_database: str, stage: Stage
) -> None:
    dsn = empty_database
    with_tables(dsn, "dev", "prod")
    shop = stage("dev", head="installation: shop\n")
    press = stage("prod", head="installation: press\n")
    migrate(dsn, shop)
    migrate(dsn, press)
    assert [*shop.watches, *press.watches] == ["parcels_shop", "parcels_press"]
    assert (check(dsn, shop), check(dsn, press)) == ([], [])
    with pytest.raises(StoreError, match="guarded by the watch parcels_shop"):
        migrate(dsn, stage("dev", head="installation: thief\n"))


def test_the_jobs_of_pg_cron_have_names_of_their_own(stage: Stage) -> None:
    dev, prod = stage("dev"), stage("prod")
    assert "'unstuck-sweep-dev'" in schedule(dev)
    assert "call unstuck.cron_sweep_prod()" in schedule(prod)
    assert "procedure unstuck.cron_sweep_prod()" in procedures(prod)


def test_each_stage_prunes_what_is_its_own(empty_database: str, stage: Stage) -> None:
    dsn = empty_database
    with_tables(dsn, "dev", "prod")
    policies = [stage("dev"), stage("prod")]
    store = PostgresStore(dsn)
    for policy in policies:
        migrate(dsn, policy)
        watch = policy.watch()
        claimed = store.claim(watch, None, "w")
        store.settle(watch, claimed.task_id, claimed.token, "fail", reason="handler_error")
        store.settle(watch, claimed.task_id, claimed.token, "complete")
        store.operate(watch, "retry", [claimed.task_id])
        store.redispatch(watch, 10)
        begun = store.sweep_begin(None, "test", 45, policy.own_part)
        store.sweep_end(begun.sweep_id, ok=True, counts={})
    assert store.prune(-60, "dev") == 1
    for table in ("attempts", "refusals", "operations"):
        kept = run(dsn, f"select distinct watch from unstuck.{table}")
        assert kept == [("parcels_prod",)], table
    assert run(dsn, "select installation from unstuck.sweeps") == [("prod",)]
    assert store.prune(-60) == 0, "nor does one that has no name"
    assert store.prune(-60, "prod") == 1
    store.close()
