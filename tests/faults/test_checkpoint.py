"""What a handler has finished it need not do again: checkpoints survive whatever ended the
attempt."""

import pytest

from functions.ops.local.servers import Tick
from tests.faults.world import SWEEP, World


@pytest.mark.parametrize("dies", ["handler", "worker"])
def test_the_next_attempt_goes_on_from_the_checkpoint_of_the_one_that_crashed(
    world: World, dies: str
):
    world.worker()
    task = world.create("steps", dies=dies)
    with Tick(world.sweeper().url, SWEEP):
        world.push(task)
        done = world.ends(task)
    steps = [(attempt, word) for attempt, _, word in world.trail(task) if word in {"one", "two"}]
    assert steps == [(1, "one"), (2, "two")]
    assert done["result"] == {"one": {"by": 1}, "attempt": 2}
