"""The guard's verbs on 49 real tables: keys, words, types and rules as their authors made them."""

import pytest

from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from tests.adopt.adopted import Adopted, adopted
from tests.ops.inspect.corpus import needs_corpus, tables

ALL = [real for real in tables() if real.adoptable]
pytestmark = needs_corpus


@pytest.fixture(scope="module", params=ALL, ids=[real.name for real in ALL])
def task_table(request: pytest.FixtureRequest, postgres: Postgres):
    """One database for each table, made once: installing is most of the time."""
    name = f"adopt_{request.param.name[:2]}"
    create_database(postgres.dsn(), name)
    adopted_table = adopted(postgres.dsn(name), request.param)
    yield adopted_table
    adopted_table.store.close()
    drop_database(postgres.dsn(), name)


def test_every_verb_works_on_it(task_table: Adopted) -> None:
    store, watch = task_table.store, task_table.watch
    if not watch.may_wait:
        pytest.skip("its rows are born running: tested in test_flags.py")
    done, failed, lost, twice = (task_table.row("pending") for _ in range(4))

    claimed = store.claim(watch, done, "w")
    assert claimed.verdict == "claimed"
    assert task_table.means(done, "running")
    assert store.beat(watch, done, claimed.token).verdict == "held"
    assert (
        store.settle(watch, done, claimed.token, "complete", result={"ok": True}).state
        == "completed"
    )
    assert task_table.means(done, "completed")

    claimed = store.claim(watch, failed, "w")
    assert (
        store.settle(
            watch, failed, claimed.token, "fail", reason="handler_error", error="No."
        ).state
        == "failed"
    )
    assert task_table.means(failed, "failed")
    assert store.status(watch, failed).error

    zombie = store.claim(watch, lost, "w")
    task_table.expire(lost)
    assert [task.state for task in store.sweep(watch, 500).rescued] == ["pending"]
    assert task_table.means(lost, "pending")
    assert store.settle(watch, lost, zombie.token, "complete", result={}).verdict == "lost"
    assert task_table.means(lost, "pending")

    claimed = store.claim(watch, twice, "w")
    again = store.settle(watch, twice, claimed.token, "retry", reason="transient", after=3600.0)
    assert again.state == "pending"
    assert store.claim(watch, twice, "w").verdict == "early"
    assert store.overview(watch).open
    assert {task.task_id for task in store.find(watch, {}, 500)} == {lost, twice}

    listed = {task.task_id: task.state for task in store.page(watch, {}, 50).tasks}
    assert listed == {lost: "pending", twice: "pending", done: "completed", failed: "failed"}
    assert store.pulse(watch).stuck.count == 0
    assert len(store.timeline(watch, lost).attempts) == 1
    assert vars(store.payload(watch, done)).keys() == {"input", "result", "checkpoints"}
    assert sum(half_hour.completed for half_hour in store.day(watch).ended) == 1


def test_the_sweep_ends_what_is_stuck_and_leaves_the_rest(task_table: Adopted) -> None:
    store, watch = task_table.store, task_table.watch
    if watch.fence == "observe":
        pytest.skip("no clock of its own: tested in test_observe.py")
    opened = [state for state in ("pending", "running") if task_table.real.words[state]]
    stuck = {task_table.row(state, "2 days") for state in opened}
    fine = [task_table.row(state) for state in opened]
    fine += [
        task_table.row(state, "3 hours")
        for state in ("completed", "failed", "resting")
        if task_table.real.words[state]
    ]
    before = {key: task_table.word(key) for key in fine}

    answer = store.sweep(watch, 500)

    assert answer.unsweepable == []
    assert {task.task_id for task in answer.rescued} == stuck
    assert {key: task_table.word(key) for key in fine} == before
