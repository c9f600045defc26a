"""A world for each fault test, with a database and processes of its own; a shared one for faults
that touch one task only."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.ops.postgres.embedded import Postgres
from tests.conftest import copied
from tests.faults.world import World

Make = Callable[..., World]


BOTH = pytest.mark.parametrize("through", ["postgres", "supabase"], indirect=True)
"""For the core cases: the servers reach the database by psycopg, and by the REST API."""


@pytest.fixture
def through(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "postgres")


@pytest.fixture
def make(request: pytest.FixtureRequest, through: str, tmp_path: Path) -> Iterator[Make]:
    """Makes the world of a test; its argument may alter the policy."""
    made: list[World] = []
    stack = request.getfixturevalue("supabase") if through == "supabase" else None
    dsn = stack.dsn if stack else request.getfixturevalue("database")

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None) -> World:
        made.append(World(dsn, tmp_path, change, stack and stack.env))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make: Make) -> World:
    return make()


@pytest.fixture(scope="session")
def shared(
    postgres: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One worker and no sweep, for handlers that harm only themselves."""
    with copied(postgres, template) as dsn:
        world = World(dsn, tmp_path_factory.mktemp("shared"))
        world.worker()
        yield world
        world.close()
