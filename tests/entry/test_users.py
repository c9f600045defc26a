"""What a user may do by HTTP: their own tasks, so many, one of a kind, with an input that its
handler takes."""

import json

import pytest

from functions.core.policy import DEFAULT, load
from functions.entry import input_schema
from functions.ops.local.samples import selection_input
from tests.entry.issuers import bearer, google, user
from tests.entry.steps import NOBODY, error_code

ANN, BOB = bearer(user("ann")), bearer(user("bob"))


def create(api, kind="returns", headers=ANN, **more):
    return api.ask("create_task", json={"kind": kind, **more}, headers=headers)


def status(api, task_id, headers=ANN):
    return api.ask("task_status", f"/?task_id={task_id}", headers=headers)


def cancel(api, task_id, headers=ANN):
    return api.ask("cancel_task", json={"task_id": task_id}, headers=headers)


def test_the_task_of_another_user_is_not_there(api, db, dump):
    task_id = create(api).json["task_id"]
    db.execute(
        "update tasks set scheduled_at = now() - interval '1 day'"
    )  # overdue: a poll would heal it
    before = dump()
    for answer in (status(api, task_id, BOB), cancel(api, task_id, BOB)):
        assert (answer.status_code, error_code(answer)) == (404, "not_found")
        assert answer.json["error"]["message"] == f"There is no task {task_id}.", (
            "as for one that never was"
        )
    assert dump() == before
    assert status(api, task_id).json["state"] == "failed"


def test_a_user_cancels_a_task_once(api, capfd):
    task_id = create(api).json["task_id"]
    assert [cancel(api, task_id).json for _ in range(2)] == [
        {"task_id": task_id, "state": "cancelled"}
    ] * 2
    assert status(api, task_id).json["state"] == "cancelled"
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    [line] = [line for line in lines if line["event"] == "task_finished"]
    assert (line["state"], line["by"], line["reason"], line["kind"]) == (
        "cancelled",
        "cancel",
        "cancelled",
        "returns",
    )


def test_a_task_that_has_ended_cannot_be_cancelled(api):
    task_id = create(api).json["task_id"]
    assert api.ask("worker", json={"task_id": task_id}, headers=bearer(google())).status_code == 200
    answer = cancel(api, task_id)
    assert (answer.status_code, error_code(answer), answer.json["state"]) == (
        409,
        "ended",
        "completed",
    )
    assert cancel(api, NOBODY).status_code == 404


def test_one_active_task_of_a_kind_is_told_with_its_id(api):
    first = create(api, "alone").json["task_id"]
    answer = create(api, "alone", input={"n": 2})
    assert (answer.status_code, error_code(answer)) == (409, "active")
    assert (answer.json["task_id"], answer.json["state"]) == (first, "pending")
    assert create(api, "alone", BOB).status_code == 201


def test_a_stuck_task_does_not_lock_its_user_out(api, db, capfd):
    stuck = create(api, "alone").json["task_id"]
    db.execute("update tasks set scheduled_at = now() - interval '1 day'")
    assert create(api, "alone").status_code == 201
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    [line] = [line for line in lines if line["event"] == "task_finished"]
    assert (line["task_id"], line["by"], line["reason"]) == (stuck, "create", "never_claimed")


def test_too_many_creates_are_told_when_to_come_again(api, db):
    db.execute(
        "insert into tasks (kind, owner) select 'returns', 'ann' from generate_series(1, 50)"
    )
    answer = create(api)
    assert (answer.status_code, error_code(answer)) == (429, "too_many")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert create(api, headers=BOB).status_code == 201


@pytest.mark.parametrize(
    ("kind", "task_input", "path"),
    [
        ("image", {}, ""),
        ("image", {"prompt": "a cat", "size": "7x7"}, "/size"),
        ("image", {"prompt": "", "size": "256x256"}, "/prompt"),
        ("selection", selection_input() | {"size": "40"}, "/size"),
        (
            "selection",
            selection_input() | {"quotas": {"gender": {"female": [1, "2"]}}},
            "/quotas/gender/female/1",
        ),
    ],
)
def test_an_input_that_its_schema_refuses_is_told_by_its_path(api, dump, kind, task_input, path):
    answer = create(api, kind, input=task_input)
    assert (answer.status_code, error_code(answer), answer.json["path"]) == (
        422,
        "invalid_input",
        path,
    )
    assert f"`input{path}`" in answer.json["error"]["message"]
    assert dump("tasks") == [[]]


@pytest.mark.parametrize(
    ("kind", "task_input"),
    [
        ("image", {"prompt": "a cat", "size": "256x256"}),
        ("selection", selection_input()),
        ("returns", {}),
    ],
)
def test_an_input_that_fits_or_that_nobody_declared_is_taken(api, kind, task_input):
    assert create(api, kind, input=task_input).status_code == 201


def test_a_kind_that_names_another_folder_has_no_schema():
    watch = load(str(DEFAULT)).watch()
    assert input_schema.file_of("functions.handlers.image", "../handlers/image").is_file(), (
        "so this is not asked"
    )
    input_schema.check(watch, "../handlers/image", {})
