"""An error that is JSON has the keys that its application reads, whoever writes it: `check --fix`,
and the sweep of the adopted table."""

import json
from contextlib import closing
from typing import Any

import pytest

from functions.core.policy import parse
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.error_shape import keys_of
from functions.ops.inspect.session import connect
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import HEAD
from tests.ops.inspect.test_rows_teach import TIMES, table
from tests.ops.inspect.world import World

MESSAGE, CODE = "message", "code"


@pytest.mark.parametrize(
    ("error", "keys"),
    [
        ({"code": "E_TIMEOUT", "msg": "It took too long."}, {"msg": MESSAGE, "code": CODE}),
        ({"name": "TimeoutError", "message": "x"}, {"message": MESSAGE, "name": CODE}),
        ({"fault": "The disk is full.", "id": 7}, {"fault": MESSAGE}),
        ({"kind": "oom", "retryable": False}, {"kind": CODE}),
        ({"error": "timeout"}, {"error": MESSAGE}),
        (
            {"at": "2026-11-02T03:04:05.6Z", "errorCode": "a.b", "errorText": "No such file."},
            {"errorText": MESSAGE, "errorCode": CODE, "at": "time"},
        ),
        (
            [{"t": "no", "why": "It broke."}, {"t": "no", "why": "Again."}],
            {"why": MESSAGE, "t": CODE},
        ),
        (
            {"error": {"code": "E_9", "message": "It broke."}, "id": "r_1"},
            {"error.message": MESSAGE, "error.code": CODE},
        ),
        ("It broke.", {"": MESSAGE}),
        (17, {}),
    ],
)
def test_a_key_is_told_by_what_it_holds(error: Any, keys: dict[str, str]) -> None:
    assert dict(keys_of([error, error])) == keys


KINDS = {
    "jsonb": ("""{"code": "E9", "msg": "No such page."}""", {"code", "msg"}),
    "json": ("""{"name": "Oops", "detail": "No such page.", "when": 3}""", {"name", "detail"}),
    "varchar": ("""{"error": {"kind": "a.b", "info": "No such page."}}""", {"error"}),
    "text": ("""{"type": "E9", "description": "No such page."}""", {"type", "description"}),
}


@pytest.mark.parametrize("column", KINDS)
def test_an_error_of_ours_has_the_keys_of_theirs(column: str, world: World) -> None:
    error, keys = KINDS[column]
    table(
        world,
        "films",
        "state text not null check (state in ('queued', 'rendering', 'rendered', 'failed')), "
        f"problem {column}, {TIMES}",
        f"(state, problem) values ('failed', '{error}'), ('failed', '{error}')",
        "(state) values ('queued'), ('queued')",
    )
    world.fix("--job-id", "3", table="films")
    with connect(world.dsn) as connection:
        policy = parse(HEAD + adopt.text(adopt.watch(check.infer_table(connection, "films"))))
    migrate(world.dsn, policy)
    with closing(PostgresStore(world.dsn)) as store:
        store.sweep(policy.watch(), 10)
    fixed, swept = (
        json.loads(world.value(f"select problem::text from films where no = {no}")) for no in (3, 4)
    )
    assert fixed.keys() == swept.keys() == keys
    for error in (fixed, swept):
        assert "never_claimed" in (error.get("error") or error).values()
