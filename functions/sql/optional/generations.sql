-- generations: what a completed task has made, a row for each output, in the transaction that
-- completes it. The result of a handler is {"outputs": [...]}, each an object with its `url`, or a
-- url; a result without `outputs` is one output.

create table if not exists public.unstuck_generations (
  id       uuid        primary key default gen_random_uuid(),
  watch    text        not null,
  task_id  text        not null,
  position integer     not null,  -- 1, 2, ... : among the outputs of its task
  owner    text,
  kind     text        not null,
  url      text,
  output   jsonb       not null,
  at       timestamptz not null default clock_timestamp(),
  unique (watch, task_id, position)
);
create index if not exists unstuck_generations_owner
  on public.unstuck_generations (owner, at)
  where owner is not null;

-- A user who is logged in reads their own; only the service role writes.
alter table public.unstuck_generations enable row level security;
do $$
begin
  if to_regrole('authenticated') is null
    or to_regrole('service_role') is null
    or to_regprocedure('auth.uid()') is null
  then
    return;
  end if;
  revoke all on public.unstuck_generations from anon, authenticated;
  grant select on public.unstuck_generations to authenticated;
  grant select, insert, update, delete on public.unstuck_generations to service_role;
  drop policy if exists unstuck_owner_reads on public.unstuck_generations;
  create policy unstuck_owner_reads on public.unstuck_generations
    for select to authenticated using (owner = (select auth.uid())::text);
end $$;

-- The hook of @watch@.
create or replace function unstuck.@watch@_generations_on_completed(
  p_task text,
  p_number integer,
  p_result jsonb
) returns void language plpgsql as $$
begin
  insert into public.unstuck_generations (watch, task_id, position, owner, kind, url, output)
  select
    '@watch@',
    p_task,
    o.position,
    @owner(t)@,
    @kind(t)@,
    case jsonb_typeof(o.output)
      when 'string' then o.output #>> '{}'
      else o.output ->> 'url'
    end,
    o.output
  from @table@ t, jsonb_array_elements(case
    when jsonb_typeof(p_result -> 'outputs') = 'array' then p_result -> 'outputs'
    when jsonb_typeof(p_result) = 'object' then jsonb_build_array(p_result)
    else '[]'
  end) with ordinality as o (output, position)
  where t.@key@ = p_task::@key_type@
  on conflict (watch, task_id, position) do nothing;
end $$;
