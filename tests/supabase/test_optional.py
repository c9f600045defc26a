"""Credits and generations where Supabase is: an owner reads their own and writes nothing; the
service role does the rest."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from functions.install.migrate import file
from functions.ops.postgres.embedded import Postgres
from tests.conftest import copied
from tests.sql.test_credits import policy
from tests.supabase.stack import bootstrap

ADA, BOB = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
TABLES = ("unstuck_credits", "unstuck_credit_entries", "unstuck_generations")
As = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def db(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """Each has paid for one task, whose output is there: all done as the service role."""
    given = policy()
    with copied(postgres, None) as dsn, psycopg.connect(dsn, autocommit=True) as db:
        bootstrap(dsn)
        db.execute(file(given, "public").encode())
        db.execute("set role service_role")
        for owner in (ADA, BOB):
            db.execute(
                "select public.unstuck_credits_grant(%s, 100, %s)", (owner, f"welcome {owner}")
            )
            create = (
                "select unstuck.tasks_create('image', p_owner => %s, p_metadata => "
                "'{\"cost\": 25}')"
            )
            task_id = db.execute(create, (owner,)).fetchone()[0]["task_id"]
            rules = given.watch().rules_json
            token = db.execute(
                "select unstuck.tasks_claim(%s, 'w', %s)", (task_id, rules)
            ).fetchone()[0]["token"]
            db.execute(
                "select unstuck.tasks_settle(%s, %s, 'complete', %s, '{\"url\": \"a.png\"}')",
                (task_id, token, rules),
            )
        db.execute("reset role")
        yield db


@pytest.fixture
def as_user(db: psycopg.Connection[Any]) -> As:
    def ask(user: str, statement: str) -> Any:
        with db.transaction():
            db.execute(
                "select set_config('request.jwt.claims', %s, true)",
                (f'{{"sub": "{user}"}}' if user else "",),
            )
            db.execute(f"set local role {'authenticated' if user else 'anon'}".encode())
            return db.execute(statement.encode())

    return ask


@pytest.mark.parametrize("table", TABLES)
def test_an_owner_reads_their_own_and_nobody_else_s(as_user, table):
    for owner in (ADA, BOB):
        rows = as_user(owner, f"select owner from public.{table}").fetchall()
        assert {row[0] for row in rows} == {owner}


def test_an_owner_sees_what_is_left(as_user):
    assert as_user(ADA, "select balance, held from public.unstuck_credits").fetchall() == [(75, 0)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("user", [ADA, ""])
@pytest.mark.parametrize(
    "write",
    [
        "update public.{} set owner = owner",
        "delete from public.{}",
        "insert into public.{} default values",
    ],
)
def test_nobody_else_writes(as_user, table, user, write):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_user(user, write.format(table))


@pytest.mark.parametrize("table", TABLES)
def test_who_is_not_logged_in_reads_nothing(as_user, table):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_user("", f"select * from public.{table}")


@pytest.mark.parametrize("user", [ADA, ""])
@pytest.mark.parametrize(
    "call",
    [
        "public.unstuck_credits_grant('x', 1000000, 'k')",
        "unstuck.credits_end('tasks', 'x', 'release')",
        "unstuck.credits_hold('tasks', 'x', 'x', -1)",
        "unstuck.tasks_credits_on_swept()",
    ],
)
def test_nobody_else_calls_the_functions(as_user, user, call):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_user(user, f"select {call}")
