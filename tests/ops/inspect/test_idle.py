"""What a look costs when nothing is stuck: with the index that it recommends, no more on a large
table than on a small one."""

import re

import psycopg
import pytest

from functions.ops.inspect import catalogue, indexes, stuck
from functions.ops.inspect.check import infer_table
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import Limits, open_states
from functions.ops.inspect.session import connect
from tests.ops.inspect.world import World, jobs

SMALL, LARGE, OPEN = 2_000, 200_000, 100

CLOSED = jobs(
    "updated_at timestamptz not null default now()", "payload text default repeat('x', 100)"
)
FREE = (
    "create table jobs (id bigserial primary key, status text not null default 'pending', "
    "payload text default repeat('x', 100), "
    "created_at timestamptz default now(), updated_at timestamptz default now())"
)


def fill(world: World, ddl: str, rows: int) -> None:
    """Finished tasks, and a hundred healthy open ones."""
    world.run(
        "drop table if exists jobs",
        ddl,
        f"insert into jobs (status, created_at, updated_at) select 'completed', "
        "now() - interval '1 s' * n, now() - interval '1 s' * n "
        f"from generate_series(1, {rows}) n",
        f"insert into jobs (status) select case n % 2 when 0 then 'pending' else 'running' end "
        f"from generate_series(1, {OPEN}) n",
    )


def buffers(world: World, inferred: Inferred) -> int:
    """Pages that all statements of a look touch, but for the catalogue's own."""
    statements = [
        sql
        for test in open_states(inferred, Limits())
        for sql in (stuck.query(test), stuck.count(test))
    ]
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        pages = 0
        for statement in statements:
            plan = connection.execute(
                b"explain (analyze, buffers, costs off) " + statement
            ).fetchall()
            assert not any("Seq Scan on jobs" in row[0] for row in plan), plan
            first = next((row[0] for row in plan if "Buffers:" in row[0]), "")
            pages += sum(int(line) for line in re.findall(r"(?:hit|read)=(\d+)", first))
    return pages


@pytest.mark.parametrize("ddl", [CLOSED, FREE], ids=["closed list", "free text"])
def test_with_the_recommended_index_an_idle_look_reads_the_same_pages(
    ddl: str, world: World
) -> None:
    cost = {}
    for rows in (SMALL, LARGE):
        fill(world, ddl, rows)
        with connect(world.dsn) as connection:
            inferred = infer_table(connection, "jobs")
            assert not indexes.covered(inferred)
            world.run(
                *(
                    statement.replace("concurrently ", "")
                    for statement in indexes.recommended(inferred)
                ),
                "vacuum analyze jobs",
            )
            inferred = infer_table(connection, "jobs")
            assert indexes.covered(inferred)
            assert stuck.find_stuck(connection, inferred, Limits()) == ([], 0, OPEN, 0)
        cost[rows] = buffers(world, inferred)
    assert cost[LARGE] <= 2 * cost[SMALL], cost


def test_the_words_of_a_large_table_are_read_without_reading_the_table(world: World) -> None:
    fill(world, FREE, LARGE)
    world.run("create index on jobs (status)", "vacuum analyze jobs")
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        table = catalogue.facts(connection, catalogue.table_oid(connection, "jobs"))
        assert catalogue.occurring(connection, table, "status") == (
            "completed",
            "pending",
            "running",
        )
        names = {"column": "status", "table": "jobs", "most": "51"}
        plan = connection.execute(
            b"explain (analyze, buffers, costs off) " + catalogue.sql_of("loose", names)
        ).fetchall()
        assert not any("Seq Scan on jobs" in row[0] for row in plan)
        world.run("drop index jobs_status_idx")
        table = catalogue.facts(connection, table.oid)
        assert "completed" in (catalogue.occurring(connection, table, "status") or ()), (
            "by what ANALYZE saw"
        )
