"""A worker that pulls from an adopted table takes the most urgent task, and doctor names the
indexes with which it does not walk past all others."""

from typing import Any

import psycopg
import pytest

from functions.ops.inspect import check, indexes
from functions.ops.inspect.session import connect
from functions.store.postgres import PostgresStore
from tests.ops.doctor.test_doctor import HEAD, World, world

__all__ = ["world"]  # a fixture

COLUMNS = "columns: {error: error}"
URGENT = HEAD.replace(COLUMNS, "columns: {error: error, kind: kind, priority: urgency}")
LOWEST = URGENT.replace("    clocks:", "    urgent: lowest\n    clocks:")
WAITING = 2_000


def jobs(world: World, head: str) -> World:
    return world.jobs(head=head, kind="text", urgency="integer")


def claims(world: World, count: int, kinds: list[str] | None = None) -> list[Any]:
    store = PostgresStore(world.dsn)
    try:
        return [store.claim(world.policy.watch(), None, "w", kinds) for _ in range(count)]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("head", "order"), [(URGENT, ["9", "1", "none", "-3"]), (LOWEST, ["-3", "none", "1", "9"])]
)
def test_the_most_urgent_is_claimed_first_and_one_without_a_priority_has_0(world, head, order):
    jobs(world, head).run(
        "delete from jobs",
        "insert into jobs (kind, urgency) values ('none', null), ('1', 1), ('9', 9), ('-3', -3)",
    )
    assert [answer.kind for answer in claims(world, 4)] == order


@pytest.mark.parametrize("head", [URGENT, LOWEST])
def test_the_indexes_of_claims_are_named_and_then_no_claim_walks_past_the_others(world, head):
    jobs(world, head).run(
        "delete from jobs",
        f"insert into jobs (kind, urgency) select 'other', 5 from generate_series(1, {WAITING})",
        "insert into jobs (kind) values ('mine')",
    )
    facts = {finding.fact: finding.do for finding in world.findings("index", "warns")}
    named = [fact for fact in facts if "most urgent" in fact or "of a kind" in fact]
    assert len(named) == 2
    world.run(*facts.values(), "vacuum analyze jobs")
    assert world.findings("index", "warns") == []

    (before,) = rows_read(world)
    assert claims(world, 1, ["mine"])[0].kind == "mine"
    assert claims(world, 2)[0].kind == "other"
    (after,) = rows_read(world)
    assert after - before < 100


@pytest.mark.parametrize(
    ("owner", "columns"),
    [("uuid", ""), ("integer", ", kind: kind"), ("text", ", kind: kind, priority: urgency")],
)
def test_the_index_of_the_turns_is_named_until_it_serves(world, columns, owner):
    head = HEAD.replace(COLUMNS, f"columns: {{error: error, owner: customer{columns}}}")
    head = head.replace("    rules:", f"    types: {{customer: {owner}}}\n    rules:")
    world.jobs(head=head, kind="text", urgency="integer", customer=owner)

    def named() -> list[str]:
        return [f.do for f in world.findings("index", "warns") if "whose turn" in f.fact]

    (statement,) = named()
    world.run('create index "jobs_rotation" on jobs (customer)')
    (again,) = named()
    assert again == f'drop index "public"."jobs_rotation";\n{statement}'
    world.run(*again.splitlines())
    assert named() == []
    claims(world, 1)
    owners = world.rows("select owner from unstuck.rotations")
    assert owners == [("",)]


def rows_read(world: World) -> tuple[int]:
    query = "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'jobs'"
    with psycopg.connect(world.dsn) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row


def test_the_indexes_that_check_names_are_those_that_doctor_asks_for(world: World) -> None:
    world.jobs()
    with connect(world.dsn) as connection:
        statements = indexes.recommended(check.infer_table(connection, "public.jobs"))
    world.run(*statements)
    assert world.findings("index", "warns") == []
