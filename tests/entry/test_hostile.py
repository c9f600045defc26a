"""Whoever tries doors finds them shut: no data, no change, and nothing that breaks.

Each attack is made on every entry point; what the tables hold is compared before and after."""

import base64
import json
import time

import pytest

from functions.entry.request_body import MAX_BODY_BYTES
from tests.entry.issuers import RSA, STRANGER, bearer, google, user
from tests.entry.steps import METHODS, NOBODY, error_code

USERS = ("create_task", "task_status", "cancel_task")
MACHINES = tuple(name for name in METHODS if name not in USERS)
SECRET = "what only ann may read"
NOW = int(time.time())


@pytest.fixture
def world(api, db):
    """A pending task of ann's, one that is held by a worker, and one that has ended: each with
    something to steal."""
    made = {}
    for name in ("pending", "held", "ended"):
        query = "select unstuck.tasks_create('returns', %s, 'ann') as answer"
        made[name] = {
            "task_id": db.execute(query, (json.dumps({"secret": SECRET}),)).fetchone()["answer"][
                "task_id"
            ]
        }
    for name in ("held", "ended"):
        answer = machine(api, "claim_task", worker_id="w", task_id=made[name]["task_id"])
        made[name]["token"] = answer.json["task"]["token"]
    machine(api, "complete_task", **made["ended"], result={"secret": SECRET})
    return made


def machine(api, target, **body):
    return api.ask(target, json=body, headers=bearer(google()))


def body_for(task):
    """All that any entry point asks for."""
    return {
        "kind": "returns",
        "input": {},
        "worker_id": "w",
        "error": "No.",
        "result": {"stolen": True},
        "token": NOBODY,
        "progress": {"fraction": 1},
        **task,
    }


def attack(api, target, task, headers):
    if target == "worker_event":
        data = base64.b64encode(json.dumps(body_for(task)).encode()).decode()
        return api.raw_event({"message": {"data": data}}, headers=headers)
    return api.ask(target, f"/?task_id={task['task_id']}", json=body_for(task), headers=headers)


# -- without a right to call

NOBODYS = {
    "no token": None,
    "garbage": "garbage",
    "three parts of garbage": "e30.e30.e30",
    "a header that is nested too deeply": base64.urlsafe_b64encode(b"[" * 3000).decode()
    + ".e30.e30",
    "claims that are nested too deeply": "e30."
    + base64.urlsafe_b64encode(b"[" * 3000).decode()
    + ".e30",
    "a very long one": "a" * 7000,
    "sql": "' or 1=1; drop table tasks; --",
    "an expired one of a user": user(exp=NOW - 600),
    "one of a user for somebody else": user(aud="somebody else"),
    "one of a user signed by a stranger": user(key=STRANGER, alg="ES256", kid="ec"),
    "one of a user without a signature": user(key="", alg="none"),
    "the anon key": user(role="anon", sub=None, aud=None),
    "the service role's, forged": user(role="service_role", key="x" * 64),
    "one of google's for somebody else": google(aud="https://another.example"),
    "one of google's that has expired": google(exp=NOW - 600),
    "one of google's for another account": google(email="another@project.iam.gserviceaccount.com"),
    "one of google's signed by a stranger": google(key=STRANGER, alg="ES256"),
    "one of google's without a signature": google(key="", alg="none"),
    "one whose signature was removed": google().rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE",
}


@pytest.mark.parametrize("text", NOBODYS.values(), ids=NOBODYS)
def test_who_may_not_call_gets_nothing_from_any_entry_point(api, world, dump, capfd, text):
    before = dump()
    capfd.readouterr()
    for target in (*METHODS, "worker_event"):
        for task in world.values():
            answer = attack(api, target, task, bearer(text))
            assert answer.status_code in {401, 403}, (target, answer.text)
            assert SECRET not in answer.text
    assert dump() == before
    out = capfd.readouterr().out
    assert SECRET not in out
    assert not text or text not in out
    assert {json.loads(line)["event"] for line in out.splitlines()} <= {"request_refused"}


def test_a_user_is_no_machine_and_a_machine_no_user(api, world, dump):
    before = dump()
    for target in MACHINES:
        for text in (
            user(),
            user(key=RSA, alg="RS256", kid="rsa"),
            user(key=RSA, alg="RS256", kid="google"),
        ):
            assert attack(api, target, world["held"], bearer(text)).status_code == 401, target
    for target in USERS:
        assert attack(api, target, world["held"], bearer(google())).status_code == 401, target
    assert dump() == before


def test_another_user_sees_and_moves_nothing(api, world, dump):
    before = dump()
    bob = bearer(user("bob"))
    for task in world.values():
        for target in ("task_status", "cancel_task"):
            answer = attack(api, target, task, bob)
            assert (answer.status_code, SECRET in answer.text) == (404, False)
    stolen = api.ask("create_task", json={"kind": "returns", "owner": "ann"}, headers=bob)
    assert stolen.status_code == 403
    assert dump() == before


def test_the_idempotency_key_of_another_user_finds_nothing(api, world, db):
    ann, bob = bearer(user("ann")), bearer(user("bob"))
    task = {"kind": "returns", "idempotency_key": "order-7"}
    mine = api.ask("create_task", json=task, headers=ann).json["task_id"]
    assert api.ask("create_task", json=task, headers=bob).json["task_id"] != mine


# -- with a right to call, and the token of another attempt


@pytest.mark.parametrize("target", ["beat_task", "complete_task", "fail_task"])
def test_a_token_is_good_for_its_own_live_attempt_only(api, world, dump, target):
    before = dump("tasks", "unstuck.attempts")
    pairs = [
        ("held", NOBODY),
        ("held", world["ended"]["token"]),
        ("pending", world["held"]["token"]),
        ("ended", NOBODY),
    ]
    if target != "complete_task":  # which ended it, and may say so again
        pairs.append(("ended", world["ended"]["token"]))
    for name, token in pairs:
        answer = attack(
            api, target, {"task_id": world[name]["task_id"], "token": token}, bearer(google())
        )
        assert (answer.status_code, error_code(answer)) == (409, "lost")
        assert SECRET not in answer.text
    assert dump("tasks", "unstuck.attempts") == before


# -- with a right to call, and bad intentions

INJECTIONS = (
    "'; drop table tasks; --",
    "' or '1'='1",
    "$$; delete from unstuck.attempts; $$",
    "%s %(x)s {}",
    "\\'; select pg_sleep(9)--",
)
FIELDS = (
    "kind",
    "idempotency_key",
    "watch",
    "owner",
    "task_id",
    "token",
    "worker_id",
    "error",
    "detail",
    "scheduled_at",
    "kinds",
    "progress",
    "checkpoint",
    "input",
    "result",
)


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_a_field_is_a_text(api, world, db, text):
    """Where a text may be anything it is kept as it is; nowhere is it read as SQL."""
    shapes = {
        "kinds": [text],
        "progress": {text: text},
        "checkpoint": {text: text},
        "input": {text: text},
        "result": {text: text},
    }
    count = "select count(*) from {}"
    before = [
        db.execute(count.format(table)).fetchone()["count"]
        for table in ("tasks", "unstuck.attempts")
    ]
    created = ran = 0
    for target in METHODS:
        for field in FIELDS:
            headers = bearer(user("mallory")) if target in USERS else bearer(google())
            task = {**body_for({"task_id": NOBODY}), field: shapes.get(field, text)}
            if target == "claim_task" and field != "kinds":
                task["kinds"] = ["no such kind"]
            answer = api.ask(target, f"/?task_id={NOBODY}&watch=tasks", json=task, headers=headers)
            assert answer.status_code < 500, (target, field, answer.text)
            created += target == "create_task" and answer.status_code == 201
            ran += target == "worker" and answer.json.get("verdict") == "settled"
    after = [
        db.execute(count.format(table)).fetchone()["count"]
        for table in ("tasks", "unstuck.attempts")
    ]
    assert after == [before[0] + created, before[1] + ran]
    assert created > 0
    assert (
        db.execute(
            "select count(*) from tasks where owner = 'ann' and input @> %s",
            (json.dumps({"secret": SECRET}),),
        ).fetchone()["count"]
        == 3
    )
    kept = db.execute("select input from tasks where input ? %s", (text,)).fetchall()
    assert kept == [{"input": {text: text}}]


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_a_query_is_a_text(api, world, dump, text):
    before = dump()
    for query in ({"task_id": text}, {"task_id": NOBODY, "watch": text}):
        answer = api.ask("task_status", "/", query_string=query, headers=bearer(user()))
        assert answer.status_code == 400
    assert dump() == before


BODIES = {
    "too large": b'{"kind": "returns", "input": {"x": "' + b"a" * MAX_BODY_BYTES + b'"}}',
    "nested too deeply": b'{"input": ' + b"[" * 100_000,
    "nested, but whole": b'{"kind": "returns", "input": {"x": ' + b"[" * 199 + b"]" * 199 + b"}}",
    "malformed": b'{"kind": ',
    "no text": b"\xff\xfe\x00",
    "no object": b'["kind", "returns"]',
    "nothing": b"",
    "a number without end": b'{"kind": ' + b"9" * 5000 + b"}",
    "a key twice": b'{"task_id": 1, "task_id": {"x": 2}, "kind": 7, "worker_id": []}',
    "NUL": b'{"kind": "returns", "input": {"x": "\\u0000"}, "worker_id": "w"}',
}
TYPES = (
    "application/json",
    "text/plain",
    "application/xml",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "",
)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_bad_is_refused_whatever_it_calls_itself(api, world, dump, body):
    before = dump()
    for target in METHODS:
        if METHODS[target] == "POST" and target != "sweep":  # whose body nobody reads
            headers = bearer(user("mallory")) if target in USERS else bearer(google())
            for kind in TYPES:
                answer = api.ask(target, data=body, content_type=kind, headers=headers)
                assert answer.status_code in {400, 413, 422}, (target, kind, answer.text)
                error_code(answer)
    assert dump() == before


def test_a_body_that_is_just_not_nested_too_deeply_is_taken(api):
    body = BODIES["nested, but whole"].replace(b"[[", b"[", 1).replace(b"]]", b"]", 1)
    answer = api.ask(
        "create_task", data=body, content_type="application/json", headers=bearer(user("mallory"))
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]
)
def test_another_method_does_nothing_and_a_header_makes_none_of_it(api, world, dump, method):
    before = dump()
    tricks = {
        "X-HTTP-Method-Override": "POST",
        "X-Method-Override": "GET",
        "X-Original-Method": "POST",
    }
    for target, right in METHODS.items():
        if method == right:
            continue
        headers = bearer(user()) if target in USERS else bearer(google())
        answer = api.ask(
            target,
            f"/?task_id={NOBODY}&_method=POST",
            method=method,
            json=body_for(world["pending"]),
            headers=headers | tricks,
        )
        assert answer.status_code in {405, 501}, (target, method, answer.text)
    assert dump() == before
