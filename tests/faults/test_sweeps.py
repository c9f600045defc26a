"""The sweep: two at once, one that is killed in the middle, rows that cannot be settled, and many
leases lost at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import BOTH
from tests.faults.world import MASS, World, family, frozen
from tests.waiting import eventually

SEED = """
with made as (
  insert into tasks (kind, status, scheduled_at, metadata)
  select %(kind)s, case when %(held)s then 'processing' else 'pending' end,
         clock_timestamp() - interval '1 hour', jsonb_build_object('bad', %(bad)s)
  from generate_series(1, %(n)s) returning id, kind
), held as (
  insert into unstuck.attempts (watch, task_id, number, tries, kind, token, started_at, lease,
                                lease_until, deadline_at, beat_at)
  select 'tasks', id, 1, 1, kind, gen_random_uuid(), clock_timestamp() - interval '1 hour',
    interval '1 s',
         clock_timestamp() - interval '1 hour', clock_timestamp() - interval '1 hour',
           clock_timestamp() - interval '1 hour'
  from made where %(held)s
), pushed_again as (
  insert into unstuck.dispatches (watch, task_id, at)
  select 'tasks', id, clock_timestamp() - interval '50 minutes' from made where not %(held)s
)
select id::text from made
"""
BAD_TRIGGER = """
create function refuse() returns trigger language plpgsql as
$$ begin if old.metadata ->> 'bad' = 'true' then raise 'this row is nailed down'; end if; return
  new; end $$;
create trigger refuse before update on tasks for each row execute function refuse();
"""
BAD_CHECK = """
alter table tasks add constraint nailed_down
check (not (metadata ->> 'bad' = 'true' and (status = 'failed' or scheduled_at > created_at))) not
  valid;
"""
SLOW_TRIGGER = """
create function slow() returns trigger language plpgsql
  as $$ begin perform pg_sleep(0.005); return new; end $$;
create trigger slow before update on tasks for each row execute function slow();
"""


def overdue(world: World, n: int, *, held: bool, bad: bool = False) -> set[str]:
    """Rows that an attempt holds past its deadline, or that wait past their rule though they were
    pushed again."""
    import psycopg

    with psycopg.connect(world.dsn, autocommit=True) as connection:
        found = connection.execute(
            SEED, {"n": n, "held": held, "bad": bad, "kind": "ok"}
        ).fetchall()
    return {row[0] for row in found}


def small_batches(policy):
    policy["sweep"]["batch"] = 20
    policy["sweep"]["every"], policy["sweep"]["budget"] = "2s", "1.5s"


def half_settled(world: World) -> int:
    """Tasks that moved without the end of their attempt, or the other way round."""
    return world.one("""
      select count(*) from tasks t left join unstuck.attempts a on a.task_id = t.id::text
        and a.ended_at is null
      where (t.status = 'processing') <> (a.task_id is not null)""")


@BOTH
def test_sweeps_that_run_at_once_settle_each_row_exactly_once(world: World):
    held, waiting = overdue(world, 1200, held=True), overdue(world, 800, held=False)
    store, watch, start = world.store(), world.policy.watch(), threading.Barrier(3)

    def sweep() -> list[str]:
        settled: list[str] = []
        start.wait(10)
        while batch := store.sweep(watch, 100).rescued:
            settled += [task.task_id for task in batch]
        return settled

    with ThreadPoolExecutor(3) as pool:
        runs = [run.result(60) for run in [pool.submit(sweep) for _ in range(3)]]
    store.close()
    assert all(runs), "only one of them did the work: they did not run at once"
    settled = [task for run in runs for task in run]
    assert len(settled) == len(set(settled)) == 2000
    assert set(settled) == held | waiting
    counted = world.rows(
        "select outcome, reason, count(*) from unstuck.attempts group by 1, 2 order by 1"
    )
    assert [tuple(one.values()) for one in counted] == [
        ("failed", "never_claimed", 800),
        ("retried", "deadline", 1200),
    ]
    assert half_settled(world) == 0


@BOTH
def test_ticks_that_come_at_once_make_one_sweep(make):
    world = make(small_batches)
    world.do(SLOW_TRIGGER)
    overdue(world, 50, held=False)
    world.sweeper()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(world.sweep, ["the same time"] * 3 + [None] * 3))
    assert sorted(answer["verdict"] for answer in answers).count("ok") == 1
    assert {answer["verdict"] for answer in answers} <= {"ok", "running", "duplicate"}
    assert sum(answer.get("failed", 0) for answer in answers) == 50
    assert world.one("select count(*) from unstuck.attempts") == 50


@BOTH
def test_a_sweep_that_is_killed_in_the_middle_leaves_no_row_half_settled_and_the_next_one_finishes(
    make,
):
    world = make(small_batches)
    world.do(SLOW_TRIGGER)
    overdue(world, 100, held=True)
    overdue(world, 100, held=False)
    sweeper = world.sweeper()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.sweep)
        done = eventually(
            lambda: world.one("select count(*) from unstuck.attempts where ended_at is not null")
        )
        sweeper.kill_worker()
        assert running.exception(10), "the sweep was killed too late"
    assert 0 < done < 200
    assert half_settled(world) == 0
    eventually(sweeper.workers)
    eventually(lambda: world.swept()["complete"], message="no sweep finishes")
    assert half_settled(world) == 0
    assert world.one("select count(*) from unstuck.attempts where ended_at is null") == 0
    assert world.one("select count(*) from unstuck.attempts") == 200
    assert world.one("select count(*) from tasks where status = 'failed'") == 100
    ends = world.rows("select ended_at, ok from unstuck.sweeps order by id")
    assert (ends[0]["ended_at"], ends[-1]["ok"]) == (None, True), (
        "the run that died shows as not ended"
    )


@pytest.mark.parametrize("bad", [BAD_TRIGGER, BAD_CHECK], ids=["trigger", "check"])
def test_rows_that_cannot_be_settled_are_reported_and_do_not_stop_or_hide_the_others(
    make, bad: str
):
    world = make(small_batches)
    batch = world.policy.sweep_batch
    world.do(bad)
    nailed = overdue(world, batch + 5, held=True, bad=True) | overdue(
        world, batch + 5, held=False, bad=True
    )
    good = overdue(world, 15, held=True) | overdue(world, 15, held=False)
    counts = world.swept()
    assert counts["verdict"] == "ok"
    assert (counts["unsweepable"], counts["requeued"], counts["failed"]) == (len(nailed), 15, 15)
    reported = world.events("task_unsweepable")
    assert len(reported) == len(nailed)
    assert {one["task_id"] for one in reported} == nailed
    assert all(one["error"] and one["code"] for one in reported)
    moved = {
        row["id"]
        for row in world.rows(
            "select task_id as id from unstuck.attempts where ended_at is not null"
        )
    }
    assert moved == good
    assert half_settled(world) == 0
    assert world.swept()["unsweepable"] == len(nailed), "they stay visible"
    assert world.one(
        "select (counts ->> 'unsweepable')::int from unstuck.sweeps order by id limit 1"
    ) == len(nailed)


def test_a_row_that_somebody_has_locked_does_not_hold_up_the_sweep(world: World):
    import psycopg

    locked, *others = overdue(world, 5, held=True)
    with psycopg.connect(world.dsn) as somebody:
        somebody.execute("select from tasks where id = %s for update", (locked,))
        assert world.swept()["requeued"] == len(others)
        assert world.history(locked) == [(None, None)]
    assert world.swept()["requeued"] == 1
    assert world.history(locked) == [("retried", "deadline")]


def test_many_leases_lost_at_once_get_one_more_and_no_attempt_is_burnt(world: World):
    """The platform stood still, not the workers."""
    worker = world.worker()
    world.sweeper()
    tasks = world.begin_all(["waits"] * MASS)
    with frozen(*family(worker)):
        _all_expire(world, MASS)
        counts = world.swept()
    assert (counts["suspended"], counts["requeued"], counts["failed"]) == (MASS, 0, 0)
    (event,) = world.events("sweep_suspended")
    assert (event["severity"], event["count"]) == ("CRITICAL", MASS)
    for task in tasks:
        world.gate(task).touch()
    for task in tasks:
        world.ends(task)
        assert world.history(task) == [("completed", None)]


def test_many_workers_that_are_dead_indeed_are_rescued_at_the_second_time(world: World):
    worker = world.worker()
    world.sweeper()
    tasks = world.begin_all(["waits"] * MASS)
    worker.kill_worker()
    _all_expire(world, MASS)
    assert world.swept()["suspended"] == MASS
    assert [world.history(task) for task in tasks] == [[(None, None)]] * MASS
    _all_expire(world, MASS)
    counts = world.swept()
    assert (counts["suspended"], counts["requeued"]) == (0, MASS)
    for task in tasks:
        world.ends(task)
        assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]


def test_a_few_leases_lost_at_once_are_rescued_at_once(world: World):
    worker = world.worker()
    world.begin_all(["waits"] * (MASS - 1))
    worker.kill_worker()
    _all_expire(world, MASS - 1)
    counts = world.swept()
    assert (counts["suspended"], counts["requeued"]) == (0, MASS - 1)


def test_the_sweep_pushes_a_task_again_whose_push_was_lost(world: World):
    world.worker()
    task = world.create("ok")
    world.do(
        "update tasks set scheduled_at = clock_timestamp() - interval '3 s' where id = %s", task
    )
    assert world.swept()["redispatched"] == 1
    world.ends(task)
    assert len(world.events("task_redispatched", task)) == 1
    assert world.history(task) == [("completed", None)]


def _all_expire(world: World, n: int) -> None:
    query = (
        "select count(*) from unstuck.attempts where ended_at is null "
        "and lease_until < clock_timestamp()"
    )
    eventually(lambda: world.one(query) == n, message="the leases do not run out")
