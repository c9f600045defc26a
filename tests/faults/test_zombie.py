"""A zombie: a worker that stands still until its task was rescued, and then goes on as if nothing
had happened."""

import psycopg

from functions.ops.local.servers import Tick
from tests.faults.conftest import BOTH, Make
from tests.faults.world import SWEEP, World, family, frozen, lives, loading
from tests.waiting import eventually


def test_a_zombie_cannot_overwrite_the_result_of_the_second_attempt(world: World):
    """The whole instance stands still: guard, forkserver and handler."""
    zombie = world.worker("zombie")
    world.worker()
    with Tick(world.sweeper().url, SWEEP):
        task = world.begin("waits", zombie)
        with frozen(*family(zombie)):
            kept = world.ends(task)
            world.gate(task).touch()
        eventually(lambda: world.events("lease_lost", task), message="the zombie was not told")
    assert kept["result"] == {"attempt": 2}
    assert world.task(task) == kept
    assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]
    eventually(lambda: not lives(world.handler(task)), message="the zombie's handler goes on")


@BOTH
def test_the_late_result_of_a_zombie_is_refused_while_the_second_attempt_is_at_work(world: World):
    """Only the guard stands still: its handler finishes, and the result waits in the pipe."""
    zombie = world.worker("zombie")
    world.worker()
    with Tick(world.sweeper().url, SWEEP):
        gate2 = world.folder / "gate2"
        task = world.begin("waits", zombie, gate2=str(gate2))
        with frozen(*zombie.workers()):
            world.gate(task).touch()
            eventually(
                lambda: not lives(world.handler(task)), message="the first handler did not finish"
            )
            eventually(lambda: len(world.attempts(task)) == 2, message="the task was not rescued")
        (lost,) = eventually(
            lambda: world.events("lease_lost", task), message="the zombie was not told"
        )
        assert world.task(task)["status"] == "processing"
        gate2.touch()
        kept = world.ends(task)
    assert kept["result"] == {"attempt": 2}
    assert world.history(task) == [("retried", "lease_lost"), ("completed", None)]
    refusals = [(one["source"], one["wanted"], one["because"]) for one in world.refusals(task)]
    assert refusals == [("verb", lost["wanted"], "retried")]
    assert lost["wanted"] in {"complete", "beat"}, (
        "beat only if it was stopped in the middle of one"
    )


def test_a_result_that_comes_in_the_moment_of_the_rescue_is_refused(world: World):
    """The settle waits at the lock of the attempt, which is ended under it."""
    task = world.begin("waits")
    with psycopg.connect(world.dsn) as rescuer:
        rescuer.execute("select from unstuck.attempts where task_id = %s for update", (task,))
        world.gate(task).touch()
        eventually(
            lambda: world.one("select count(*) from pg_locks where not granted"),
            message="no settle waits",
        )
        eventually(lambda: not lives(world.handler(task)), message="the handler did not finish")
        rescuer.execute(
            "update unstuck.attempts set ended_at = clock_timestamp(), outcome = 'retried', "
            "reason = 'lease_lost',"
            " sweep_id = 0 where task_id = %s",
            (task,),
        )
        rescuer.execute(
            "update tasks set status = 'pending', scheduled_at = clock_timestamp() where id = %s",
            (task,),
        )
    eventually(lambda: world.events("lease_lost", task), message="the guard was not told")
    assert world.task(task)["status"] == "pending"
    assert world.task(task)["result"] is None
    assert world.push(task).result(30).json()["state"] == "completed"
    assert world.task(task)["result"] == {"attempt": 2}


def test_a_handler_does_not_begin_when_its_attempt_was_ended_before(make: Make):
    """The worker stands still between the claim and the handler's first step."""
    world = make(loading)
    gate = world.folder / "import"
    worker = world.worker(IMPORT_GATE=str(gate))
    task = world.create("loading_mail")
    answer = world.push(task)
    eventually(lambda: world.attempts(task))
    with Tick(world.sweeper().url, SWEEP), frozen(*family(worker)):
        world.ends(task, "failed")
        gate.touch()
        world.gate(task).touch()
    assert answer.result(20).json()["verdict"] == "lost"
    assert world.trail(task) == []
    assert world.history(task) == [("failed", "uncertain")]


def test_a_short_freeze_costs_nothing(make: Make):
    """Shorter than the lease: the sweep finds nothing overdue, and the worker beats again."""
    world = make(lambda policy: policy["lease"].update({"for": "5s"}))
    worker, _ = world.worker(), world.sweeper()
    task = world.begin("waits")
    with frozen(*family(worker)):
        assert world.swept()["requeued"] == 0
        beats = world.attempts(task)[0]["beats"]
    eventually(lambda: world.attempts(task)[0]["beats"] > beats, message="it does not beat again")
    world.gate(task).touch()
    world.ends(task)
    assert world.history(task) == [("completed", None)]
