"""A small slice of `make chaos`, and the seeds that were red once."""

import pytest

from tests.chaos.run import Run
from tests.chaos.world import World
from tests.conftest import postgrest_binary
from tests.store.pooler import program

TASKS, SECONDS_EACH = 150, 0.08
NEEDS = {"postgres": lambda: None, "pgbouncer": program, "supabase": postgrest_binary}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("through", "seed"), [("postgres", 1), ("pgbouncer", 2), ("supabase", 3)])
def test_in_bad_weather_every_task_reaches_one_end_with_a_reason(through: str, seed: int):
    NEEDS[through]()
    with World(through) as world:
        figures = Run(world, seed, TASKS, SECONDS_EACH).go()
    print(f"figure: {figures}")
    assert figures["tasks"] >= TASKS
    assert sum(figures["faults"].values()) >= 10
    assert not any(figures["violations"].values()), figures["examples"]
