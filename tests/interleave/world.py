"""The database in which the actors meet. The shipped SQL is in it as it is: what is added stands
beside it, in the schema `testing`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import uuid4

import psycopg
import yaml

from functions.core.policy import DEFAULT, Policy, parse
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres, create_database, drop_database

MICROSECONDS = 1_000_000
LEASE_SECONDS = 30
PENDING_SECONDS = 900
SILENT_SECONDS = 900
TRIES = 2
COST, BALANCE = 10, 100
STATES = {
    "pending": "pending",
    "processing": "running",
    "queued": "pending",
    "working": "running",
    "done": "completed",
    "broken": "failed",
    "stopped": "cancelled",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""What the words of both tables mean."""
WORDS = {
    "tasks": {"pending": "pending", "running": "processing", "failed": "failed"},
    "jobs": {"pending": "queued", "running": "working", "failed": "broken"},
}
TABLES = {"tasks": "public.tasks", "jobs": "public.jobs"}
"""The table of each watch: our own, with credits; and one that was adopted, with hooks and with the
fence."""

JOBS = """
create table public.jobs (
  id text primary key,
  state text not null default 'queued',
  note text,
  result jsonb,
  because text,
  created timestamptz not null,
  due timestamptz not null,
  started timestamptz,
  seen timestamptz not null,
  finished timestamptz
);
create index on public.jobs (due) where state = 'queued';
create index on public.jobs (seen) where state = 'working';
create schema testing;
create table testing.ends (
  task_id text not null,
  number integer,
  hook text not null
);
create function testing.on_completed(text, integer, jsonb) returns void language sql as $$
  insert into testing.ends values ($1, $2, 'completed')
$$;
create function testing.on_failed(text, integer, text) returns void language sql as $$
  insert into testing.ends values ($1, $2, 'failed')
$$;
create function testing.on_cancelled(text, integer, text) returns void language sql as $$
  insert into testing.ends values ($1, $2, 'cancelled')
$$;
create function testing.on_reopened(text) returns void language sql as $$
  insert into testing.ends values ($1, null, 'reopened')
$$;
"""
JOBS_WATCH = {
    "table": "public.jobs",
    "key": "id",
    "key_type": "text",
    "status": "state",
    "words": {
        "pending": ["queued"],
        "running": ["working"],
        "completed": ["done"],
        "failed": ["broken"],
        "cancelled": ["stopped"],
    },
    "columns": {"result": "result", "error": "note", "reason": "because"},
    "clocks": {
        "queued": "due",
        "due": "due",
        "started": "started",
        "alive": "seen",
        "touched": "seen",
        "finished": "finished",
    },
    "fence": "enforce",
    "hooks": {
        hook: [f"testing.{hook}"]
        for hook in ("on_completed", "on_failed", "on_cancelled", "on_reopened")
    },
}
INSTRUMENTS = """
create function testing.clock_timestamp() returns timestamptz language sql stable
  as $$ select current_setting('testing.now')::timestamptz $$;
create function testing.pg_postmaster_start_time() returns timestamptz language sql immutable
  as $$ select '2000-01-01'::timestamptz $$;

create table testing.journal (
  seq bigint generated always as identity primary key,
  actor text not null,
  at timestamptz not null,
  entity text not null,
  task_id text not null,
  number integer,
  token uuid,
  worker text,
  was text,
  becomes text,
  reason text,
  tries integer,
  lives_until timestamptz,
  leased_until timestamptz,
  changed boolean,
  result jsonb
);
create index on testing.journal (task_id);

-- Parks the statement of an actor that is to be cut: it says so, and waits until the scheduler, who
-- holds the lock of this cut, lets it go on. This wait has no limit of its own.
create function testing.park() returns trigger language plpgsql set lock_timeout = 0 as $$
declare
  v_cut constant integer := current_setting('testing.cut')::integer + 1;
begin
  if v_cut <= current_setting('testing.cuts')::integer then
    perform set_config('testing.cut', v_cut::text, false);
    raise notice 'parked';
    perform pg_advisory_xact_lock_shared(current_setting('testing.seat')::integer, v_cut);
  end if;
  return new;
end $$;

create function testing.write_attempt() returns trigger language plpgsql as $$
begin
  insert into testing.journal (
    actor, at, entity, task_id, number, token, worker, was, becomes, reason, tries, lives_until,
    leased_until
  ) values (
    current_setting('application_name'), testing.clock_timestamp(), 'attempt',
    new.task_id, new.number, new.token, new.worker,
    case tg_op when 'INSERT' then 'none' else coalesce(old.outcome, 'live') end,
    coalesce(new.outcome, 'live'), new.reason, new.tries,
    case tg_op when 'UPDATE' then least(old.lease_until, old.deadline_at) end,
    new.lease_until
  );
  return null;
end $$;
create function testing.write_task() returns trigger language plpgsql as $$
begin
  insert into testing.journal (actor, at, entity, task_id, was, becomes, changed, result)
  select
    current_setting('application_name'), testing.clock_timestamp(), 'task',
    new.id::text,
    to_jsonb(old) ->> tg_argv[0],
    to_jsonb(new) ->> tg_argv[0],
    old.result is distinct from new.result,
    new.result;
  return null;
end $$;

-- A task before the actors come: of an owner who has paid for it, or of the adopted table. Not by
-- `create`, which took a third of the time of a schedule.
create function testing.make_task(p_watch text, p_id text, p_owner text) returns void
language plpgsql as $$
declare
  v_now constant timestamptz := testing.clock_timestamp();
begin
  if p_watch = 'jobs' then
    insert into public.jobs (id, created, due, seen) values (p_id, v_now, v_now, v_now);
    return;
  end if;
  insert into public.tasks (id, kind, owner, scheduled_at, metadata)
  values (p_id::uuid, 'k', p_owner, v_now, '{"cost": @cost@}');
  insert into public.unstuck_credits as c (owner, balance, held)
  values (p_owner, @balance@ - @cost@, @cost@)
  on conflict (owner) do update
  set balance = c.balance - @cost@,
      held = c.held + @cost@;
  insert into public.unstuck_credit_entries (owner, entry, amount, watch, task_id, open, life)
  values (p_owner, 'hold', @cost@, p_watch, p_id, true, 1);
end $$;

-- What is still open, also an attempt of a task that somebody else has ended: whether the task has
-- ended and whether it runs, when it is due and was last alive, until when it is leased, and
-- whether it was ever tried.
create function testing.open_tasks(p_ids text[]) returns json language plpgsql as $$
begin
  return (
    select coalesce(json_agg(json_build_array(
      e.has_ended,
      r.status in ('processing', 'working'),
      r.due,
      r.alive,
      (
        select least(a.lease_until, a.deadline_at)
        from unstuck.attempts a
        where a.watch = r.watch and a.task_id = r.id and a.ended_at is null
      ),
      exists (select from unstuck.attempts a where a.watch = r.watch and a.task_id = r.id)
    )), '[]')
    from (
      select
        'tasks' as watch, t.id::text as id, t.status, t.scheduled_at as due, t.updated_at as alive
      from public.tasks t
      where t.id = any (p_ids::uuid[])
      union all
      select 'jobs', j.id, j.state, j.due, j.seen
      from public.jobs j
      where j.id = any (p_ids)
    ) r
    cross join lateral (
      select r.status not in ('pending', 'processing', 'queued', 'working') as has_ended
    ) e
    where not e.has_ended
    or exists (
      select from unstuck.attempts a
      where a.watch = r.watch and a.task_id = r.id and a.ended_at is null
    )
  );
end $$;

create function testing.facts(p_watch text, p_ids text[], p_owner text) returns json
language plpgsql as $$
begin
  return json_build_object(
    'rows', (
      select json_object_agg(r.id, json_build_object('word', r.word, 'result', r.result))
      from (
        select t.id::text as id, t.status as word, t.result
        from public.tasks t
        where t.id = any (p_ids::uuid[])
        union all
        select j.id, j.state, j.result from public.jobs j where j.id = any (p_ids)
      ) r
    ),
    'attempts', (
      select coalesce(json_agg(a order by a.task_id, a.number), '[]')
      from (
        select
          a.task_id, a.number, a.tries, a.token, a.worker, a.outcome, a.reason, a.sweep_id,
          a.started_at, a.lease_until, a.deadline_at
        from unstuck.attempts a
        where a.watch = p_watch and a.task_id = any (p_ids)
      ) a
    ),
    'journal', (
      select coalesce(json_agg(j order by j.seq), '[]')
      from testing.journal j
      where j.task_id = any (p_ids)
    ),
    'entries', (
      select coalesce(json_agg(e), '[]')
      from (
        select e.task_id, e.entry
        from public.unstuck_credit_entries e
        where e.watch = 'tasks' and e.task_id = any (p_ids)
      ) e
    ),
    'balance', (
      select json_build_array(c.balance, c.held)
      from public.unstuck_credits c
      where c.owner = p_owner
    ),
    'ends', (
      select coalesce(json_agg(e), '[]') from testing.ends e where e.task_id = any (p_ids)
    ),
    'unsweepable', (
      select count(*) from unstuck.unsweepable u
      where u.watch = p_watch and u.task_id = any (p_ids)
    )
  );
end $$;

create trigger a_park before insert or update on unstuck.attempts
for each row when (current_setting('testing.cuts', true) > '0') execute function testing.park();
create trigger a_park before update on public.tasks
for each row when (current_setting('testing.cuts', true) > '0') execute function testing.park();
create trigger a_park before update on public.jobs
for each row when (current_setting('testing.cuts', true) > '0') execute function testing.park();
create trigger z_journal after insert or update on unstuck.attempts
for each row execute function testing.write_attempt();
create trigger z_journal after update on public.tasks
for each row execute function testing.write_task('status');
create trigger z_journal after update on public.jobs
for each row execute function testing.write_task('state');
"""
SESSION = """
set search_path = testing, pg_catalog, pg_temp;
set deadlock_timeout = '50ms';
set client_min_messages = notice;
set jit = off;
set plan_cache_mode = force_generic_plan;
"""
EMPTY = """
truncate public.tasks, public.jobs, public.unstuck_credits, public.unstuck_credit_entries,
  unstuck.attempts, unstuck.refusals, unstuck.operations, unstuck.outbox, unstuck.unsweepable,
  unstuck.checkpoints, unstuck.observed, unstuck.dispatches, unstuck.slots,
  testing.journal, testing.ends
"""


@cache
def policy() -> Policy:
    """The default policy with credits, and with an adopted table beside it."""
    text = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    own = text["watches"]["tasks"]
    own["optional"] = ["credits"]
    rule = own["rules"]["*"] | {"attempts": TRIES}
    own["rules"] = {"*": rule}
    text["watches"]["jobs"] = JOBS_WATCH | {"rules": {"*": rule}}
    return parse(yaml.safe_dump(text, sort_keys=False))


def rules(watch: str, **changed: Any) -> str:
    """The rules that travel with each call, with a pause before the next try that is shorter than
    a step of the clock."""
    values = json.loads(policy().watches[watch].rules_json)
    values["*"] |= {"backoff_first": 0.0001, "backoff_max": 0.0001} | changed
    return json.dumps(values)


def instruments() -> str:
    return INSTRUMENTS.replace("@cost@", str(COST)).replace("@balance@", str(BALANCE))


def install(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(JOBS)
    migrate(dsn, policy())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(instruments().encode())
        set_clock_of_triggers(connection)


def set_clock_of_triggers(connection: psycopg.Connection[Any]) -> None:
    """Triggers of ours have a search path of their own: there too the clock is the scheduler's."""
    names = connection.execute(
        "select p.oid::regprocedure::text from pg_proc p "
        "where p.pronamespace = 'unstuck'::regnamespace and p.prorettype = 'trigger'::regtype"
    ).fetchall()
    for (name,) in names:
        connection.execute(
            f"alter function {name} set search_path = testing, pg_catalog, pg_temp".encode()
        )


@contextmanager
def databases(server: Postgres, count: int) -> Iterator[list[str]]:
    """So many databases for as many processes, each a copy of the same one."""
    first = f"interleave_{uuid4().hex}"
    names = [first, *(f"{first}_{number}" for number in range(1, count))]
    create_database(server.dsn(), first)
    install(server.dsn(first))
    for name in names[1:]:
        create_database(server.dsn(), name, first)
    yield [server.dsn(name) for name in names]
    for name in names:
        drop_database(server.dsn(), name)
