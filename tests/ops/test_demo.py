"""What the demo counts of the order of starts can come out wrong, or it would show nothing."""

import psycopg
import pytest

from functions.ops.demo import LIMITED, PAUSED, POLICY, audit
from functions.ops.demo.scenes import all_scenes, lost_scenes, paused_scenes


@pytest.fixture
def connection(database):
    with psycopg.connect(database, autocommit=True) as connection:
        audit.install(connection)
        yield connection


def created(connection, kind, priority=0):
    query = "insert into public.tasks (kind, priority) values (%s, %s) returning id"
    return connection.execute(query, (kind, priority)).fetchone()[0]


def become(connection, status, *tasks):
    for task in tasks:
        query = "update public.tasks set status = %s where id = %s"
        connection.execute(query, (status, task))


def test_it_counts_how_many_of_a_kind_ran_at_once_at_most(connection):
    panels = [created(connection, LIMITED) for _ in range(4)]
    become(connection, "processing", *panels[:3], created(connection, PAUSED))
    become(connection, "completed", *panels[:3])
    become(connection, "processing", panels[3])
    assert audit.count(connection, audit.MOST_AT_ONCE, LIMITED) == 3


def test_it_tells_an_urgent_task_that_was_not_the_first(connection):
    usual, urgent = created(connection, PAUSED), created(connection, PAUSED, priority=100)
    become(connection, "processing", created(connection, LIMITED), usual)
    assert audit.count(connection, audit.PLACE_OF_URGENT, PAUSED) == 0
    become(connection, "processing", urgent)
    assert audit.count(connection, audit.PLACE_OF_URGENT, PAUSED) == 2


def test_it_counts_what_started_and_what_waits(connection):
    become(connection, "processing", created(connection, PAUSED))
    created(connection, PAUSED)
    created(connection, LIMITED)
    assert audit.count(connection, audit.STARTED, PAUSED) == 1
    assert audit.count(connection, audit.WAITING, PAUSED) == 1


def test_the_readme_knows_how_many_tasks_there_are():
    count = len([*lost_scenes(), *paused_scenes(), *all_scenes()])
    readme = (POLICY.parents[3] / "README.md").read_text(encoding="utf-8")
    assert f"make demo    # {count} tasks" in readme
