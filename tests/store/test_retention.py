"""Retention of ended tasks: the result first, the row later, by kind and by how they ended."""

import pytest

from functions.core.policy import Watch
from functions.core.record import replace
from tests.store.steps import claimed, created, one, settled

DAY = 86400.0


@pytest.fixture
def tidy(tasks: Watch) -> Watch:
    star = replace(
        tasks.rule("*"),
        retention_result=7 * DAY,
        retention_completed=30 * DAY,
        retention_failed=90 * DAY,
    )
    return replace(tasks, rules=tasks.rules | {"*": star, "image": star})


def pass_days(db, days: int) -> None:
    """Since the ends: the fence keeps the time of an end."""
    db.execute("alter table tasks disable trigger unstuck_fence")
    db.execute("update tasks set finished_at = finished_at - make_interval(days => %s)", (days,))
    db.execute("alter table tasks enable trigger unstuck_fence")


def ids(db) -> set[str]:
    return {str(row["id"]) for row in db.execute("select id from tasks").fetchall()}


def ended(store, watch, outcome="complete", kind="image", **more) -> str:
    attempt = claimed(store, watch, kind)
    settled(store, watch, attempt, outcome, **more)
    return attempt.task_id


def test_first_the_result_goes_then_the_row_and_a_failed_one_stays_longer(store, db, tidy):
    done = ended(store, tidy, result={"n": 1})
    failed, waiting = ended(store, tidy, "fail"), created(store, tidy)
    assert store.retain(tidy) == 0
    pass_days(db, 8)
    assert store.retain(tidy) == 1
    row = one(db, "select status, result from tasks where id = %s", done)
    assert row == {"status": "completed", "result": None}
    pass_days(db, 30)
    assert store.retain(tidy) == 1
    assert ids(db) == {failed, waiting}
    pass_days(db, 60)
    assert store.retain(tidy) == 1
    assert ids(db) == {waiting}, "what has not ended is never touched"


def test_a_kind_or_an_end_that_no_rule_names_stays(store, db, tasks):
    rule = replace(tasks.rule("*"), retention_completed=DAY)
    watch = replace(tasks, rules=tasks.rules | {"patient": rule})
    image, patient = ended(store, watch), ended(store, watch, kind="patient")
    failed = ended(store, watch, "fail", kind="patient")
    pass_days(db, 1000)
    assert store.retain(watch) == 1
    assert ids(db) == {image, failed}
    assert patient not in ids(db)


def test_an_adopted_table_keeps_all_unless_its_watch_says_so(store, db, jobs):
    rule = replace(jobs.rule("*"), retention_completed=DAY)
    watch = replace(jobs, rules={"*": rule})
    db.execute("insert into \"Media Jobs\" (\"State\", queued_at) values ('done', '2020-01-01')")
    assert store.retain(watch) == 0
    assert one(db, 'select count(*) from "Media Jobs"')["count"] == 1


@pytest.mark.parametrize("checked", ["", "deferrable initially deferred"])
def test_a_row_that_another_table_refers_to_keeps_no_other(store, db, tidy, checked):
    """However many there are: the oldest of them are not tried again before the others."""
    held, free = [ended(store, tidy) for _ in range(3)], ended(store, tidy)
    db.execute(f"create table pictures (task uuid references tasks {checked})")
    try:
        for task in held:
            db.execute("insert into pictures values (%s)", (task,))
        pass_days(db, 40)
        assert store.retain(tidy) == 1
        assert ids(db) == {*held}, f"{free} is not held"
        kept = db.execute("select task_id, code from unstuck.kept order by 1").fetchall()
        assert [tuple(row.values()) for row in kept] == [(task, "23503") for task in sorted(held)]
        last = ended(store, tidy)
        pass_days(db, 40)
        store.call("tasks_retain", {"p_rules": tidy.rules_json, "p_limit": 1}, 5)
        assert ids(db) == {*held}, f"{last} waits behind those that stay"
        db.execute("truncate pictures")
        assert store.retain(tidy) == 0
        db.execute("update unstuck.kept set tried_at = tried_at - interval '25 hours'")
        assert store.retain(tidy) == 3
        assert ids(db) == set()
    finally:
        db.execute("drop table pictures")


def test_a_row_that_a_trigger_keeps_without_an_error_keeps_no_other(store, db, tidy):
    kept, free = ended(store, tidy), ended(store, tidy)
    db.execute(f"""
    create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger keep before delete on tasks for each row when (old.id = '{kept}')
      execute function keep()
    """)
    try:
        pass_days(db, 40)
        limited = {"p_rules": tidy.rules_json, "p_limit": 1}
        for _ in range(2):
            store.call("tasks_retain", limited, 5)
        assert ids(db) == {kept}, f"{free} waits behind the one that stays"
        row = one(db, "select task_id, error from unstuck.kept")
        assert (row["task_id"], row["error"][:9]) == (kept, "a trigger")
    finally:
        db.execute("drop function keep cascade")


@pytest.mark.parametrize("status", ["pending", "completed"])
def test_a_task_that_is_changed_while_rows_are_tried_one_by_one_stays(store, db, tidy, status):
    """One row of the batch cannot go: then the locks of all are given up. What is completed
    is kept for longer here."""
    rule = replace(tidy.rule("*"), retention_completed=1000 * DAY)
    tidy = replace(tidy, rules={"*": rule})
    held, again, free = (ended(store, tidy, "fail") for _ in range(3))
    db.execute("create table pictures (task uuid references tasks)")
    db.execute("insert into pictures values (%s)", (held,))
    pass_days(db, 100)
    db.execute(f"""
    alter table tasks disable trigger unstuck_fence;
    create function put_back() returns trigger language plpgsql as $$
    begin
      update tasks set status = '{status}' where id = '{again}';
      return null;
    end $$;
    create trigger put_back after insert on unstuck.kept execute function put_back()
    """)
    try:
        assert store.retain(tidy) == 1
        assert ids(db) == {held, again}, f"{free} is gone"
        assert one(db, "select task_id from unstuck.kept")["task_id"] == held
    finally:
        db.execute("alter table tasks enable trigger unstuck_fence")
        db.execute("drop table pictures; drop function put_back cascade")
