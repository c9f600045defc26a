"""The verbs of the operators' page by every store, on the own table and on one that was there
before."""

import json

import pytest


@pytest.fixture(params=["tasks", "jobs"])
def lived(request, policy, store, db):
    """A watch with a task in each situation: {name: task id}."""
    watch = policy.watch(request.param)
    make = {
        "tasks": "insert into public.tasks (kind, input) values ('image', '{\"n\": 1}') returning id::text as id",
        "jobs": """insert into public."Media Jobs" ("Kind") values ('image') returning "Job"::text as id""",
    }[request.param]
    age = {
        "tasks": "update public.tasks set scheduled_at = now() - interval '2 d' where id = %s",
        "jobs": """update public."Media Jobs" set created_at = now() - interval '2 d' where "Job" = %s""",
    }[request.param]
    made = {
        name: db.execute(make).fetchone()["id"]
        for name in ("waits", "late", "runs", "lost", "failed", "done", "swept")
    }
    for name in ("late", "swept"):
        db.execute(age, (made[name],))
    held = {
        name: store.claim(watch, made[name], "worker-1")
        for name in ("runs", "lost", "failed", "done")
    }
    store.settle(
        watch, made["failed"], held["failed"]["token"], "fail", reason="handler_error", error="No."
    )
    store.settle(watch, made["done"], held["done"]["token"], "complete", result={"ok": 1})
    store.checkpoint(watch, made["runs"], held["runs"]["token"], "half", {"secret": 1})
    run = store.sweep_begin(None, "test", 30.0)["sweep_id"]
    store.sweep(watch, 1, sweep_id=run, task_id=made["swept"])
    store.sweep_end(run, ok=True, counts={"failed": 1})
    lose = "update unstuck.attempts set lease_until = now() - interval '1 min' where task_id = %s and ended_at is null"
    db.execute(lose, (made["lost"],))
    return watch, made | {"run": run}


def shown(store, watch, **wanted):
    return [one["task_id"] for one in store.page(watch, wanted, 50)["tasks"]]


def test_the_list_has_the_stuck_first_then_running_pending_and_ended(store, lived):
    watch, made = lived
    found = shown(store, watch)
    assert set(found[:2]) == {made["late"], made["lost"]}
    assert found[2:4] == [made["runs"], made["waits"]]
    assert set(found[4:]) == {made["failed"], made["done"], made["swept"]}
    assert shown(store, watch, state="stuck") == found[:2]


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
    ("wanted", "names"), FILTERS, ids=[json.dumps(wanted) for wanted, _ in FILTERS]
)
def test_a_filter_holds(store, lived, wanted, names):
    watch, made = lived
    assert set(shown(store, watch, **wanted)) == {made[name] for name in names}


def test_pages_go_on_where_the_last_one_ended(store, lived):
    watch, _ = lived
    seen, after = [], None
    while True:
        page = store.page(watch, {}, 2, after)
        seen += [one["task_id"] for one in page["tasks"]]
        after = page["next"]
        if after is None:
            break
    assert seen == shown(store, watch)


def test_a_key_finds_its_task(store, lived):
    watch, made = lived
    assert shown(store, watch, first=made["runs"], last=made["runs"]) == [made["runs"]]


def test_the_pulse_counts_stuck_and_open_ones(store, lived):
    watch, made = lived
    pulse = store.pulse(watch)
    assert pulse["stuck"]["count"] == 2
    assert {(one["state"], one["count"]) for one in pulse["open"]} == {
        ("running", 2),
        ("pending", 2),
    }
    assert pulse["last_sweep"]["id"] == made["run"]
    assert 0 <= pulse["last_good"] < 60


def test_the_day_and_the_sweeps_tell_what_was_done(store, lived):
    watch, made = lived
    day = store.day(watch)
    assert sum(one["failed"] for one in day["ended"]) == 2
    (run,) = store.sweeps(10)
    assert (run["id"], run["ok"], run["counts"]["failed"]) == (made["run"], True, 1)
    (did,) = store.swept(watch, made["run"], 10)
    assert (did["task_id"], did["outcome"], did["undo"]) == (made["swept"], "failed", True)
    assert store.swept(watch, made["run"], 10, did["task_id"]) == []
    store.operate(watch, "retry", [made["swept"]])
    assert store.swept(watch, made["run"], 10, undoable=True) == []


def test_the_timeline_has_the_times_and_the_payload_the_data(store, lived):
    watch, made = lived
    found = store.timeline(watch, made["runs"])
    (attempt,) = found["attempts"]
    assert (
        attempt["started"]
        <= attempt["checkpoints"]["half"]
        <= found["now"]
        < attempt["lease_until"]
    )
    assert found["created"] <= attempt["started"]
    assert "half" not in json.dumps(store.page(watch, {}, 50))
    assert store.payload(watch, made["runs"])["checkpoints"] == {"half": {"secret": 1}}
    assert store.timeline(watch, made["waits"])["attempts"] == []
