"""While nobody reached the database, no heartbeat could arrive: leases count from the end of such a
silence, for one attempt as for many. A worker that is dead alone is rescued all the same."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT, load
from functions.store.postgres import PostgresStore
from tests.sql import install_clock
from tests.sweep.steps import sweep

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
EACH_MINUTE = (480, 420, 360, 300, 240, 180)
"""Seconds ago; then no run for three minutes."""
INSERT_RUN = """
insert into unstuck.sweeps (started_at, ended_at, until, ok)
select t, t + interval '1 s', t + interval '45 s', true
from (select clock_timestamp() - make_interval(secs => %s) as t) r
"""
SET_HEARTBEAT = """
update unstuck.attempts
set beat_at = clock_timestamp() - make_interval(secs => %(ago)s),
    lease_until = clock_timestamp() - make_interval(secs => %(ago)s) + lease,
    started_at = clock_timestamp() - interval '1 hour',
    deadline_at = clock_timestamp() + interval '5 minutes'
where task_id = %(task)s
"""


class Ledger:
    def __init__(self, database: str) -> None:
        self.store = PostgresStore(database)
        self.db = psycopg.connect(database, autocommit=True, row_factory=dict_row)
        install_clock(self.db)

    def ran(self, *seconds_ago: int) -> None:
        for ago in seconds_ago:
            self.db.execute(INSERT_RUN, (ago,))

    def attempt(self, heartbeat_ago: float) -> str:
        task_id = self.store.create(WATCH, "image", {}).task_id
        self.store.claim(WATCH, task_id, "worker")
        self.db.execute(SET_HEARTBEAT, {"ago": heartbeat_ago, "task": task_id})
        return task_id

    def lease_runs_out(self) -> None:
        self.db.execute(
            "update unstuck.attempts set lease_until = clock_timestamp() where ended_at is null"
        )

    def live(self) -> list[dict[str, Any]]:
        return self.db.execute(
            "select task_id, lease_until - clock_timestamp() as left, extended"
            " from unstuck.attempts where ended_at is null"
        ).fetchall()


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    made = Ledger(database)
    yield made
    made.db.close()
    made.store.close()


@pytest.mark.parametrize("attempts", [1, 2, 6])
def test_after_a_silence_each_attempt_has_a_lease_from_its_end_once(
    ledger: Ledger, attempts: int
) -> None:
    ledger.ran(*EACH_MINUTE)
    for _ in range(attempts):
        ledger.attempt(heartbeat_ago=175)
    report = sweep(ledger.store, POLICY)
    assert (report.requeued, report.failed, report.suspended) == (0, 0, attempts)
    for attempt in ledger.live():
        assert 20 < attempt["left"].total_seconds() <= WATCH.rule("image").lease
    ledger.lease_runs_out()
    assert sweep(ledger.store, POLICY).requeued == attempts, "the dead ones: silent for longer"


def test_a_lease_counts_from_the_first_contact_and_not_from_the_sweep_that_comes_later(
    ledger: Ledger,
) -> None:
    ledger.ran(*EACH_MINUTE)
    ledger.attempt(heartbeat_ago=175)
    ledger.attempt(heartbeat_ago=10)  # the first that came back
    sweep(ledger.store, POLICY)
    assert len(ledger.live()) == 2
    [bridged] = [attempt for attempt in ledger.live() if attempt["extended"]]
    assert bridged["left"].total_seconds() <= WATCH.rule("image").lease - 10


@pytest.mark.parametrize("heartbeat_ago", [32, 100, 400])
def test_a_worker_that_is_dead_alone_is_rescued_by_the_first_sweep_when_sweeps_run(
    ledger: Ledger, heartbeat_ago: float
) -> None:
    ledger.ran(*EACH_MINUTE, 120, 60)
    ledger.attempt(heartbeat_ago)
    assert sweep(ledger.store, POLICY).requeued == 1


def test_sweeps_that_are_always_rare_are_no_silence(ledger: Ledger) -> None:
    ledger.ran(*range(3000, 0, -300))
    ledger.attempt(heartbeat_ago=100)
    assert sweep(ledger.store, POLICY).requeued == 1


def test_a_dead_scheduler_alone_is_no_silence_while_others_send_heartbeats(ledger: Ledger) -> None:
    ledger.ran(*EACH_MINUTE)
    ledger.attempt(heartbeat_ago=175)
    for ago in (120, 60, 1):
        ledger.attempt(heartbeat_ago=ago)
    report = sweep(ledger.store, POLICY)
    assert (report.suspended, report.requeued) == (0, 3)


def test_a_poll_after_a_silence_ends_nothing_at_first_and_heals_without_any_sweep_later(
    ledger: Ledger,
) -> None:
    ledger.ran(*EACH_MINUTE)
    task_id = ledger.attempt(heartbeat_ago=175)
    first = ledger.store.status(WATCH, task_id)
    assert first is not None
    assert (first.state, first.overdue, first.rescued) == ("running", False, [])
    ledger.lease_runs_out()
    second = ledger.store.status(WATCH, task_id)
    assert second is not None
    assert [task.state for task in second.rescued] == ["pending"]


def heartbeat_after(ledger: Ledger, seconds: float, task_id: str) -> threading.Timer:
    [attempt] = ledger.db.execute(
        "select token::text from unstuck.attempts where task_id = %s", (task_id,)
    ).fetchall()
    timer = threading.Timer(seconds, ledger.store.beat, (WATCH, task_id, attempt["token"]))
    timer.start()
    return timer


def test_after_an_outage_between_two_runs_the_sweep_waits_for_the_first_heartbeats(
    ledger: Ledger,
) -> None:
    """The run comes first, since workers ask again each second only."""
    ledger.ran(*EACH_MINUTE, 120, 61)
    alive, dead = ledger.attempt(heartbeat_ago=55), ledger.attempt(heartbeat_ago=53)
    timer = heartbeat_after(ledger, 0.5, alive)
    report = sweep(ledger.store, POLICY, heard_within=2.0)
    timer.join()
    assert (report.requeued, report.failed) == (1, 0)
    assert [attempt["task_id"] for attempt in ledger.live()] == [alive] != [dead]


def test_where_another_worker_was_heard_since_a_dead_one_is_not_waited_for(ledger: Ledger) -> None:
    ledger.ran(*EACH_MINUTE, 120, 61)
    ledger.attempt(heartbeat_ago=55)
    ledger.attempt(heartbeat_ago=20)
    report = sweep(ledger.store, POLICY, heard_within=30.0)
    assert report.requeued == 1
    assert report.seconds < 10


def many_died(ledger: Ledger, lease: str) -> None:
    for _ in range(12):
        ledger.attempt(heartbeat_ago=40)
    ledger.db.execute("update unstuck.attempts set lease = %s", (lease,))


def test_the_run_that_gives_one_more_lease_stays_for_its_end_and_rescues_the_dead(
    ledger: Ledger,
) -> None:
    many_died(ledger, "0.5 s")
    report = sweep(ledger.store, POLICY, stays=True)
    assert (report.suspended, report.requeued, report.complete) == (12, 12, True)
    ended = ledger.db.execute(
        "select bool_and(ended_at >= lease_until and extended) as late from unstuck.attempts"
    ).fetchone()
    assert ended == {"late": True}, "each had its one more lease"


def test_a_run_does_not_stay_longer_than_its_budget(ledger: Ledger) -> None:
    many_died(ledger, "50 s")
    report = sweep(ledger.store, POLICY, stays=True)
    assert (report.suspended, report.requeued) == (12, 0)
    assert len(ledger.live()) == 12


def test_each_silence_counts_and_not_the_last_alone(ledger: Ledger) -> None:
    """After an outage one worker wrote its end at once, and then nothing came for a while."""
    ledger.ran(1200, 1190, 1180, 1170, 1160)
    alive, ended = ledger.attempt(heartbeat_ago=115), ledger.attempt(heartbeat_ago=115)
    ledger.db.execute(
        "update unstuck.attempts set ended_at = clock_timestamp() - interval '70 s',"
        " outcome = 'completed', lease = '80 s' where task_id = %s",
        (ended,),
    )
    ledger.db.execute(
        "update unstuck.attempts set beat_at = clock_timestamp() - interval '1160 s',"
        " lease = '1000 s', lease_until = clock_timestamp() - interval '160 s' where task_id = %s",
        (alive,),
    )
    report = sweep(ledger.store, POLICY)
    assert (report.requeued, report.failed, report.suspended) == (0, 0, 1)


def test_however_many_times_nobody_was_there_each_live_attempt_is_read_once(ledger: Ledger) -> None:
    """It was read for each of those times: 7 ms of each batch, with 3,000 leases that ran out."""
    ledger.ran(*range(6000, 3000, -60), *range(3000, 0, -300))
    for number in range(20):
        ledger.attempt(heartbeat_ago=number * 100)
    with ledger.db.transaction():
        read = [reads(ledger)]
        ledger.db.execute("select from unstuck.silences(clock_timestamp())")
        read.append(reads(ledger))
    assert read[1] - read[0] <= 20


def reads(ledger: Ledger) -> int:
    """How many attempts this transaction has read."""
    [row] = ledger.db.execute(
        "select idx_tup_fetch + seq_tup_read as count from pg_stat_xact_user_tables"
        " where relid = 'unstuck.attempts'::regclass"
    ).fetchall()
    return int(row["count"])
