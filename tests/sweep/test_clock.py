"""A clock of the database that is set ends nothing: the sweep knows by time.monotonic how much time
really passed since its last run."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.answers import SweepBegun
from functions.core.policy import DEFAULT, load
from functions.store.postgres import PostgresStore
from functions.sweep import clock
from tests.sql import install_clock
from tests.sweep.steps import sweep

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
HOUR = 3600.0
LEDGER_IS_OLDER = """
update unstuck.attempts
set started_at = started_at - %(by)s, beat_at = beat_at - %(by)s,
    lease_until = lease_until - %(by)s, deadline_at = deadline_at - %(by)s
where ended_at is null
"""
RUNS_ARE_OLDER = """
update unstuck.sweeps
set started_at = started_at - %(by)s, ended_at = ended_at - %(by)s, until = until - %(by)s
"""
LIVE = """
select extract(epoch from lease_until - clock_timestamp())::float8 as lease_left,
  extract(epoch from deadline_at - clock_timestamp())::float8 as deadline_left
from unstuck.attempts where ended_at is null
"""


class World:
    """What a set clock leaves behind: all that was written before is that much older or younger."""

    def __init__(self, database: str) -> None:
        self.store = PostgresStore(database)
        self.db = psycopg.connect(database, autocommit=True, row_factory=dict_row)

    def set_clock(self, seconds: float) -> None:
        self.db.execute(LEDGER_IS_OLDER, {"by": datetime.timedelta(seconds=seconds)})
        self.db.execute(
            "update tasks set scheduled_at = scheduled_at - make_interval(secs => %s)"
            " where status = 'pending'",
            (seconds,),
        )
        self.db.execute(RUNS_ARE_OLDER, {"by": datetime.timedelta(seconds=seconds)})
        self.db.execute(
            "update unstuck.clock_jumps set at = at - make_interval(secs => %s)", (seconds,)
        )
        at, monotonic = clock._last_run[self.store]
        clock._last_run[self.store] = at - seconds, monotonic

    def states(self) -> list[str]:
        rows = self.db.execute("select status from tasks order by created_at").fetchall()
        return [row["status"] for row in rows]


@pytest.fixture
def world(database: str) -> Iterator[World]:
    made = World(database)
    yield made
    made.db.close()
    made.store.close()


def test_a_clock_that_is_set_forward_ends_no_attempt_and_no_waiting_task(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    held, waiting = (world.store.create(WATCH, "image", {}).task_id for _ in range(2))
    world.store.claim(WATCH, held, "worker")
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    for _ in range(2):
        report = sweep(world.store, POLICY)
        assert (report.failed, report.requeued, report.verdict) == (0, 0, "ok")
        assert report.oldest_overdue_seconds == 0
    assert world.states() == ["processing", "pending"]
    [attempt] = world.db.execute(LIVE).fetchall()
    rule = WATCH.rule("image")
    assert 20 < attempt["lease_left"] <= rule.lease
    assert 200 < attempt["deadline_left"] <= rule.lease + rule.run_for
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    [line] = [line for line in lines if line["event"] == "clock_jumped"]
    assert (line["severity"], line["count"]) == ("CRITICAL", 1)
    assert line["seconds"] == pytest.approx(HOUR, abs=5)
    other = world.store.create(WATCH, "selection", {}).task_id
    for kinds, task_id in ((["image"], waiting), (None, other)):
        claimed: Any = world.store.claim(WATCH, None, "a worker that pulls", kinds)
        assert claimed.task_id == task_id


def test_a_poll_and_a_second_delivery_before_the_next_run_end_nothing_by_the_new_clock(
    world: World,
) -> None:
    held, waiting = (world.store.create(WATCH, "image", {}).task_id for _ in range(2))
    world.store.claim(WATCH, held, "worker")
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    for _ in range(2):
        for task_id in (held, waiting):
            status = world.store.status(WATCH, task_id)
            assert status
            assert not status.overdue
        assert world.store.claim(WATCH, held, "another worker").verdict == "held"
    assert world.states() == ["processing", "pending"]
    [attempt] = world.db.execute(LIVE).fetchall()
    assert attempt["deadline_left"] > 200
    sweep(world.store, POLICY)
    assert world.states() == ["processing", "pending"]


def test_where_no_sweep_runs_any_more_a_poll_rescues_a_lease_later(world: World) -> None:
    held, waiting = (world.store.create(WATCH, "image", {}).task_id for _ in range(2))
    world.store.claim(WATCH, held, "a worker that dies")
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    world.store.status(WATCH, held)
    world.db.execute("update unstuck.attempts set lease_until = clock_timestamp(), lease = '0'")
    world.db.execute(
        "update tasks set scheduled_at = scheduled_at - interval '15 minutes' where id = %s",
        (waiting,),
    )
    states = [world.store.status(WATCH, task_id).state for task_id in (held, waiting)]
    assert states == ["pending", "failed"]


def test_what_waits_too_long_by_the_true_time_still_ends(world: World) -> None:
    world.store.create(WATCH, "image", {})
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    sweep(world.store, POLICY)
    world.db.execute(
        "update tasks set scheduled_at = scheduled_at - make_interval(secs => %s)",
        (WATCH.rule("image").pending_for,),
    )
    assert sweep(world.store, POLICY).failed == 1


def test_a_clock_that_is_set_back_hides_no_dead_worker(world: World) -> None:
    held = world.store.create(WATCH, "image", {}).task_id
    world.store.claim(WATCH, held, "a worker that dies")
    sweep(world.store, POLICY)
    world.set_clock(-HOUR)
    sweep(world.store, POLICY)
    [attempt] = world.db.execute(LIVE).fetchall()
    rule = WATCH.rule("image")
    assert attempt["lease_left"] <= rule.lease
    assert attempt["deadline_left"] <= rule.lease + rule.run_for


def test_a_clock_that_is_set_back_keeps_no_task_from_workers_that_pull(world: World) -> None:
    waiting = [world.store.create(WATCH, "image", {}).task_id for _ in range(2)]
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    sweep(world.store, POLICY)
    world.set_clock(-HOUR)
    sweep(world.store, POLICY)
    claims: list[Any] = [world.store.claim(WATCH, None, "w") for _ in waiting]
    assert [claim.task_id for claim in claims] == waiting


def run_in_sql(world: World) -> None:
    """The begin of a run that has no other clock, as one by pg_cron."""
    begun = world.store.sweep_begin(None, "pg_cron", 45.0)
    assert isinstance(begun, SweepBegun)
    world.db.execute("select unstuck.keep_time(%s)", (begun.sweep_id,))
    world.store.sweep_end(begun.sweep_id, ok=True, counts={}, error=None)


def test_a_clock_that_is_set_back_and_then_right_again_ends_nothing_where_sql_alone_sweeps(
    world: World,
) -> None:
    held, _ = (world.store.create(WATCH, "image", {}).task_id for _ in range(2))
    world.store.claim(WATCH, held, "worker")
    run_in_sql(world)
    clock.keep(world.store, 0)
    for seconds in (-HOUR, HOUR):
        world.set_clock(seconds)
        run_in_sql(world)
        world.db.execute("select unstuck.tasks_sweep(%s)", (WATCH.rules_json,))
        world.db.execute(
            "select unstuck.beat('tasks', task_id, token) from unstuck.attempts"
            " where ended_at is null"
        )
    assert world.states() == ["processing", "pending"]


def test_a_start_of_the_server_that_lies_in_the_future_keeps_no_dead_worker_alive(
    world: World,
) -> None:
    install_clock(world.db)
    world.db.execute(
        world.db.execute("select pg_get_functiondef('unstuck.alive_until'::regproc) as text")
        .fetchone()["text"]
        .replace("interval '1 day'", "interval '-1 hour'")
    )
    held = world.store.create(WATCH, "image", {}).task_id
    world.store.claim(WATCH, held, "a worker that dies")
    world.db.execute("update unstuck.attempts set lease_until = clock_timestamp()")
    assert sweep(world.store, POLICY).requeued == 1


def test_a_run_that_died_before_the_clock_was_set_back_stops_no_other(world: World) -> None:
    assert isinstance(world.store.sweep_begin(None, "a run that dies", 45.0), SweepBegun)
    world.db.execute(RUNS_ARE_OLDER, {"by": datetime.timedelta(hours=-1)})
    assert sweep(world.store, POLICY).verdict == "ok"


def test_a_poll_and_then_the_run_give_the_time_of_a_jump_once(world: World) -> None:
    held = world.store.create(WATCH, "image", {}).task_id
    world.store.claim(WATCH, held, "worker")
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    world.store.status(WATCH, held)
    sweep(world.store, POLICY)
    [attempt] = world.db.execute(LIVE).fetchall()
    rule = WATCH.rule("image")
    assert 200 < attempt["deadline_left"] <= rule.lease + rule.run_for + 60


@pytest.mark.parametrize(
    "statement",
    [
        "select unstuck.forgive_silence()",
        "select unstuck.clock_jumped((select max(id) from unstuck.sweeps), 3600)",
        "select unstuck.tasks_orphans(null)",
    ],
)
def test_who_holds_a_task_waits_for_no_attempt_that_its_settle_holds(
    world: World, statement: str
) -> None:
    """A settle holds the attempt and waits for its task: who held that task and waited for the
    attempt would make a circle."""
    held, other = (world.store.create(WATCH, "image", {}).task_id for _ in range(2))
    for task_id in (held, other):
        world.store.claim(WATCH, task_id, "worker")
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    if "orphans" in statement:
        world.db.execute("delete from tasks")
    lock = "select from unstuck.attempts where task_id = %s for update"
    with psycopg.connect(world.db.info.dsn) as settling:
        settling.execute(lock, (held,))
        world.db.execute("set lock_timeout = '2s'")
        world.db.execute(statement)
    moved = world.db.execute(
        "select task_id from unstuck.attempts where ended_at is not null or deadline_at > "
        "clock_timestamp()"
    ).fetchall()
    assert [row["task_id"] for row in moved] == [other], "and the others are not kept"


def test_a_run_that_comes_late_or_in_another_process_is_no_jump(world: World) -> None:
    at = 1_000_000.0
    assert clock.jump(world.store, at) is None
    clock.keep(world.store, at)
    assert clock.jump(world.store, at + 5) is None
    assert clock.jump(world.store, at + 60) == pytest.approx(60, abs=5)
    assert clock.jump(world.store, at - 60) == pytest.approx(-60, abs=5)


def test_a_jump_is_written_once_though_its_answer_was_lost(world: World) -> None:
    held = world.store.create(WATCH, "image", {}).task_id
    world.store.claim(WATCH, held, "worker")
    sweep(world.store, POLICY)
    world.set_clock(HOUR)
    assert [world.store.clock_jumped(1, HOUR) for _ in range(2)] == [1, 0]


def test_the_claims_look_for_a_set_clock_no_longer_than_a_task_may_wait(world: World) -> None:
    mark = "select ended_at is null as stands from unstuck.pauses where watch = ''"
    waiting = world.store.create(WATCH, "image", {}).task_id
    sweep(world.store, POLICY)
    world.set_clock(3 * HOUR)
    sweep(world.store, POLICY)
    assert world.db.execute(mark).fetchall() == [{"stands": True}]
    claimed: Any = world.store.claim(WATCH, None, "a worker that pulls")
    assert claimed.task_id == waiting
    world.db.execute("update unstuck.pauses set until = clock_timestamp() where watch = ''")
    sweep(world.store, POLICY)
    assert world.db.execute(mark).fetchall() == [{"stands": False}]
    assert world.store.pauses(list(POLICY.watches)) == []
