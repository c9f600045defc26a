"""What a handler has finished it need not do again: checkpoints survive whatever ended the
attempt."""

import psycopg
import pytest

from functions.ops.local.servers import Tick
from functions.worker.guard import BEAT_TIMEOUT_SECONDS
from tests.faults.world import SWEEP, World
from tests.waiting import eventually


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


def test_a_checkpoint_waits_for_the_database_longer_than_one_call_may_take(world: World):
    task = world.begin("mail_saves_late")
    with psycopg.connect(world.dsn) as somebody:
        somebody.execute("select from unstuck.attempts where task_id = %s for update", (task,))
        world.gate(task).touch()
        eventually(
            lambda: len(world.events("beat_failed", task)) > 1,  # the first may be of a heartbeat
            2 * BEAT_TIMEOUT_SECONDS + 5,
            "the guard waits for its first call",
        )
        assert [word for _, _, word in world.trail(task)] == ["began", "ended"]
    world.ends(task)
    assert world.history(task) == [("completed", None)]
    assert world.trail(task)[-1][2] == "saved"


def test_data_that_cannot_be_stored_is_an_error_of_the_handlers_own_line(shared: World):
    task, _ = shared.run("saves_nul")
    assert [word for _, _, word in shared.trail(task)] == ["began", "refused"]
    assert shared.history(task) == [("completed", None)]
    saved = shared.rows("select name, data from unstuck.checkpoints where task_id = %s", task)
    assert saved == [{"name": "two", "data": 2}]
