"""A handler over its memory is ended before the platform ends the whole instance without a word."""

import pytest

from tests.faults.world import MEMORY, World


@pytest.mark.parametrize(
    ("kind", "pause"),
    [("grows", 0.02), ("grows", 0), ("jumps", 0)],
    ids=["slowly", "fast", "in_one_jump"],
)
def test_a_handler_over_its_memory_is_ended_and_its_worker_lives(
    shared: World, kind: str, pause: float
):
    workers = shared.worker().workers()
    neighbour = shared.begin("waits")
    task, answer = shared.run(f"greedy_{kind}", pause=pause)
    assert answer.status_code == 200
    assert shared.history(task) == [("failed", "out_of_memory")]
    assert shared.task(task)["error_message"] == "The work needed more memory than it may use."
    print(f"figure: {kind}: {shared.attempts(task)[0]['detail'][:100]!r} of {MEMORY}")

    shared.gate(neighbour).touch()
    shared.ends(neighbour)
    assert shared.history(neighbour) == [("completed", None)]
    assert shared.worker().workers() == workers
