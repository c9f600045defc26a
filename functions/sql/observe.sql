-- observe: for a table without clocks of its own. Stamps when the status of a task was set, and when its row was last
-- touched, while the task is open. It refuses nothing.
create or replace function unstuck.@watch@_observe() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if tg_op = 'DELETE' then
    delete from unstuck.observed o where o.watch = @watch_name@ and o.task_id = @old_key@::text;
  elsif @new_ended@ then
    delete from unstuck.observed o where o.watch = @watch_name@ and o.task_id = @new_key@::text;
  else
    insert into unstuck.observed as o (watch, task_id, status_at, touched_at) values (@watch_name@, @new_key@::text, v_now, v_now)
    on conflict (watch, task_id) do update set touched_at = v_now,
      status_at = case when tg_op = 'UPDATE' and @old_status@ is distinct from @new_status@ then v_now else o.status_at end;
  end if;
  return null;
end $$;

create or replace trigger unstuck_observe after insert or update or delete on @table@ for each row
execute function unstuck.@watch@_observe();

-- Tasks that are open already count from now.
insert into unstuck.observed (watch, task_id, status_at, touched_at)
select @watch_name@, @key@::text, clock_timestamp(), clock_timestamp() from @table@ t where @is_pending@ or @is_running@
on conflict do nothing;
