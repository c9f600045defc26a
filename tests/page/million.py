"""A table like one that has run for a month: finished tasks by the thousand or million, a queue,
and every kind of trouble."""

from typing import Any

import psycopg

FILL = """
create temp table kept on commit drop as
select pg_get_indexdef(indexrelid) as definition, indexrelid::regclass::text as name
from pg_index
where indrelid in ('public.tasks'::regclass, 'unstuck.attempts'::regclass) and not indisprimary;
do $$
declare index record;
begin
  for index in select name from kept loop execute 'drop index ' || index.name; end loop;
end $$;
alter table public.tasks disable trigger all;
insert into public.tasks (kind, owner, status, error_message, reason,
                          scheduled_at, created_at, updated_at, finished_at)
select case when n % 1000 = 0 then 'rare' when n % 3 = 0 then 'selection' else 'image' end,
  'user-' || n % 1000,
  case when n % 50 = 0 then 'failed' when n % 997 = 0 then 'cancelled' else 'completed' end,
  case when n % 50 = 0 then 'It failed.' end, case when n % 50 = 0 then 'handler_error' end,
  at, at, at, at
from generate_series(1, :finished) n,
  lateral (select now() - n * (interval '30 d' / :finished) as at) c;
alter table public.tasks enable trigger all;
insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker, started_at,
                              lease, lease_until, deadline_at, beat_at, beats,
                              ended_at, outcome, reason, error, sweep_id)
select 'tasks', id::text, 1, 1, kind, gen_random_uuid(), 'worker-1', at,
  '30 s', at + '40 s', at + '10 min', at + '10 s', 1, at + '12 s', status, reason, error_message,
  case when status = 'failed' then 43200 - (extract(epoch from now() - at) / 60)::bigint end
from public.tasks, lateral (select created_at as at) c;
do $$
declare index record;
begin
  for index in select definition from kept loop execute index.definition; end loop;
end $$;
insert into unstuck.sweeps (key, by, started_at, until, ended_at, ok, counts)
select n::text, 'scheduler', at, at, at, true,
  jsonb_build_object('failed', (n % 7 = 0)::int, 'requeued', 0)
from generate_series(1, 43200) n, lateral (select now() - (43200 - n) * interval '1 min' as at) c;
insert into public.tasks (kind, owner, scheduled_at, created_at, updated_at)
select case when n % 1000 = 0 then 'rare' else 'image' end, 'user-' || n % 1000, at, at, at
from generate_series(1, :pending) n,
  lateral (select now() - n * (interval '10 min' / :pending) as at) c;
insert into public.tasks (kind, scheduled_at, created_at, updated_at)
select 'image', at, at, at
from generate_series(80, 360) n, lateral (select now() - n * interval '1 min' as at) c;
"""
HOLD = "select unstuck.tasks_claim(null, 'worker-' || n, %s) from generate_series(1, %s) n"
LOSE = """
update unstuck.attempts
set lease_until = now() - interval '10 s', beat_at = now() - interval '40 s'
where ended_at is null and abs(hashtext(task_id)) % 20 = 0
"""
KEEP = """
update unstuck.attempts
set lease_until = now() + interval '1 h', deadline_at = now() + interval '1 h'
where ended_at is null and lease_until > now()
"""


def fill(
    connection: psycopg.Connection[Any],
    rules: str,
    finished: int,
    pending: int = 10_000,
    held: int = 400,
) -> None:
    """`pending` wait in time, 281 for too long to have a turn; `held` run for an hour, one in
    twenty without a lease."""
    connection.execute("alter table public.tasks set (autovacuum_enabled = off)")
    connection.execute("alter table unstuck.attempts set (autovacuum_enabled = off)")
    connection.execute(
        FILL.replace(":finished", str(finished)).replace(":pending", str(pending)).encode()
    )
    connection.execute(HOLD, (rules, held))
    connection.execute(LOSE.encode())
    connection.execute(KEEP.encode())
    for table in ("public.tasks", "unstuck.attempts", "unstuck.sweeps"):
        connection.execute(f"vacuum (analyze) {table}".encode())
