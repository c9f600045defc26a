"""A worker elsewhere, in any language: claim, beat, complete or fail by HTTP, fenced by the token
and safe to repeat."""

import json
from uuid import uuid4

import pytest

from tests.entry.issuers import bearer, google
from tests.entry.steps import NOBODY, error_code

MACHINE = bearer(google())


def ask(api, target, **body):
    return api.ask(target, json=body, headers=MACHINE)


def claim(api, **more):
    answer = ask(api, "claim_task", worker_id="a laptop", **more)
    assert answer.status_code == 200, answer.text
    return answer.json["task"]


def held(api, task_of):
    """A task in the hands of the worker: its id and token."""
    task_of("ann")
    task = claim(api)
    return {"task_id": task["task_id"], "token": task["token"]}


def said(capfd, *names):
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] in names]


def overdue(db):
    db.execute("update unstuck.attempts set lease_until = now(), deadline_at = now()")


def test_the_oldest_of_the_highest_priority_is_handed_out_with_all_that_the_worker_needs(
    api, db, task_of
):
    oldest, newer, urgent = (task_of("ann") for _ in range(3))
    db.execute("update tasks set priority = 5 where id = %s", (urgent,))
    first = claim(api)
    assert first == {
        "task_id": urgent,
        "kind": "returns",
        "input": {},
        "token": first["token"],
        "checkpoint": {},
        "watch": "tasks",
        "attempt": 1,
        "attempts": 3,
        "lease": 30.0,
        "beat_every": 10.0,
        "deadline": 570.0,
    }
    assert [claim(api)["task_id"], claim(api)["task_id"], claim(api)] == [oldest, newer, None]
    workers = db.execute("select distinct worker from unstuck.attempts").fetchall()
    assert workers == [{"worker": "a laptop"}]


def test_only_the_kinds_that_are_asked_for(api, task_of):
    task_of("ann", "returns")
    wanted = task_of("ann", "alone")
    assert claim(api, kinds=["alone", "other"])["task_id"] == wanted
    assert claim(api, kinds=["alone"]) is None


def test_a_claim_whose_answer_was_lost_is_the_same_claim_again(api, task_of):
    task_of("ann"), task_of("ann")
    token = str(uuid4())
    assert claim(api, token=token) == claim(api, token=token)


def test_a_given_task_is_claimed_or_it_is_said_why_not(api, db, task_of):
    task_id = task_of("ann")
    assert claim(api, task_id=task_id)["task_id"] == task_id
    answer = ask(api, "claim_task", worker_id="w", task_id=task_id)
    assert (answer.status_code, error_code(answer), answer.json["state"]) == (
        409,
        "held",
        "running",
    )
    assert int(answer.headers["Retry-After"]) >= 1
    assert ask(api, "claim_task", worker_id="w", task_id=NOBODY).status_code == 404
    db.execute("select unstuck.tasks_cancel(%s)", (task_id,))
    assert error_code(ask(api, "claim_task", worker_id="w", task_id=task_id)) == "ended"


def test_a_worker_that_beats_and_completes(api, db, task_of, capfd):
    mine = held(api, task_of)
    beat = ask(
        api,
        "beat_task",
        **mine,
        progress={"fraction": 0.5},
        checkpoint={"ordered": {"id": 7}, "paid": True},
    )
    assert (beat.status_code, beat.json) == (200, {"verdict": "held"})
    attempt = db.execute("select beats, progress from unstuck.attempts").fetchone()
    assert attempt == {"beats": 3, "progress": {"fraction": 0.5}}
    saved = db.execute("select name, data from unstuck.checkpoints order by name").fetchall()
    assert saved == [{"name": "ordered", "data": {"id": 7}}, {"name": "paid", "data": True}]
    done = ask(api, "complete_task", **mine, result={"url": "a.png"})
    assert (done.status_code, done.json["state"]) == (200, "completed")
    assert db.execute("select status, result from tasks").fetchone() == {
        "status": "completed",
        "result": {"url": "a.png"},
    }
    [line] = said(capfd, "task_finished")
    assert (line["state"], line["by"], line["kind"], line["number"]) == (
        "completed",
        "remote",
        "returns",
        1,
    )
    assert line["seconds"] >= 0


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("complete_task", {"result": 1}),
        ("fail_task", {"error": "No."}),
        ("fail_task", {"error": "No.", "retry": True}),
    ],
)
def test_an_end_may_be_repeated_and_is_said_once(api, dump, task_of, capfd, target, more):
    mine = held(api, task_of)
    first = ask(api, target, **mine, **more)
    before = dump()
    again = [ask(api, target, **mine, **more) for _ in range(3)]
    assert {one.status_code for one in (first, *again)} == {200}
    assert {one.json["state"] for one in (first, *again)} == {first.json["state"]}
    assert dump() == before
    assert len(said(capfd, "task_finished", "task_requeued")) == 1


def test_a_failure_is_for_good_or_another_try_comes_later(api, db, task_of, capfd):
    mine = held(api, task_of)
    answer = ask(
        api, "fail_task", **mine, error="The service is busy.", detail="503", retry=True, after=60
    )
    assert (answer.json["state"], answer.json["reason"], round(answer.json["retry_after"])) == (
        "pending",
        "transient",
        60,
    )
    db.execute("update tasks set scheduled_at = now()")
    second = claim(api)
    assert second["attempt"] == 2
    done = ask(
        api,
        "fail_task",
        task_id=second["task_id"],
        token=second["token"],
        error="The prompt is empty.",
    )
    assert (done.json["state"], done.json["reason"]) == ("failed", "handler_error")
    assert db.execute("select error_message from tasks").fetchone() == {
        "error_message": "The prompt is empty."
    }
    requeued, finished = said(capfd, "task_requeued", "task_finished")
    assert (requeued["by"], requeued["detail"]) == ("remote", "503")
    assert (finished["severity"], finished["state"]) == ("WARNING", "failed")


def test_the_next_attempt_begins_where_the_last_one_was(api, db, task_of):
    mine = held(api, task_of)
    ask(api, "beat_task", **mine, checkpoint={"ordered": {"id": 7}})
    overdue(db)
    assert api.ask("sweep", headers=MACHINE).json["requeued"] == 1
    db.execute("update tasks set scheduled_at = now()")
    assert claim(api)["checkpoint"] == {"ordered": {"id": 7}}


@pytest.mark.parametrize(
    ("target", "more", "wanted"),
    [
        ("beat_task", {}, "beat"),
        ("beat_task", {"checkpoint": {"a": 1}}, "checkpoint"),
        ("complete_task", {"result": {}}, "complete"),
        ("fail_task", {"error": "No."}, "fail"),
        ("fail_task", {"error": "No.", "retry": True}, "retry"),
    ],
)
def test_a_worker_that_lost_its_task_is_told_to_stop_and_changes_nothing(
    api, db, dump, task_of, capfd, target, more, wanted
):
    mine = held(api, task_of)
    overdue(db)
    api.ask("sweep", headers=MACHINE)
    before = dump("tasks", "unstuck.attempts")
    answer = ask(api, target, **mine, **more)
    assert (answer.status_code, error_code(answer), answer.json["reason"]) == (
        409,
        "lost",
        "deadline",
    )
    assert dump("tasks", "unstuck.attempts") == before
    [line] = said(capfd, "lease_lost")
    assert (line["wanted"], line["kind"], line["number"], line["task_id"]) == (
        wanted,
        "returns",
        1,
        mine["task_id"],
    )
    assert db.execute("select wanted from unstuck.refusals").fetchall() == [{"wanted": wanted}]


def test_a_result_that_the_database_refuses_fails_the_task_with_that_reason(api, db, task_of):
    mine = held(api, task_of)
    db.execute(
        "alter table tasks add constraint picky check (result is null or result ? 'url') not valid"
    )
    try:
        answer = ask(api, "complete_task", **mine, result={"no": "url"})
    finally:
        db.execute("alter table tasks drop constraint picky")
    assert (answer.status_code, answer.json["state"], answer.json["reason"]) == (
        200,
        "failed",
        "handler_error",
    )


@pytest.mark.parametrize(
    ("target", "change", "says"),
    [
        ("claim_task", {"worker_id": None}, "`worker_id` is missing"),
        ("claim_task", {"worker_id": 7}, "`worker_id` must be a text"),
        ("claim_task", {"kinds": "image"}, "`kinds` must be a list"),
        ("claim_task", {"kinds": []}, "`kinds` must be a list"),
        ("claim_task", {"kinds": [7]}, "`kinds` must be a list"),
        ("claim_task", {"token": "x"}, "`token` must be the uuid"),
        ("claim_task", {"task_id": ""}, "`task_id` is missing"),
        ("beat_task", {"token": None}, "`token` must be the uuid"),
        ("beat_task", {"task_id": None}, "`task_id` is missing"),
        ("beat_task", {"progress": 0.5}, "`progress` must be a JSON object"),
        ("beat_task", {"checkpoint": ["a"]}, "`checkpoint` must be a JSON object"),
        ("beat_task", {"checkpoint": {str(n): n for n in range(21)}}, "20 steps at most"),
        ("complete_task", {"token": 7}, "`token` must be a text"),
        ("complete_task", {"watch": "none"}, "No watch is called"),
        ("fail_task", {"error": ""}, "`error` must be a text"),
        ("fail_task", {"error": None}, "`error` is missing"),
        ("fail_task", {"retry": "yes"}, "`retry` must be true or false"),
        ("fail_task", {"retry": True, "after": -1}, "`after` must be 0 to 86400"),
        ("fail_task", {"retry": True, "after": True}, "`after` must be 0 to 86400"),
    ],
)
def test_a_bad_call_is_refused_with_the_next_step(api, dump, task_of, target, change, says):
    mine = held(api, task_of)
    before = dump()
    usual = {"claim_task": {"worker_id": "w"}, "fail_task": {"error": "No."} | mine}.get(
        target, mine
    )
    answer = ask(api, target, **usual | change)
    assert (answer.status_code, error_code(answer)) == (400, "bad_request")
    assert says in answer.json["error"]["message"]
    assert dump() == before
