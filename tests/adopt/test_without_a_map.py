"""Real tables, adopted without a --map file: where `adopt` accepts a table, a task of it comes from
its claim to each end and back, and no other column of the row is touched."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from functions.core.policy import parse
from functions.core.record import replace
from functions.core.states import State
from functions.errors import PolicyError
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.session import connect
from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import HEAD, Adopted
from tests.ops.inspect.corpus import Real, insert, load, needs_corpus, tables

pytestmark = needs_corpus
STATES = ("pending", "running", "completed", "failed", "cancelled", "resting")


def lived_in(dsn: str, real: Real) -> None:
    """Loads the table with two rows of each of its words, as its application leaves them."""
    load(dsn, real)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set time zone 'UTC'")
        for state in STATES:
            for word in real.words[state] * 2:
                insert(connection, real, word, "1 minute", state)


ALL = [real for real in tables() if real.description["status"]["column"]]


@pytest.fixture(scope="module", params=ALL, ids=lambda real: real.name)
def unmapped(
    request: pytest.FixtureRequest, postgres: Postgres
) -> Iterator[tuple[Adopted, Inferred]]:
    real, name = request.param, f"unmapped_{request.param.name[:2]}"
    create_database(postgres.dsn(), name)
    dsn = postgres.dsn(name)
    lived_in(dsn, real)
    with connect(dsn) as connection:
        inferred = check.infer_table(connection, real.table)
    try:
        watches = adopt.watch(inferred)
    except PolicyError as refused:
        drop_database(postgres.dsn(), name)
        pytest.skip(str(refused))
    policy = parse(HEAD + adopt.text(watches))
    migrate(dsn, policy)
    store = PostgresStore(dsn)
    yield Adopted(dsn, real, policy, store), inferred
    store.close()
    drop_database(postgres.dsn(), name)


def row_of(adopted: Adopted, key: str) -> dict[str, Any]:
    watch = adopted.watch
    query = f'select to_jsonb(t) from {watch.table} t where t."{watch.key}"::text = %s'
    with psycopg.connect(adopted.dsn, autocommit=True) as connection:
        return connection.execute(query.encode(), (key,)).fetchone()[0]


def state_of(adopted: Adopted, key: str) -> str:
    found = adopted.store.status(adopted.watch, key)
    return str(found.state)


def written_columns(adopted: Adopted) -> set[str]:
    """The columns that the watch names, which its moves may write."""
    watch = adopted.watch
    names = {watch.status, *watch.columns.values(), *watch.marks.values()}
    names -= {watch.columns.get(role) for role in ("kind", "input", "owner")}
    clocks = ("due", "started", "touched", "finished")
    names |= {name for clock in clocks for name in watch.clocks.get(clock, ())}
    return names | {name for columns in watch.also.values() for name in columns}


def failures_of(sweep_id: int) -> dict[str, Any]:
    """The filter of `undo`."""
    return {"states": ["failed"], "sweep_id": sweep_id}


def test_a_task_comes_to_each_end_and_back(unmapped: tuple[Adopted, Inferred]) -> None:
    adopted, _ = unmapped
    store, watch = adopted.store, adopted.watch
    if not watch.may_wait or not watch.words[State.COMPLETED]:
        pytest.skip("its rows do not wait, or do not complete")
    done, lost, put_off, undone = (adopted.row("pending") for _ in range(4))
    before = {key: row_of(adopted, key) for key in (done, lost, put_off, undone)}

    claimed = store.claim(watch, done, "w")
    assert claimed.verdict == "claimed"
    settled = store.settle(watch, done, claimed.token, "complete", result={"ok": True})
    assert (settled.state, state_of(adopted, done)) == ("completed", "completed")

    assert store.claim(watch, lost, "w").verdict == "claimed"
    adopted.expire(lost)
    swept = store.sweep(watch, 500)
    assert swept.unsweepable == []
    expected = "pending" if watch.rule("*").attempts > 1 else "failed"
    assert {task.task_id: task.state for task in swept.rescued}[lost] == expected

    claimed = store.claim(watch, put_off, "w")
    assert (
        store.settle(
            watch, put_off, claimed.token, "fail", reason="handler_error", error="No."
        ).state
        == "failed"
    )
    moved = store.operate(watch, "retry", [put_off])
    assert state_of(adopted, put_off) == "pending", moved
    assert store.claim(watch, put_off, "w").verdict == "claimed"
    if watch.words[State.CANCELLED]:
        store.cancel(watch, put_off)

    careful = replace(watch, rules={"*": replace(watch.rule("*"), on_lost="fail")})
    assert store.claim(careful, undone, "w").verdict == "claimed"
    adopted.expire(undone)
    sweep_id = store.sweep_begin(None, "test", 60).sweep_id
    assert store.sweep(careful, 500, sweep_id=sweep_id).unsweepable == []
    assert state_of(adopted, undone) == "failed"
    failed = [task.task_id for task in store.find(watch, failures_of(sweep_id), 500)]
    assert failed == [undone]
    assert store.operate(watch, "retry", failed) == [undone]
    assert state_of(adopted, undone) == "pending"
    assert store.claim(watch, undone, "w").verdict == "claimed"

    others = before[done].keys() - written_columns(adopted)
    for key, old in before.items():
        new = row_of(adopted, key)
        touched = {name: (old[name], new[name]) for name in others if old[name] != new[name]}
        assert touched == {}
