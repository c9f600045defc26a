"""The file for supabase/migrations/: what it installs, for whom, and that it may be run again."""

import inspect
import re
from collections.abc import Iterator

import psycopg
import pytest

from functions.core.policy import load
from functions.install import pg_cron
from functions.install.migrate import check, file, migrate
from functions.install.supabase_api import OWN, VERBS, WATCH_VERBS, functions
from functions.ops.postgres.embedded import Postgres
from functions.store import BATCH_TIMEOUT_SECONDS, VERB_TIMEOUT_SECONDS, verbs
from tests.conftest import copied
from tests.supabase.stack import bootstrap

ROLES = ("anon", "authenticated", "service_role")
EXPOSED = """
select p.proname, r.rolname from pg_proc p, pg_roles r
where p.pronamespace = 'public'::regnamespace and p.proname like 'unstuck%%' and r.rolname = any
  (%s)
  and has_function_privilege(r.rolname, p.oid, 'execute')
"""
REACHED = """
select format('%%s %%s', r.rolname, p.oid::regprocedure) from pg_proc p, pg_roles r
where p.pronamespace = 'unstuck'::regnamespace and r.rolname = any (%s) and
  has_function_privilege(r.rolname, p.oid, 'execute')
union all
select format('%%s %%s', r.rolname, c.oid::regclass) from pg_class c, pg_roles r
where c.relnamespace = 'unstuck'::regnamespace and c.relkind in ('r', 'v') and r.rolname = any (%s)
  and has_table_privilege(r.rolname, c.oid,
    'select, insert, update, delete, truncate, references, trigger')
union all
select format('%%s schema', rolname) from pg_roles
where rolname = any (%s) and has_schema_privilege(rolname, 'unstuck', 'usage, create')
"""


@pytest.fixture(params=["of today", "of an old project"])
def bare(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """A database of Supabase before Unstuck comes, with the default privileges of both times."""
    with copied(postgres, None) as dsn:
        bootstrap(dsn, generous=request.param == "of an old project")
        yield dsn


def push(dsn: str, schema: str = "public") -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(file(None, schema).encode())


def rows(dsn: str, query: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query, values).fetchall()


def do(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_every_verb_that_a_store_calls_is_exposed():
    source = inspect.getsource(verbs)
    called = (
        set(re.findall(r'(?:_verb|call)\(\s*"(\w+)"', source)),
        set(re.findall(r'f"\{watch\.name\}_(\w+)"', source)),
    )
    assert called == (set(VERBS), set(WATCH_VERBS))
    assert len(list(functions(load()))) == len(VERBS) + len(WATCH_VERBS)


def test_it_is_the_service_roles_and_nobody_elses(bare):
    push(bare)
    exposed = rows(bare, EXPOSED, list(ROLES))
    assert sorted(exposed) == sorted(
        (f"unstuck_{one.name}", "service_role") for one in functions(load())
    )
    others = ["anon", "authenticated"]
    assert rows(bare, REACHED, others, others, others) == []
    granted = """
    select grantee, privilege_type from information_schema.role_table_grants
      where table_name = 'tasks' and grantee = any (%s)
    """
    found = set(rows(bare, granted, others))
    assert found == {("authenticated", "SELECT")}


def test_it_may_be_run_again_and_keeps_the_record_of_migrate(bare):
    for _ in range(2):
        push(bare)
        assert check(bare, supabase="public") == []
    published = "select tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    assert rows(bare, published) == [("tasks",)]


def test_migrate_does_the_same(bare):
    assert migrate(bare, supabase="public")[-1] == "supabase"
    assert migrate(bare, supabase="public") == []
    assert rows(bare, EXPOSED, ["service_role"])
    push(bare)
    assert check(bare, supabase="public") == []


def test_what_was_edited_after_its_release_is_refused(bare):
    push(bare)
    do(bare, "update unstuck.migrations set sha256 = 'other' where name = '0001_ledger'")
    with pytest.raises(psycopg.errors.RaiseException, match="0001_ledger differs"):
        push(bare)


def test_in_our_own_schema_nothing_of_ours_is_left_in_public(bare):
    push(bare)
    do(bare, "create function public.unstuck_of_the_user() returns int language sql as 'select 1'")
    push(bare, OWN)
    assert {name for name, _ in rows(bare, EXPOSED, ["service_role", "postgres"])} == {
        "unstuck_of_the_user"
    }


def test_a_verb_of_an_earlier_release_goes(bare):
    push(bare)
    do(bare, "create function unstuck.older(a int) returns int language sql as 'select 1'")
    do(
        bare,
        "create function public.unstuck_beat(a int) returns int language sql "
        "as ' select unstuck.older(a) '",
    )
    push(bare)
    assert rows(bare, "select count(*) from pg_proc where proname = 'unstuck_beat'") == [(1,)]


def test_a_function_that_comes_later_is_out_of_reach(bare):
    push(bare)
    with psycopg.connect(bare, autocommit=True) as connection:
        connection.execute("create function unstuck.later() returns int language sql as 'select 1'")
        for role in ("anon", "authenticated"):
            connection.execute(f"set role {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select unstuck.later()")
            connection.execute("reset role")


def test_without_the_roles_of_supabase_nobody_but_the_owner_may_call(empty_database):
    migrate(empty_database)
    with psycopg.connect(empty_database) as connection:
        public = (
            "select proname from pg_proc where pronamespace = 'unstuck'::regnamespace "
            "and proacl is null"
        )
        assert connection.execute(public).fetchall() == []
        to_all = (
            "select p.proname from pg_proc p, aclexplode(p.proacl) a where a.grantee = 0 "
            "and p.pronamespace = 'unstuck'::"
        )
        assert connection.execute(f"{to_all}regnamespace").fetchall() == []


def test_each_verb_may_take_as_long_as_the_store_lets_it_and_no_longer(bare):
    push(bare)
    query = "select proname, proconfig from pg_proc where starts_with(proname, 'unstuck_')"
    limits = dict(rows(bare, query))
    long_limit, short_limit = (
        [f"statement_timeout={seconds:.0f}s"]
        for seconds in (BATCH_TIMEOUT_SECONDS, VERB_TIMEOUT_SECONDS)
    )
    assert {name for name, limit in limits.items() if limit == long_limit} == {
        "unstuck_prune",
        "unstuck_tasks_sweep",
        "unstuck_tasks_batch",
        "unstuck_tasks_orphans",
        "unstuck_tasks_retain",
    }
    assert all(limit in (long_limit, short_limit) for limit in limits.values())


CRON = """
create schema cron;
create table cron.job (jobname text primary key, schedule text, command text);
create function cron.schedule(text, text, text) returns void language sql as $$
  insert into cron.job values ($1, $2, $3) on conflict (jobname) do update set schedule = $2,
    command = $3
$$;
"""
"""In the place of pg_cron, which the embedded server does not have."""


def test_with_the_schedule_it_may_be_run_again_and_the_procedure_is_nobody_elses(bare):
    policy = load()
    text = file(None, "public", pg_cron.procedures(policy) + pg_cron.schedule(policy))
    assert "create extension if not exists pg_cron;" in text
    do(bare, CRON)
    for _ in range(2):
        do(bare, text.replace("create extension if not exists pg_cron;", ""))
    assert rows(bare, "select jobname, schedule from cron.job") == [
        ("unstuck-sweep", "* * * * *"),
        ("unstuck-history", "17 3 * * *"),
    ]
    sweeping = "select command from cron.job where jobname = 'unstuck-sweep'"
    assert rows(bare, sweeping) == [("call unstuck.cron_sweep()",)]
    others = ["anon", "authenticated"]
    assert rows(bare, REACHED, others, others, others) == []
    do(bare, "call unstuck.cron_sweep()")
    assert rows(bare, "select by, ok from unstuck.sweeps") == [("pg_cron", True)]
