"""The test helper for handlers: what it says of an attempt is what the guard would have done."""

import asyncio
import os
import time
from datetime import date

import pytest

from functions.errors import Fail, LeaseLostError, PolicyError, Retry
from functions.testing import run


def draw(ctx, task_input):
    """A handler of two steps, of which the second fails at the first attempt."""
    sketch = ctx.done("sketch")
    if not sketch:
        sketch = f"sketch of {task_input['of']}"
        ctx.checkpoint("sketch", sketch)
    ctx.progress(0.5, "colours")
    if ctx.attempt == 1:
        raise ConnectionError("the shop for colours does not answer")
    return {"picture": f"{sketch}, coloured", "on": date(2026, 11, 28)}


def spin(ctx, task_input):
    while True:
        pass


def die(ctx, task_input):
    os._exit(7)


def hoard(ctx, task_input):
    held = bytearray(200_000_000)
    time.sleep(30)
    return len(held)


def test_a_second_attempt_finds_what_the_first_has_saved():
    first = run(draw, {"of": "a goose"}, attempts=2)
    assert (first.state, first.reason) == ("pending", "transient")
    assert first.checkpoints == {"sketch": "sketch of a goose"}
    second = run(draw, {"of": "a goose"}, attempt=2, checkpoints=first.checkpoints)
    assert second.state == "completed"
    assert second.result == {"picture": "sketch of a goose, coloured", "on": "2026-11-28"}


def test_the_last_attempt_fails_for_good():
    assert run(draw, {"of": "a goose"}, attempts=1).state == "failed"


def test_what_a_handler_raises_decides_as_the_guard_decides():
    def fail(ctx, task_input):
        raise Fail("Say which month.", detail="no month")

    def later(ctx, task_input):
        raise Retry("Too busy.", after=7)

    def slip(ctx, task_input):
        return task_input["month"]

    ran = run(fail)
    assert (ran.state, ran.error, ran.detail) == ("failed", "Say which month.", "no month")
    ran = run(later, attempts=3)
    assert (ran.state, ran.error, ran.retry_after) == ("pending", "Too busy.", 7)
    assert run(slip, {}, on_error="fail").state == "failed"
    assert run(slip, {}, on_error="retry", attempts=3).state == "pending"
    assert "KeyError: 'month'" in run(slip, {}).detail


def test_a_result_that_is_no_json_fails_and_names_its_key():
    ran = run(lambda ctx, task_input: {"sizes": {1, 2}})
    assert ran.state == "failed"
    assert "sizes" in ran.error + ran.detail


def test_an_async_handler_is_run_and_its_progress_is_seen():
    async def walk(ctx, task_input):
        ctx.progress(0.25, "a quarter")
        await asyncio.sleep(0.2)
        return ctx.remaining() < 9

    ran = run(walk, run_for=9)
    assert ran.result is True
    assert ran.progress == [{"fraction": 0.25, "message": "a quarter"}]


def test_a_handler_that_lost_its_lease_is_stopped_at_its_checkpoint():
    reached = []

    def work(ctx, task_input):
        ctx.checkpoint("one")
        reached.append("one")
        try:
            ctx.checkpoint("two")
        except LeaseLostError:
            reached.append("told")
            raise
        reached.append("two")

    ran = run(work, lease_lost_at="two")
    assert (ran.state, ran.result, reached) == ("running", None, ["one", "told"])
    assert ran.checkpoints == {"one": True}


@pytest.mark.parametrize(
    ("handle", "reason", "rule"),
    [
        (spin, "deadline", {"run_for": 1}),
        (die, "crashed", {}),
        (hoard, "out_of_memory", {"memory": 100_000_000}),
    ],
)
def test_in_a_process_of_its_own_it_is_ended_as_when_it_is_deployed(handle, reason, rule):
    ran = run(handle, in_process=True, on_lost="retry", attempts=2, **rule)
    assert (ran.state, ran.reason) == ("pending", reason)


def test_work_that_must_not_be_repeated_is_uncertain_after_a_crash():
    ran = run(die, in_process=True, on_lost="uncertain", attempts=3)
    assert (ran.state, ran.reason) == ("failed", "uncertain")


def test_what_cannot_be_imported_cannot_run_in_a_process_of_its_own():
    with pytest.raises(ValueError, match="Give a function of a module"):
        run(lambda ctx, task_input: 1, in_process=True)


def test_times_and_sizes_may_be_written_as_in_the_policy():
    ran = run(spin, run_for="0.3s", memory="200MB", in_process=True)
    assert ran.reason == "deadline"


@pytest.mark.parametrize(
    "rule", [{"run_for": "2 weeks"}, {"atempts": 3}, {"memory": "much"}, {"lease": "9s"}]
)
def test_a_field_that_the_policy_would_refuse_is_named(rule):
    with pytest.raises(PolicyError, match=next(iter(rule))):
        run(draw, {"of": "a goose"}, **rule)
