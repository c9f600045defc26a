"""A foreign worker finishes tasks between the look and the fix: what it finished is never
overwritten. Beside it, on the same run, the usual loop as the contrast: ids first, then an
update for each."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
import pytest

from functions.ops.inspect.check import infer_table
from functions.ops.inspect.fix import fix
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import connect
from functions.ops.inspect.stuck import find_stuck
from tests.ops.inspect.world import World, jobs

RACES = 1_000
WORKERS = 4
FOUND = (
    "select id from {table} where status = 'running' "
    "and updated_at < now() - interval '30 minutes' order by random()"
)


def stuck(world: World, table: str, count: int) -> None:
    world.run(
        jobs("updated_at timestamptz", name=table),
        f"insert into {table} (status, updated_at) select 'running', now() - interval '3 hours' "
        f"from generate_series(1, {count})",
    )


def finish(connection: psycopg.Connection[Any], table: str, key: int) -> bool:
    """A foreign worker comes to its end after all. Whether the task was still its own."""
    done = (
        f"update {table} set status = 'completed', updated_at = now() where id = {key} and "
        "status = 'running'"
    )
    return connection.execute(done.encode()).rowcount == 1


def overwritten(world: World, table: str, finished: set[int]) -> int:
    """How many finished tasks are not completed any more."""
    lost = world.rows(f"select id from {table} where status <> 'completed'")
    return len(finished & {row[0] for row in lost})


def usual_loop(world: World, table: str, keys: list[int]) -> None:
    """The loop of a usual cleanup script, after its select."""
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        for key in keys:
            values = "status = 'failed', error = 'Task timed out'"
            connection.execute(f"update {table} set {values} where id = {key}".encode())


def ours(world: World, table: str) -> None:
    with connect(world.dsn) as connection:
        fix(connection, infer_table(connection, table), Limits())


def test_a_thousand_tasks_that_were_finished_after_the_look_stay_finished(world: World) -> None:
    for table in ("jobs", "looped_jobs"):
        stuck(world, table, RACES + 500)
    keys = [row[0] for row in world.rows(FOUND.format(table="looped_jobs"))]
    with connect(world.dsn) as connection:
        inferred = infer_table(connection, "jobs")
        _, total, *_ = find_stuck(connection, inferred, Limits())
        assert total == len(keys) == RACES + 500
        finished = set(range(1, RACES + 1))
        for table in ("jobs", "looped_jobs"):
            assert all(finish(connection, table, key) for key in finished)
        done = fix(connection, inferred, Limits())
    usual_loop(world, "looped_jobs", keys)
    assert overwritten(world, "jobs", finished) == 0
    assert len(done.ids) == 500
    assert overwritten(world, "looped_jobs", finished) == RACES


@pytest.mark.parametrize("index", [True, False], ids=["in batches", "at once"])
def test_nothing_is_overwritten_while_workers_finish_and_the_fix_runs(
    index: bool, world: World
) -> None:
    count = 3 * RACES
    for table in ("jobs", "looped_jobs"):
        stuck(world, table, count)
        if index:
            world.run(f"create index on {table} (status)")
    keys = [row[0] for row in world.rows(FOUND.format(table="looped_jobs"))]
    here = race(world, "jobs", count, lambda: ours(world, "jobs"))
    there = race(world, "looped_jobs", count, lambda: usual_loop(world, "looped_jobs", keys))
    assert overwritten(world, "jobs", here) == 0
    assert (
        world.rows("select distinct status from jobs where status not in ('completed', 'failed')")
        == []
    )
    assert overwritten(world, "looped_jobs", there) > 0


def race(world: World, table: str, count: int, sweep: Callable[[], None]) -> set[int]:
    """Workers finish tasks, and `sweep` starts when a thousand are done. Returns the tasks that
    they finished as theirs."""
    left: SimpleQueue[int] = SimpleQueue()
    for key in range(count, 0, -1):
        left.put(key)
    finished: set[int] = set()
    enough = threading.Event()

    def work() -> None:
        with psycopg.connect(world.dsn, autocommit=True) as connection:
            while True:
                try:
                    key = left.get_nowait()
                except Empty:
                    return
                if finish(connection, table, key):
                    finished.add(key)
                if len(finished) >= RACES:
                    enough.set()

    workers = [threading.Thread(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    assert enough.wait(60)
    sweep()
    for worker in workers:
        worker.join()
    assert len(finished) >= RACES
    return finished


def test_a_row_that_somebody_holds_is_left_to_them(world: World) -> None:
    stuck(world, "jobs", 2)
    with psycopg.connect(world.dsn) as holder:
        holder.execute("update jobs set status = 'completed' where id = 1")
        assert world.fix().json["fixed"] == ["2"]
        holder.commit()
    assert world.rows("select status from jobs order by id") == [("completed",), ("failed",)]


def test_a_row_that_was_beaten_after_the_look_is_alive(world: World) -> None:
    stuck(world, "jobs", 2)
    with connect(world.dsn) as connection:
        inferred = infer_table(connection, "jobs")
        assert find_stuck(connection, inferred, Limits())[1] == 2
        world.run("update jobs set updated_at = now() where id = 1")
        assert fix(connection, inferred, Limits()).ids == ["2"]
    assert world.value("select status from jobs where id = 1") == "running"
