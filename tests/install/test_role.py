"""`migrate --role`: deployed code need not be the owner of the tables. And whoever is neither has
nothing, however generous the default privileges of the database are."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from functions.core.policy import load
from functions.core.states import SettleAs
from functions.install.migrate import migrate
from functions.store.postgres import PostgresStore
from tests.sweep.steps import sweep

POLICY = load()
WATCH = POLICY.watch()
ROLE = 'the "app"'


@pytest.fixture
def db(empty_database):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(db, empty_database):
    db.execute('create role "the ""app"""')
    migrate(empty_database, POLICY, role=ROLE)
    yield make_conninfo(empty_database, options=r"-c role=the\ \"app\"")
    db.execute('drop owned by "the ""app"""')
    db.execute('drop role "the ""app"""')


@pytest.fixture
def generous(db):
    """As Supabase's databases are: what is made later is for everybody."""
    roles = {"anon", "authenticated", "service_role"}
    others = {name for (name,) in db.execute("select rolname from pg_roles")}
    for name in roles - others:
        db.execute(f"create role {name}")
    for things in ("tables", "sequences", "functions"):
        db.execute(
            f"alter default privileges in schema public grant all on {things} "
            "to anon, authenticated, service_role"
        )
    yield db
    for name in roles:
        db.execute(f"drop owned by {name}")
    for name in roles - others:  # the roles are of the whole server, and other tests have them
        db.execute(f"drop role {name}")


def test_the_role_does_all_that_deployed_code_does(role):
    store = PostgresStore(role)
    created = [store.create(WATCH, "image", {"prompt": "x"}, owner="ann") for _ in range(3)]
    claim = store.claim(WATCH, created[0].task_id, "worker")
    assert store.beat(WATCH, claim.task_id, claim.token, {"fraction": 0.5}).verdict == "held"
    assert store.checkpoint(WATCH, claim.task_id, claim.token, "step", 1).verdict == "held"
    done = store.settle(WATCH, claim.task_id, claim.token, SettleAs.COMPLETE, result={"x": 1})
    assert done.verdict == "settled"
    late = store.settle(WATCH, claim.task_id, str(claim.token)[:-4] + "0000", SettleAs.COMPLETE)
    assert late.verdict == "lost"
    assert store.cancel(WATCH, created[1].task_id).verdict == "cancelled"
    assert store.status(WATCH, created[2].task_id).state == "pending"
    assert sweep(store, POLICY).verdict == "ok"
    assert store.pulse(WATCH)
    store.close()


def test_an_upgrade_gives_the_role_what_is_new(role, db, empty_database):
    db.execute("drop table unstuck.kept")
    db.execute("delete from unstuck.migrations where name = '0028_kept'")
    migrate(empty_database, POLICY)
    with psycopg.connect(role) as connection:
        assert connection.execute("select count(*) from unstuck.kept").fetchone() == (0,)
        connection.execute("select unstuck.keep('tasks', '1', '', 'x')")


@pytest.mark.parametrize(
    "statement",
    [
        "drop table public.tasks",
        "truncate public.tasks",
        "alter table public.tasks disable trigger unstuck_fence",
        "alter table public.tasks disable row level security",
        "drop function unstuck.sweep_begin",
        "create or replace function unstuck.hold(p_name text) returns void language sql as ''",
        "create table unstuck.mine (id int)",
        "delete from unstuck.migrations",
        "copy (select 1) to program 'id'",
    ],
)
def test_and_no_more(role, statement):
    with (
        psycopg.connect(role, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("again", [False, True])
def test_nobody_may_empty_our_table_whatever_the_default_privileges_are(
    generous, empty_database, again
):
    """Row security keeps rows, and neither TRUNCATE nor triggers."""
    migrate(empty_database, POLICY)
    if again:
        generous.execute("grant all on public.tasks to anon, authenticated")
        migrate(empty_database, POLICY)
    query = "select grantee, privilege_type from information_schema.role_table_grants where "
    query += "table_schema = 'public' and table_name = 'tasks' and grantee in "
    query += "('anon', 'authenticated')"
    left = {right for _, right in generous.execute(query).fetchall()}
    assert not left & {"TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"}
    generous.execute("set role anon")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        generous.execute("truncate public.tasks")
    assert generous.execute("select count(*) from public.tasks").fetchone() == (0,)
    generous.execute("reset role")
