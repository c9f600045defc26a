-- observe: for a table without clocks of its own. Stamps when the status of a task was set, and
-- when its row was last touched, while the task is open. It refuses nothing.
create or replace function unstuck.@watch@_observe() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if tg_op = 'DELETE' then
    delete from unstuck.observed o where o.watch = '@watch@' and o.task_id = old.@key@::text;
  elsif @has_ended(new)@ then
    delete from unstuck.observed o where o.watch = '@watch@' and o.task_id = new.@key@::text;
  else
    insert into unstuck.observed as o (watch, task_id, status_at, touched_at)
    values ('@watch@', new.@key@::text, v_now, v_now)
    on conflict (watch, task_id) do update
    set touched_at = v_now,
        status_at = case
          when tg_op = 'UPDATE' and old.@status@ is distinct from new.@status@ then v_now
          else o.status_at
        end;
  end if;
  return null;
end $$;

select unstuck.keep_trigger(@table_literal@, 'unstuck_observe', $trigger$
after insert or update or delete on @table@
for each row execute function unstuck.@watch@_observe()
$trigger$);

-- Tasks that are open already count from now.
insert into unstuck.observed (watch, task_id, status_at, touched_at)
select '@watch@', t.@key@::text, clock_timestamp(), clock_timestamp()
from @table@ t
where @is_pending(t)@ or @is_running(t)@
on conflict do nothing;
