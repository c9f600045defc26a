-- credits: what a task costs is held when it is created, captured when it is completed, and
-- released when it fails or is cancelled. Hooks do it, in the same transaction: so never without
-- the end of the task, and never twice. Amounts are whole cents. What an owner has left (`balance`)
-- is never below 0, whatever happens at the same time. For each owner:
--   balance = grants - holds + releases
--   held    = holds - captures - releases

create table if not exists public.unstuck_credits (
  owner   text   primary key,
  balance bigint not null default 0 check (balance >= 0),
  held    bigint not null default 0 check (held >= 0)
);

-- The ledger: rows are added, and never changed but for the flag of a hold that has ended.
create table if not exists public.unstuck_credit_entries (
  id      bigint      generated always as identity primary key,
  at      timestamptz not null default clock_timestamp(),
  owner   text        not null references public.unstuck_credits,
  entry   text        not null check (entry in ('grant', 'hold', 'capture', 'release')),
  amount  bigint      not null check (amount > 0 or entry = 'grant'),
  watch   text,
  task_id text,
  life    integer,                             -- 1; one more at each reopening of an ended task
  open    boolean     not null default false,  -- a hold that has not ended
  key     text        unique,                  -- of a grant: what makes it safe to repeat
  note    text,
  check (open <= (entry = 'hold')),
  check ((entry = 'grant') = (task_id is null)),
  unique (watch, task_id, life, entry)
);
-- One open hold for a task, whatever the code does. Each sweep reads it to find holds that nobody
-- ended.
create unique index if not exists unstuck_credit_holds
  on public.unstuck_credit_entries (watch, task_id)
  where open;
-- A hold ends once: captured or released.
create unique index if not exists unstuck_credit_ends
  on public.unstuck_credit_entries (watch, task_id, life)
  where entry in ('capture', 'release');
create index if not exists unstuck_credit_owner on public.unstuck_credit_entries (owner, id);

-- A user who is logged in reads their own account; only the service role writes.
alter table public.unstuck_credits enable row level security;
alter table public.unstuck_credit_entries enable row level security;
do $$
begin
  if to_regrole('authenticated') is null
    or to_regrole('service_role') is null
    or to_regprocedure('auth.uid()') is null
  then
    return;
  end if;
  revoke all on public.unstuck_credits, public.unstuck_credit_entries from anon, authenticated;
  revoke all on sequence public.unstuck_credit_entries_id_seq from anon, authenticated;
  grant select on public.unstuck_credits, public.unstuck_credit_entries to authenticated;
  grant select, insert, update on public.unstuck_credits, public.unstuck_credit_entries
    to service_role;
  drop policy if exists unstuck_owner_reads on public.unstuck_credits;
  create policy unstuck_owner_reads on public.unstuck_credits
    for select to authenticated using (owner = (select auth.uid())::text);
  drop policy if exists unstuck_owner_reads on public.unstuck_credit_entries;
  create policy unstuck_owner_reads on public.unstuck_credit_entries
    for select to authenticated using (owner = (select auth.uid())::text);
end $$;

-- Credits for an owner: bought, given, or (below 0) taken back. `p_key`, such as the payment's id,
-- makes it safe to repeat. Returns what the owner has left.
create or replace function public.unstuck_credits_grant(
  p_owner text,
  p_amount bigint,
  p_key text,
  p_note text default null
) returns bigint language plpgsql as $$
begin
  insert into public.unstuck_credits (owner) values (p_owner) on conflict do nothing;
  insert into public.unstuck_credit_entries (owner, entry, amount, key, note)
  values (p_owner, 'grant', p_amount, p_key, p_note)
  on conflict (key) do nothing;
  if found then
    update public.unstuck_credits c
    set balance = c.balance + p_amount
    where c.owner = p_owner;
  elsif not exists (
    select from public.unstuck_credit_entries e
    where e.key = p_key and e.owner = p_owner and e.amount = p_amount
  ) then
    raise exception 'the key % was used for another grant', p_key using errcode = 'PT409';
  end if;
  return (select c.balance from public.unstuck_credits c where c.owner = p_owner);
end $$;
revoke all on function public.unstuck_credits_grant(text, bigint, text, text) from public;
do $$
begin
  if to_regrole('service_role') is not null then
    revoke all on function public.unstuck_credits_grant(text, bigint, text, text)
      from anon, authenticated;
    grant execute on function public.unstuck_credits_grant(text, bigint, text, text)
      to service_role;
  end if;
end $$;

-- Holds the amount for a task, once while it is open. For a table that is not our own its
-- application calls it, in the transaction that inserts the task.
create or replace function unstuck.credits_hold(
  p_watch text,
  p_task text,
  p_owner text,
  p_amount bigint
) returns void language plpgsql as $$
begin
  if coalesce(p_amount, 0) = 0 then
    return;
  elsif p_owner is null then
    raise exception 'The task costs % cents and has no owner who pays.', p_amount
      using errcode = 'PT400';
  end if;
  insert into public.unstuck_credits (owner) values (p_owner) on conflict do nothing;
  insert into public.unstuck_credit_entries (owner, entry, amount, watch, task_id, open, life)
  select p_owner, 'hold', p_amount, p_watch, p_task, true, count(*) + 1
  from public.unstuck_credit_entries e
  where e.watch = p_watch
    and e.task_id = p_task
    and e.entry = 'hold'
  on conflict (watch, task_id) where open do nothing;
  if not found then
    return;
  end if;
  update public.unstuck_credits c
  set balance = c.balance - p_amount,
      held = c.held + p_amount
  where c.owner = p_owner
    and c.balance >= p_amount;
  if not found then
    raise exception 'The task costs % cents, and % are left.',
      p_amount, (select c.balance from public.unstuck_credits c where c.owner = p_owner)
      using errcode = 'PT402';
  end if;
end $$;

-- Ends the hold of a task: `p_entry` is capture or release. Where nothing is held, nothing happens.
create or replace function unstuck.credits_end(p_watch text, p_task text, p_entry text)
returns void language plpgsql as $$
declare
  v_hold record;
begin
  update public.unstuck_credit_entries e
  set open = false
  where e.watch = p_watch
    and e.task_id = p_task
    and e.open
  returning e.owner, e.amount, e.life into v_hold;
  if not found then
    return;
  end if;
  insert into public.unstuck_credit_entries (owner, entry, amount, watch, task_id, life)
  values (v_hold.owner, p_entry, v_hold.amount, p_watch, p_task, v_hold.life);
  update public.unstuck_credits c
  set held = c.held - v_hold.amount,
      balance = c.balance + case p_entry when 'release' then v_hold.amount else 0 end
  where c.owner = v_hold.owner;
end $$;

-- The hooks of @watch@.

create or replace function unstuck.@watch@_credits_on_created(p_task text) returns void
language plpgsql as $$
begin
  perform unstuck.credits_hold('@watch@', p_task, @owner(t)@, @cost(t)@)
  from @table@ t
  where t.@key@ = p_task::@key_type@;
end $$;

create or replace function unstuck.@watch@_credits_on_completed(
  p_task text,
  p_number integer,
  p_result jsonb
) returns void language plpgsql as $$
begin
  perform unstuck.credits_end('@watch@', p_task, 'capture');
end $$;

create or replace function unstuck.@watch@_credits_on_failed(
  p_task text,
  p_number integer,
  p_reason text
) returns void language plpgsql as $$
begin
  perform unstuck.credits_end('@watch@', p_task, 'release');
end $$;

create or replace function unstuck.@watch@_credits_on_cancelled(
  p_task text,
  p_number integer,
  p_reason text
) returns void language plpgsql as $$
begin
  perform unstuck.credits_end('@watch@', p_task, 'release');
end $$;

-- Opened again after an end: the same amount is held once more, or the task stays ended.
create or replace function unstuck.@watch@_credits_on_reopened(p_task text) returns void
language plpgsql as $$
begin
  perform unstuck.credits_hold('@watch@', p_task, l.owner, l.amount)
  from (
    select e.owner, e.amount
    from public.unstuck_credit_entries e
    where e.watch = '@watch@' and e.task_id = p_task and e.entry = 'hold'
    order by e.life desc
    limit 1
  ) l;
end $$;

-- Tasks that others have ended or deleted, past our verbs: each sweep ends their holds. A task that
-- is locked is left to the next one. No sequential scans: a plan that was made while the ledger was
-- small would be kept while it grows.
create or replace function unstuck.@watch@_credits_on_swept() returns void
language plpgsql set enable_seqscan = off set jit = off as $$
begin
  perform unstuck.credits_end(
    '@watch@', s.task_id, case s.state when 'completed' then 'capture' else 'release' end
  )
  from (
    select e.task_id, e.owner, @state(t)@ as state
    from public.unstuck_credit_entries e
    join @table@ t on t.@key@ = e.task_id::@key_type@
    where e.watch = '@watch@'
      and e.open
      and @state(t)@ in ('completed', 'failed', 'cancelled')
    for update of t skip locked
  ) s
  order by s.owner, s.task_id;
  perform unstuck.credits_end('@watch@', s.task_id, 'release')
  from (
    select e.task_id, e.owner
    from public.unstuck_credit_entries e
    where e.watch = '@watch@'
      and e.open
      and not exists (select from @table@ t where t.@key@ = e.task_id::@key_type@)
  ) s
  order by s.owner, s.task_id;
end $$;
