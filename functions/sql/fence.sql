-- fence: refuses foreign writes that would leave a terminal state, rewrite how a task ended, or end a task that an attempt
-- holds; files what it refused. Our own settle ends the attempt first, so it passes without being known to the trigger.
-- From one word of a state to another nothing is lost: a handler that says how far it is passes too. So does a note on a task
-- that has ended, in any other column; the time of its end stays, as some triggers of the field set it at each update.
create or replace function unstuck.@watch@_fence() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_because text;
begin
  if current_setting('unstuck.override', true) = @watch_name@ then  -- an operator, by `operate`
    return new;
  end if;
  if @old_ended@ then
    v_because := 'ended';
    if (@old_state@ is not distinct from @new_state@) and not (@end_changes@) then
      @keep_finish@
      return new;
    end if;
  elsif exists (select from unstuck.attempts a where a.watch = @watch_name@ and a.task_id = @old_key@::text and a.ended_at is null) then
    v_because := 'held';
  else
    return new;
  end if;
  insert into unstuck.refusals (watch, task_id, source, wanted, because, writer)
  values (@watch_name@, @old_key@::text, 'fence', @new_status@::text, v_because, coalesce(nullif(current_setting('application_name', true), ''), session_user));
  raise warning 'unstuck: task % stays %: it is %', @old_key@, @old_status@, v_because;
  return null;
end $$;

create or replace trigger unstuck_fence before update on @table@ for each row
when (@old_state@ is distinct from @new_state@ and not @old_pending@ or @old_ended@ and (@end_changes@ or @finish_changes@))
execute function unstuck.@watch@_fence();
