"""The stores that the suite is run against, and a database with three watches: the own table, one
with hooks, and one that was there before. The stores are only used by their verbs; `db` is another
connection, to set up and to look."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from functions.core.policy import Policy, Watch, parse
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.supabase import SupabaseStore
from tests.sql import install_clock
from tests.store.pooler import Pooler
from tests.supabase.stack import SECRET_KEY, Supabase, bootstrap

STORES = ("postgres", "pooler", "supabase")
"""By psycopg, directly or through PgBouncer in transaction mode, and by the REST API."""
AWAY: dict[str, Callable[[int], Store]] = {
    "postgres": lambda port: PostgresStore(f"postgresql://postgres@127.0.0.1:{port}/none"),
    "supabase": lambda port: SupabaseStore(f"http://127.0.0.1:{port}", SECRET_KEY),
}
"""Stores of a server that is not there, at that port."""

OWN = """
    own: true
    key: id
    key_type: uuid
    status: status
    words: {pending: [pending], running: [processing], completed: [completed], failed: [failed],
      cancelled: [cancelled]}
    columns:
      {kind: kind, input: input, result: result, error: error_message, reason: reason, owner:
        owner, priority: priority, callback: callback_url}
    clocks:
      {queued: scheduled_at, due: scheduled_at, started: started_at, alive: updated_at, touched:
        updated_at,
       finished: finished_at}
    rules:
      "*": &default
        pending_for: 15m
        redispatch_after: 2m
        run_for: 570s
        silent_for: 15m
        attempts: 3
        backoff: {first: 2s, factor: 4, max: 20s}
        on_lost: retry
        on_error: retry
        isolation: process
        memory: 400MB
      hasty: {pending_for: 1m, redispatch_after: 20s, run_for: 50s}
      patient: {pending_for: 2h, silent_for: 1h}
      once: {attempts: 1}
      alone: {one_active: true}
      fails: {on_lost: fail}
      uncertain: {on_lost: uncertain}
"""
POLICY = f"""
platform: {{timeout: 600s, margin: 15s}}
lease: {{beat: 10s, for: 30s}}
sweep: {{every: 60s, budget: 45s, batch: 500, retention: 30d, mass_expiry: {{at_least: 10, share:
  0.5}}}}
watches:
  tasks:
    table: public.tasks
{OWN}
  hooked:
    table: public.hooked
    notify: true
    hooks:
      on_created: public.hooked_created
      on_completed: [public.hooked_completed, public.hooked_ended]
      on_failed: public.hooked_failed
      on_cancelled: public.hooked_cancelled
      on_reopened: public.hooked_reopened
      on_swept: public.hooked_swept
{OWN.replace("&default", "&hooked")}
  jobs:
    table: public.Media Jobs
    key: Job
    key_type: bigint
    status: State
    words:
      pending: [queued, waiting]
      running: [rendering, uploading]
      completed: [done, archived]
      failed: [broken]
      cancelled: [withdrawn]
      resting: [paused]
    columns: {{kind: Kind, attempts: Tries, attempts_at_most: At most}}
    clocks: {{queued: [queued_at, created_at], alive: [touched_at, created_at], touched:
      touched_at}}
    asked_to_stop: "Stop it"
    ended: over_at
    types: {{"Stop it": boolean, Tries: smallint, At most: smallint}}
    rules:
      "*": *default
"""
THEIRS = """
create table public."Media Jobs" (
  "Job" bigint generated always as identity primary key,
  "Kind" text not null default 'render',
  "State" text not null default 'queued',
  created_at timestamptz not null default clock_timestamp(),
  queued_at timestamptz,
  touched_at timestamptz,
  "Stop it" boolean not null default false,
  over_at timestamptz,
  "Tries" smallint not null default 0,
  "At most" smallint
);
create table public.said (hook text not null, task_id text not null, number integer, what text,
  refuse boolean);
create function public.hooked_created(p_task text) returns void language plpgsql as $$
begin
  if exists (select from public.hooked h where h.id = p_task::uuid and h.metadata ? 'dear') then
    raise exception 'It costs too much.' using errcode = 'PT402';
  end if;
  insert into public.said values ('created', p_task);
end $$;
create function public.hooked_completed(p_task text, p_number integer,
  p_result jsonb) returns void language plpgsql as $$
begin
  if p_result ? 'refuse' then
    raise exception 'the hook refuses %', p_task;
  end if;
  insert into public.said values ('completed', p_task, p_number, p_result::text);
end $$;
create function public.hooked_failed(p_task text, p_number integer,
  p_reason text) returns void language plpgsql as $$
begin
  if exists (select from public.hooked h where h.id = p_task::uuid and h.metadata ? 'refuse') then
    raise exception 'the hook refuses %', p_task;
  end if;
  insert into public.said values ('failed', p_task, p_number, p_reason);
end $$;
create function public.hooked_ended(p_task text, p_number integer,
  p_result jsonb) returns void language sql
  as $$ insert into public.said values ('ended', p_task, p_number) $$;
create function public.hooked_cancelled(p_task text, p_number integer,
  p_reason text) returns void language sql
  as $$ insert into public.said values ('cancelled', p_task, p_number, p_reason) $$;
create function public.hooked_reopened(p_task text) returns void language plpgsql as $$
begin
  if exists (select from public.hooked h where h.id = p_task::uuid and h.metadata ? 'closed') then
    raise exception 'the hook refuses %', p_task;
  end if;
  insert into public.said values ('reopened', p_task);
end $$;
create function public.hooked_swept() returns void language sql as $$ insert into public.said
  values ('swept', '-') $$;
"""
EMPTY = """
delete from public.tasks; delete from public.hooked; delete from public."Media Jobs"; delete
  from public.said;
delete from unstuck.attempts; delete from unstuck.sweeps; delete from unstuck.refusals; delete
  from unstuck.dispatches;
delete from unstuck.operations; delete from unstuck.unsweepable;
delete from unstuck.outbox; delete from unstuck.pauses; delete from unstuck.slots;
delete from unstuck.rotations; delete from unstuck.kept;
reset all
"""  # truncate took 11 ms, this 0.4


@pytest.fixture(scope="session")
def policy() -> Policy:
    return parse(POLICY)


@pytest.fixture(scope="session")
def conformance(postgres: Postgres, policy: Policy) -> Iterator[str]:
    name = f"conformance_{uuid4().hex}"
    create_database(postgres.dsn(), name)
    dsn = postgres.dsn(name)
    bootstrap(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(THEIRS)
        connection.execute("grant insert on public.said to service_role")
        migrate(dsn, policy, "public")
        install_clock(connection)
    yield dsn
    drop_database(postgres.dsn(), name)


@pytest.fixture(scope="session")
def connection(conformance: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(conformance, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def db(connection: psycopg.Connection[dict[str, Any]]) -> psycopg.Connection[dict[str, Any]]:
    """A connection to set up and to look; all tables are empty."""
    connection.execute(EMPTY)
    return connection


@pytest.fixture(scope="module")
def pooler(conformance: str) -> Iterator[Pooler]:
    """Its connections to the server are those of a module: other tests count theirs."""
    with Pooler(conformance) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def rest(conformance: str) -> Iterator[Supabase]:
    with Supabase(conformance) as stack:
        yield stack


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, conformance: str, db: object) -> Iterator[Store]:
    made = _store(request, conformance)
    yield made
    made.close()


def _store(request: pytest.FixtureRequest, dsn: str) -> Store:
    if request.param == "supabase":
        stack = request.getfixturevalue("rest")
        return SupabaseStore(stack.url, stack.key)
    return PostgresStore(
        request.getfixturevalue("pooler").dsn if request.param == "pooler" else dsn
    )


@pytest.fixture(scope="session")
def tasks(policy: Policy) -> Watch:
    return policy.watch("tasks")


@pytest.fixture(scope="session")
def hooked(policy: Policy) -> Watch:
    return policy.watch("hooked")


@pytest.fixture(scope="session")
def jobs(policy: Policy) -> Watch:
    return policy.watch("jobs")
