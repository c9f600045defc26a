"""The verbs of the operators' page by every store, on the own table and on one that was there
before."""

import json

import pytest


@pytest.fixture(params=["tasks", "jobs"])
def lived(request, policy, store, db):
    """A watch with a task in each situation: {name: task id}."""
    watch = policy.watch(request.param)
    make = {
        "tasks": "insert into public.tasks (kind, input) values ('image', '{\"n\": 1}') "
        "returning id::text as id",
        "jobs": """insert into public."Media Jobs" ("Kind") values ('image') returning "Job"::text
            as id""",
    }[request.param]
    age = {
        "tasks": "update public.tasks set scheduled_at = now() - interval '2 d' where id = %s",
        "jobs": """update public."Media Jobs" set created_at = now() - interval '2 d'
            where "Job" = %s""",
    }[request.param]
    tasks = {
        name: db.execute(make).fetchone()["id"]
        for name in ("waits", "late", "runs", "lost", "failed", "done", "swept")
    }
    for name in ("late", "swept"):
        db.execute(age, (tasks[name],))
    held = {
        name: store.claim(watch, tasks[name], "worker-1")
        for name in ("runs", "lost", "failed", "done")
    }
    store.settle(
        watch, tasks["failed"], held["failed"].token, "fail", reason="handler_error", error="No."
    )
    store.settle(watch, tasks["done"], held["done"].token, "complete", result={"ok": 1})
    store.checkpoint(watch, tasks["runs"], held["runs"].token, "half", {"secret": 1})
    run = store.sweep_begin(None, "test", 30.0).sweep_id
    store.sweep(watch, 1, sweep_id=run, task_id=tasks["swept"])
    store.sweep_end(run, ok=True, counts={"failed": 1})
    lose = (
        "update unstuck.attempts set lease_until = now() - interval '1 min' where task_id = %s "
        "and ended_at is null"
    )
    db.execute(lose, (tasks["lost"],))
    return watch, tasks | {"run": run}


def shown(store, watch, **filters):
    return [task.task_id for task in store.page(watch, filters, 50).tasks]


def test_the_list_has_the_stuck_first_then_running_pending_and_ended(store, lived):
    watch, tasks = lived
    listed = shown(store, watch)
    assert set(listed[:2]) == {tasks["late"], tasks["lost"]}
    assert listed[2:4] == [tasks["runs"], tasks["waits"]]
    assert set(listed[4:]) == {tasks["failed"], tasks["done"], tasks["swept"]}
    assert shown(store, watch, state="stuck") == listed[:2]


FILTERS = [
    ({"state": "running"}, {"runs", "lost"}),
    ({"state": "pending"}, {"waits", "late"}),
    ({"state": "failed"}, {"failed", "swept"}),
    ({"state": "completed"}, {"done"}),
    ({"state": "open", "kind": "image"}, {"runs", "lost", "waits", "late"}),
    ({"state": "resting"}, set()),
    ({"state": "elsewhere"}, set()),
    ({"reason": "never_claimed"}, {"swept"}),
    ({"kind": "none"}, set()),
]


@pytest.mark.parametrize(
    ("filters", "names"), FILTERS, ids=[json.dumps(filters) for filters, _ in FILTERS]
)
def test_a_filter_holds(store, lived, filters, names):
    watch, tasks = lived
    assert set(shown(store, watch, **filters)) == {tasks[name] for name in names}


def test_pages_go_on_where_the_last_one_ended(store, lived):
    watch, _ = lived
    seen, after = [], None
    while True:
        page = store.page(watch, {}, 2, after)
        seen += [task.task_id for task in page.tasks]
        after = page.next
        if after is None:
            break
    assert seen == shown(store, watch)


def test_a_key_finds_its_task(store, lived):
    watch, tasks = lived
    assert shown(store, watch, first=tasks["runs"], last=tasks["runs"]) == [tasks["runs"]]


def test_the_summary_counts_stuck_and_open_ones(store, lived):
    watch, tasks = lived
    summary = store.pulse(watch)
    assert summary.stuck.count == 2
    counts = {(tasks_of_kind.state, tasks_of_kind.count) for tasks_of_kind in summary.open}
    assert counts == {("running", 2), ("pending", 2)}
    assert summary.last_sweep.id == tasks["run"]
    assert 0 <= summary.last_good < 60


def test_the_day_and_the_sweeps_tell_what_was_done(store, lived):
    watch, tasks = lived
    assert sum(half_hour.failed for half_hour in store.day(watch).ended) == 2
    (run,) = store.sweeps(10)
    assert (run.id, run.ok, run.counts["failed"]) == (tasks["run"], True, 1)
    (swept,) = store.swept(watch, tasks["run"], 10)
    assert (swept.task_id, swept.outcome, swept.undo) == (tasks["swept"], "failed", True)
    assert store.swept(watch, tasks["run"], 10, swept.task_id) == []
    store.operate(watch, "retry", [tasks["swept"]])
    assert store.swept(watch, tasks["run"], 10, undoable=True) == []


def test_the_timeline_has_the_times_and_the_payload_the_data(store, lived):
    watch, tasks = lived
    timeline = store.timeline(watch, tasks["runs"])
    (attempt,) = timeline.attempts
    assert attempt.started <= attempt.checkpoints["half"] <= timeline.now < attempt.lease_until
    assert timeline.created <= attempt.started
    assert "half" not in repr(store.page(watch, {}, 50))
    assert store.payload(watch, tasks["runs"]).checkpoints == {"half": {"secret": 1}}
    assert store.timeline(watch, tasks["waits"]).attempts == []
