"""Credits and generations, the two optional parts: what a task costs is held, captured or released
once, whatever is repeated or raced, and what it made is kept once."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from functions.core.answers import Claimed, Lost, Settled
from functions.core.policy import DEFAULT, Policy, Watch, parse
from functions.errors import StoreError
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.conftest import copied
from tests.sql import install_clock, pass_time

COST = 25
LEASE = 30
EMPTY = """
delete from public.unstuck_credit_entries; delete from public.unstuck_credits;
delete from public.unstuck_generations; delete from public.tasks;
delete from unstuck.attempts; delete from unstuck.refusals; delete from unstuck.sweeps
"""


def policy() -> Policy:
    text = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    watch = text["watches"]["tasks"]
    watch["optional"] = ["credits", "generations"]
    watch["rules"] = {"*": watch["rules"]["*"] | {"on_lost": "fail", "cost": COST}}
    return parse(yaml.safe_dump(text, sort_keys=False))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return policy().watch()


@pytest.fixture(scope="module")
def dsn(postgres: Postgres) -> Iterator[str]:
    with copied(postgres, None) as dsn:
        migrate(dsn, policy())
        with psycopg.connect(dsn, autocommit=True) as connection:
            install_clock(connection)
        yield dsn


@pytest.fixture
def db(dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        connection.execute(EMPTY)
        yield connection


@pytest.fixture
def store(dsn: str, db: object) -> Iterator[Store]:
    opened = PostgresStore(dsn)
    yield opened
    opened.close()


class Account:
    """What one owner has, and what stands in the ledger."""

    def __init__(
        self, db: psycopg.Connection[dict[str, Any]], store: Store, watch: Watch, owner: str = "ada"
    ) -> None:
        self.db, self.store, self.watch, self.owner = db, store, watch, owner

    def grant(self, amount: int, key: str = "") -> int:
        row = self.db.execute(
            "select public.unstuck_credits_grant(%s, %s, %s) as left",
            (self.owner, amount, key or uuid4().hex),
        ).fetchone()
        assert row is not None
        return int(row["left"])

    def create(self, cost: int = COST, **more: Any) -> str:
        answer = self.store.create(
            self.watch, "image", {}, owner=self.owner, metadata={"cost": cost}, **more
        )
        return str(answer.task_id)

    def claim(self) -> Claimed:
        task_id = self.create()
        claimed = self.store.claim(self.watch, task_id, "worker")
        assert claimed.verdict == "claimed"
        return claimed

    def settle(self, claimed: Claimed, outcome: str, **more: Any) -> Settled | Lost:
        return self.store.settle(self.watch, claimed.task_id, claimed.token, outcome, **more)

    def swept(self) -> None:
        self.store.sweep(self.watch, 500)
        self.store.orphans(self.watch, 0)

    @property
    def has(self) -> tuple[int, int]:
        """Balance and held, which the ledger must say too."""
        row = self.db.execute(
            "select * from public.unstuck_credits where owner = %s", (self.owner,)
        ).fetchone()
        assert row is not None
        sums: Counter[str] = Counter()
        for entry in self.db.execute(
            "select * from public.unstuck_credit_entries where owner = %s", (self.owner,)
        ):
            sums[entry["entry"]] += entry["amount"]
        assert row["balance"] == sums["grant"] - sums["hold"] + sums["release"]
        assert row["held"] == sums["hold"] - sums["capture"] - sums["release"]
        return row["balance"], row["held"]

    def entries(self, task_id: str) -> list[str]:
        rows = self.db.execute(
            "select entry from public.unstuck_credit_entries where task_id = %s order by id",
            (task_id,),
        )
        return [row["entry"] for row in rows]


@pytest.fixture
def ada(db, store, watch) -> Account:
    account = Account(db, store, watch)
    account.grant(100)
    return account


def test_a_task_that_is_completed_is_paid_once(ada):
    claimed = ada.claim()
    assert ada.has == (75, 25)
    for _ in range(2):
        ada.settle(claimed, "complete", result={})
    assert ada.has == (75, 0)
    assert ada.entries(claimed.task_id) == ["hold", "capture"]


def test_a_task_that_fails_gives_its_credits_back_once(ada):
    claimed = ada.claim()
    for _ in range(2):
        ada.settle(claimed, "fail")
    assert ada.has == (100, 0)
    assert ada.entries(claimed.task_id) == ["hold", "release"]


def test_a_try_that_will_be_repeated_keeps_its_credits_held(ada):
    claimed = ada.claim()
    ada.settle(claimed, "retry", reason="transient", after=0)
    assert ada.has == (75, 25)
    again = ada.store.claim(ada.watch, claimed.task_id, "worker")
    ada.settle(again, "complete", result={})
    assert ada.entries(claimed.task_id) == ["hold", "capture"]


def test_a_sweep_gives_the_credits_of_a_lost_task_back_and_the_zombie_takes_none(ada):
    claimed, waiting = ada.claim(), ada.create()
    pass_time(ada.db, 3600)
    for _ in range(2):
        ada.swept()
    assert ada.settle(claimed, "complete", result={}).verdict == "lost"
    assert ada.has == (100, 0)
    assert [ada.entries(task) for task in (claimed.task_id, waiting)] == [["hold", "release"]] * 2


def test_a_poll_that_heals_a_task_gives_its_credits_back(ada):
    claimed = ada.claim()
    pass_time(ada.db, LEASE + 1)
    for _ in range(2):
        assert ada.store.status(ada.watch, claimed.task_id).state == "failed"
    assert ada.has == (100, 0)


@pytest.mark.parametrize("action", ["cancel", "fail"])
def test_a_person_who_ends_a_task_gives_its_credits_back_once(ada, action):
    held, waiting = ada.claim().task_id, ada.create()
    for _ in range(2):
        ada.store.operate(ada.watch, action, [held, waiting])
    assert ada.has == (100, 0)


def test_a_user_who_cancels_gets_the_credits_back_once(ada):
    claimed = ada.claim()
    for _ in range(2):
        ada.store.cancel(ada.watch, claimed.task_id, owner="ada")
    assert ada.settle(claimed, "complete", result={}).verdict == "lost"
    assert (ada.has, ada.entries(claimed.task_id)) == ((100, 0), ["hold", "release"])


def test_a_task_that_is_started_again_is_held_again_and_paid_once(ada):
    claimed = ada.claim()
    ada.settle(claimed, "fail")
    for _ in range(2):
        ada.store.operate(ada.watch, "retry", [claimed.task_id])
    assert ada.has == (75, 25)
    ada.settle(ada.store.claim(ada.watch, claimed.task_id, "worker"), "complete", result={})
    assert ada.has == (75, 0)
    assert ada.entries(claimed.task_id) == ["hold", "release", "hold", "capture"]


def test_a_task_is_not_started_again_without_the_credits_for_it(ada):
    task_id = ada.create(cost=60)
    ada.store.operate(ada.watch, "cancel", [task_id])
    ada.create(cost=60)
    with pytest.raises(StoreError, match="The task costs 60 cents, and 40 are left"):
        ada.store.operate(ada.watch, "retry", [task_id])
    assert ada.store.status(ada.watch, task_id).state == "cancelled"
    assert ada.has == (40, 60)


def test_a_create_that_is_repeated_holds_once(ada):
    assert len({ada.create(key="k") for _ in range(3)}) == 1
    assert ada.has == (75, 25)


def test_a_task_without_the_credits_for_it_is_not_created(ada):
    with pytest.raises(StoreError, match="The task costs 101 cents, and 100 are left") as refused:
        ada.create(cost=101)
    assert (refused.value.code, refused.value.retryable) == ("PT402", False)
    assert ada.has == (100, 0)
    assert ada.db.execute("select from public.tasks").fetchall() == []


def test_a_task_that_costs_must_have_an_owner(ada):
    with pytest.raises(StoreError, match="has no owner who pays") as refused:
        ada.store.create(ada.watch, "image", {}, metadata={"cost": 1})
    assert refused.value.code == "PT400"


def test_a_task_that_costs_nothing_leaves_no_entry(ada):
    task_id = str(ada.store.create(ada.watch, "image", {}).task_id)
    ada.store.operate(ada.watch, "cancel", [task_id])
    ada.store.operate(ada.watch, "retry", [task_id])
    assert ada.entries(task_id) == []


def test_a_grant_is_given_once_for_its_key(ada):
    assert [ada.grant(50, "invoice-1") for _ in range(2)] == [150, 150]
    with pytest.raises(psycopg.Error, match="used for another grant"):
        ada.grant(51, "invoice-1")


def test_what_is_taken_back_is_there_to_be_taken(ada):
    assert ada.grant(-60) == 40
    with pytest.raises(psycopg.errors.CheckViolation):
        ada.grant(-41)


@pytest.mark.parametrize(
    ("done", "left"),
    [
        ("update tasks set status = 'completed'", (75, 0)),
        ("update tasks set status = 'cancelled'", (100, 0)),
        ("update tasks set status = 'processing'", (75, 25)),
        ("delete from tasks where owner is not null", (100, 0)),
    ],
)
def test_the_next_sweep_ends_the_hold_of_a_task_that_somebody_else_ended(ada, done, left):
    ada.create()
    ada.store.create(ada.watch, "image", {})
    ada.db.execute(done)
    for _ in range(2):
        ada.swept()
    assert ada.has == left


def test_a_hold_whose_task_is_gone_is_released_though_a_worker_is_at_it(ada):
    claimed = ada.claim()
    ada.db.execute("delete from tasks")
    ada.swept()
    assert ada.settle(claimed, "complete", result={}).verdict == "lost"
    assert ada.has == (100, 0)


def test_no_race_of_creates_spends_more_than_there_is(ada, dsn):
    stores = [PostgresStore(dsn) for _ in range(4)]
    refused = []

    def create(number: int) -> None:
        try:
            stores[number % 4].create(ada.watch, "image", {}, owner="ada", metadata={"cost": 7})
        except StoreError as error:
            refused.append(error.code)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(create, range(40)))
    assert ada.has == (100 % 7, 100 // 7 * 7)
    assert refused == ["PT402"] * (40 - 100 // 7)
    for opened in stores:
        opened.close()


def test_no_race_of_ends_pays_or_gives_back_twice(ada, dsn):
    """A settle, its repetition, a person and a sweep at the same moment."""
    ada.grant(1000)
    stores = [PostgresStore(dsn) for _ in range(4)]
    for _ in range(10):
        before = sum(ada.has)
        claimed = ada.claim()
        task_id, start = claimed.task_id, threading.Barrier(4)
        ends = (
            lambda store, c=claimed: store.settle(
                ada.watch, c.task_id, c.token, "complete", result={}
            ),
            lambda store, c=claimed: store.settle(
                ada.watch, c.task_id, c.token, "complete", result={}
            ),
            lambda store, t=task_id: store.operate(ada.watch, "cancel", [t]),
            lambda store: store.orphans(ada.watch, 0),
        )

        def at_once(number: int, start: threading.Barrier = start, ends: Any = ends) -> None:
            start.wait(10)
            ends[number](stores[number])

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(at_once, range(4)))
        paid = COST if ada.store.status(ada.watch, task_id).state == "completed" else 0
        assert ada.has == (before - paid, 0)
        assert ada.entries(task_id) == ["hold", "capture" if paid else "release"]
    for opened in stores:
        opened.close()


def test_the_ledger_itself_refuses_a_second_end(ada):
    task_id = ada.claim().task_id
    ada.store.operate(ada.watch, "cancel", [task_id])
    for entry in ("capture", "release"):
        with pytest.raises(psycopg.errors.UniqueViolation):
            ada.db.execute(
                "insert into unstuck_credit_entries (owner, entry, amount, watch, task_id, life) "
                "values ('ada', %s, 25, 'tasks', %s, 1)",
                (entry, task_id),
            )


def test_an_idle_sweep_reads_the_open_holds_only(ada, dsn):
    ada.db.execute(
        "insert into unstuck_credit_entries (owner, entry, amount, watch, task_id, life) "
        "select 'ada', e, 1, 'tasks', gen_random_uuid(), 1 "
        "from generate_series(1, 2000), (values ('hold'), ('release')) v (e)"
    )
    ada.create()
    ada.db.execute("analyze unstuck_credit_entries")
    with psycopg.connect(dsn, row_factory=dict_row) as fresh:  # its counters hold nothing else
        fresh.execute("select unstuck.tasks_credits_on_swept()")
        read = fresh.execute(
            "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables "
            "where relname = 'unstuck_credit_entries'"
        ).fetchone()
    assert read is not None
    assert (read["seq_scan"], read["idx_tup_fetch"] < 10) == (0, True)


# -- generations


@pytest.mark.parametrize(
    ("result", "outputs"),
    [
        ({"url": "a.png", "width": 8}, [(1, "a.png", {"url": "a.png", "width": 8})]),
        (
            {"outputs": ["a.png", {"url": "b.png"}]},
            [(1, "a.png", "a.png"), (2, "b.png", {"url": "b.png"})],
        ),
        ({"outputs": []}, []),
        (None, []),
    ],
)
def test_a_completed_task_inserts_its_outputs_once(ada, result, outputs):
    claimed = ada.claim()
    for _ in range(2):
        ada.settle(claimed, "complete", result=result)
    rows = ada.db.execute("select * from unstuck_generations order by position").fetchall()
    assert [(row["position"], row["url"], row["output"]) for row in rows] == outputs
    assert {(row["task_id"], row["owner"], row["kind"]) for row in rows} <= {
        (claimed.task_id, "ada", "image")
    }


def test_a_task_that_does_not_complete_makes_nothing(ada):
    ada.settle(ada.claim(), "fail", result={"url": "half.png"})
    assert ada.db.execute("select from unstuck_generations").fetchall() == []


def test_both_parts_may_be_installed_again(dsn):
    assert migrate(dsn, policy()) == []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "delete from unstuck.migrations where name in ('credits.tasks', 'generations.tasks')"
        )
    assert migrate(dsn, policy()) == ["credits.tasks", "generations.tasks"]
