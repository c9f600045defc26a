"""A small slice of `make chaos`. The same through PgBouncer and the REST API, with more tasks:
`make chaos ARGS="--through pgbouncer"`, `"--through supabase"`; `--red` plays what was red once."""

import pytest

from tests.chaos.run import Run
from tests.chaos.world import World

SEED, TASKS, SECONDS_EACH = 1, 80, 0.1


@pytest.mark.timeout(300)
def test_in_bad_weather_every_task_reaches_one_end_with_a_reason():
    with World() as world:
        figures = Run(world, SEED, TASKS, SECONDS_EACH).go()
    print(f"figure: {figures}")
    assert figures["tasks"] + figures["not_created"] >= TASKS
    assert sum(figures["faults"].values()) >= 10
    assert not any(figures["violations"].values()), figures["examples"]
