"""Whoever holds the key of a browser, with the token of a user or a forged one, tries every
function and every table. No data, no change, no 500; in a project whose default privileges give
everybody everything, as those of before did."""

import hashlib
import json
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from functions.core.policy import Json, load
from functions.install.migrate import file
from functions.ops.postgres.embedded import Postgres
from functions.store.supabase import SupabaseStore
from tests.conftest import copied
from tests.supabase.stack import (
    ANON_JWT,
    PUBLISHABLE_KEY,
    SECRET_KEY,
    Supabase,
    bootstrap,
    jwt,
    user_jwt,
)

ANN, BOB = "a0000000-0000-4000-8000-00000000000a", "b0000000-0000-4000-8000-00000000000b"
TABLES = (
    "attempts",
    "sweeps",
    "refusals",
    "dispatches",
    "observed",
    "migrations",
    "outbox",
    "operations",
    "unsweepable",
)
INTRUDERS = {
    "anon": (PUBLISHABLE_KEY, ""),
    "anon with the legacy key": (ANON_JWT, ""),
    "a user": (PUBLISHABLE_KEY, user_jwt(BOB)),
    "an expired token": (PUBLISHABLE_KEY, user_jwt(ANN, exp=int(time.time()) - 60)),
    "a forged service role": (
        PUBLISHABLE_KEY,
        jwt("service_role", "another secret, also long enough for HS256"),
    ),
    "an unsigned service role": (
        PUBLISHABLE_KEY,
        "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.",
    ),
    "a role that is none of them": (PUBLISHABLE_KEY, jwt("postgres")),
    "a key that is none": ("sb_secret_guessed", ""),
    "no key": ("", ""),
}
FUNCTIONS = """
select p.proname, p.pronamespace::regnamespace::text, array(
  select a.name from unnest(p.proargnames) with ordinality a (name, n) where n <= p.pronargs)
from pg_proc p where p.pronamespace in ('public'::regnamespace, 'unstuck'::regnamespace)
"""


@pytest.fixture(scope="module")
def town(postgres: Postgres) -> Iterator[Supabase]:
    """A REST API that exposes our schema too, with a task each of two users, one of them held by a
    worker."""
    with copied(postgres, None) as dsn:
        bootstrap(dsn, generous=True)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(file(None, "public").encode())
        with Supabase(dsn, schemas="public,unstuck") as stack:
            store, watch = SupabaseStore(stack.url, stack.key), load().watch()
            for owner in (ANN, BOB):
                store.create(watch, "image", {"prompt": "secret"}, owner=owner)
            store.claim(watch, None, "worker")
            store.close()
            yield stack


def contents(stack: Supabase) -> str:
    """A digest of all that is in the database: every row, function and right."""
    digest = hashlib.sha256()
    with psycopg.connect(stack.dsn) as connection:
        tables = [
            "public.tasks",
            *(f"unstuck.{table}" for table in TABLES),
            "pg_proc",
            "pg_class",
            "pg_policy",
        ]
        for table in tables:
            columns = "relname, relacl" if table == "pg_class" else "*"
            digest.update(
                repr(
                    connection.execute(f"select {columns} from {table} order by 1").fetchall()
                ).encode()
            )
    return digest.hexdigest()


@pytest.fixture
def unchanged(town: Supabase) -> Iterator[None]:
    before = contents(town)
    yield
    assert contents(town) == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("who", INTRUDERS)
def test_no_function_answers(town: Supabase, who: str):
    key, token = INTRUDERS[who]
    with psycopg.connect(town.dsn) as connection:
        functions = connection.execute(FUNCTIONS).fetchall()
    assert len(functions) > 40
    for name, schema, arguments in functions:
        for given in ({}, {one: VALUES.get(one) for one in arguments}):
            status, said = town.request(
                "POST", f"/rpc/{name}", given, key=key, token=token, **{"Content-Profile": schema}
            )
            assert status in {400, 401, 403, 404}, (name, status, said)
            assert "secret" not in json.dumps(said), (name, said)


VALUES = {
    "p_task": str(uuid4()),
    "p_watch": "tasks",
    "p_token": str(uuid4()),
    "p_worker": "w",
    "p_rules": {},
    "p_outcome": "complete",
    "p_kind": "image",
    "p_input": {},
    "p_again": False,
    "p_limit": 10,
    "p_action": "cancel",
    "p_ids": [],
    "p_key": None,
    "p_by": "me",
    "p_budget": 1,
    "p_keep": 0,
    "p_id": 1,
    "p_ok": True,
    "p_counts": {},
    "p_filter": {},
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("who", INTRUDERS)
def test_no_table_is_written_and_none_but_the_own_is_read(town: Supabase, who: str):
    key, token = INTRUDERS[who]
    for schema, table in (("public", "tasks"), *(("unstuck", one) for one in TABLES)):
        profile = {"Content-Profile": schema, "Accept-Profile": schema}
        row = {"kind": "image", "owner": BOB, "watch": "tasks", "task_id": "1"}
        for method, path, body in (
            ("GET", f"/{table}", None),
            ("POST", f"/{table}", row),
            ("DELETE", f"/{table}?task_id=neq.0", None),
            ("PATCH", f"/{table}?watch=eq.tasks", {"watch": "x"}),
            ("DELETE", f"/{table}?id=not.is.null", None),
            ("PATCH", f"/{table}?owner=eq.{BOB}", {"status": "completed"}),
            ("POST", f"/{table}?on_conflict=id", row),
        ):
            status, said = town.request(method, path, body, key=key, token=token, **profile)
            if (who, method, table) == ("a user", "GET", "tasks"):
                assert (status, [one["owner"] for one in said]) == (200, [BOB])
            else:
                assert status in {400, 401, 403, 404}, (method, path, status, said)


@pytest.mark.parametrize(
    "path",
    ["?select=*", f"?owner=eq.{ANN}", "?or=(id.not.is.null,owner.is.null)", "?select=count()"],
)
def test_a_user_sees_the_own_tasks_and_nobody_elses(town: Supabase, path: str):
    for user, others in ((ANN, BOB), (BOB, ANN)):
        status, said = town.request(
            "GET", f"/tasks{path}", key=PUBLISHABLE_KEY, token=user_jwt(user)
        )
        assert status in {200, 400}  # aggregates are switched off
        assert others not in json.dumps(said)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"p_task": {"a": [1]}}',
        b'{"p_rules": "x" }',
        b'{"p_watch": "' + b"x" * 3_000_000 + b'"}',
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "null",
        "text",
        "not UTF-8",
        "deep",
        "object for text",
        "text for object",
        "large",
    ],
)
@pytest.mark.parametrize("key", [SECRET_KEY, PUBLISHABLE_KEY], ids=["service", "anon"])
def test_a_malformed_body_is_a_callers_mistake(town: Supabase, key: str, body: bytes):
    for name in ("unstuck_beat", "unstuck_tasks_claim", "unstuck_sweep_begin"):
        status, said = town.request("POST", f"/rpc/{name}", body, key=key)
        assert 400 <= status < 500, (name, status, said)


def test_sql_in_every_field_stays_text_and_the_token_of_another_attempt_opens_nothing(
    town: Supabase,
):
    evil = "'; drop table public.tasks; --"
    store, watch = SupabaseStore(town.url, town.key), load().watch()
    task_id = store.create(
        watch, evil, {evil: evil}, owner=evil, key=evil, metadata={evil: evil}
    ).task_id
    attempt = store.claim(watch, task_id, evil)
    other = store.claim(watch, store.create(watch, "image", {}).task_id, "w")
    assert store.beat(watch, task_id, other.token).verdict == "lost"
    assert store.settle(watch, task_id, other.token, "complete").verdict == "lost"
    assert store.beat(watch, evil, attempt.token).verdict == "lost"
    assert (
        store.call(
            "beat",
            {
                "p_watch": evil,
                "p_task": evil,
                "p_token": attempt.token,
                "p_progress": Json('{"a": 1}'),
            },
            5,
        )["verdict"]
        == "lost"
    )
    assert store.checkpoint(watch, task_id, attempt.token, evil, evil).verdict == "held"
    assert (
        store.settle(
            watch, task_id, attempt.token, "fail", reason=evil, error=evil, detail=evil
        ).verdict
        == "settled"
    )
    assert store.status(watch, task_id).error == evil
    assert [one.task_id for one in store.find(watch, {"owner": evil, "states": ["failed"]}, 5)] == [
        task_id
    ]
    store.close()
