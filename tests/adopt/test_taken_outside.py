"""A task that a worker outside the guard takes runs from that moment, also where the table tells no
more than since when it waits: it is not stuck because it waited for long."""

from collections.abc import Iterator

import pytest

from functions.core.states import State
from functions.ops.postgres.embedded import Postgres
from tests.adopt.test_fence import Table, table
from tests.adopt.test_put_back import SHAPES
from tests.conftest import copied

LONG_AGO, LONG, SHORT = 2 * 3600.0, 3600.0, 60.0


@pytest.fixture(scope="module", params=SHAPES)
def kept(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Table]:
    with copied(postgres, None) as dsn:
        yield from table(dsn, SHAPES[request.param], "off")


@pytest.fixture
def jobs(kept: Table) -> Table:
    kept.execute(f"truncate {kept.name}, unstuck.attempts, unstuck.observed, unstuck.operations")
    return kept


def waiting(jobs: Table) -> str:
    """The key of a task that has waited for two hours. No column will tell who takes it when."""
    key = jobs.add("waits", LONG_AGO)
    (touched,) = jobs.watch.clocks["touched"]
    jobs.update(key, f'"{touched}" = null')
    return key


def stuck(jobs: Table, key: str) -> list[bool]:
    """Whether it is stuck, by each look that there is."""
    store, watch = jobs.store, jobs.watch
    return [
        [task.task_id for task in store.preview(watch, 10)] == [key],
        store.overview(watch).overdue.count == 1,
        store.pulse(watch).stuck.count == 1,
        [task.task_id for task in store.page(watch, {"state": "stuck"}, 10).tasks] == [key],
        store.status(watch, key, heal=False).overdue,
    ]


def test_it_runs_from_the_moment_at_which_it_was_taken(jobs: Table) -> None:
    key = waiting(jobs)
    assert jobs.write(key, "renders") == 1
    assert set(stuck(jobs, key)) == {False}
    assert jobs.sweep() == {}
    jobs.age_seen(key, SHORT)
    assert set(stuck(jobs, key)) == {False}


def test_it_is_stuck_when_it_has_run_for_long(jobs: Table) -> None:
    key = waiting(jobs)
    jobs.write(key, "renders")
    jobs.age_seen(key, LONG)
    assert set(stuck(jobs, key)) == {True}
    assert jobs.sweep() == {key: "pending"}


def test_one_that_is_to_stop_while_it_waits_is_not_taken_by_that(jobs: Table) -> None:
    key = waiting(jobs)
    jobs.write(key, "quits")
    assert set(stuck(jobs, key)) == {True}
    assert jobs.sweep() == {key: "cancelled"}


def test_one_that_waited_until_it_was_to_stop_ends_at_once(jobs: Table) -> None:
    key = jobs.add("waits", SHORT)
    jobs.write(key, "quits")
    assert set(stuck(jobs, key)) == {True}
    foreseen = jobs.store.preview(jobs.watch, 10)
    assert [(task.task_id, task.was, task.state) for task in foreseen] == [
        (key, "running", "cancelled")
    ]
    assert jobs.sweep() == {key: "cancelled"}


def test_one_that_ran_when_it_was_to_stop_has_its_time(jobs: Table) -> None:
    key = jobs.add("waits", SHORT)
    jobs.write(key, "renders")
    jobs.write(key, "quits")
    assert set(stuck(jobs, key)) == {False}
    assert jobs.sweep() == {}


def test_one_that_was_to_stop_and_waits_again_is_claimed(jobs: Table) -> None:
    key = jobs.add("waits", SHORT)
    jobs.write(key, "quits")
    jobs.write(key, "waits")
    assert set(stuck(jobs, key)) == {False}
    assert jobs.claim(key)


def test_what_ran_before_the_guard_came_counts_from_what_its_columns_tell(jobs: Table) -> None:
    key = jobs.add("renders", LONG_AGO)
    assert set(stuck(jobs, key)) == {True}
    assert jobs.sweep() == {key: "pending"}


def test_what_the_trigger_saw_goes_with_the_end_of_the_task(jobs: Table) -> None:
    key = waiting(jobs)
    jobs.write(key, "renders")
    assert jobs.seen().keys() == {key}
    jobs.write(key, "there")
    assert jobs.seen() == {}


def test_a_claim_by_the_guard_leaves_no_trace_of_the_trigger(jobs: Table) -> None:
    key = waiting(jobs)
    jobs.execute("truncate unstuck.observed")
    queued = jobs.watch.clocks["queued"][0]
    jobs.update(key, f'"{queued}" = {jobs.shape.ago}', SHORT)
    token = jobs.claim(key)
    jobs.store.settle(jobs.watch, key, token, "complete")
    assert jobs.seen() == {}
    assert jobs.store.status(jobs.watch, key).state is State.COMPLETED
