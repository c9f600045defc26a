-- put_back: a task that is put back waits from that moment, and one that is taken runs from that
-- moment, whoever did it: also where no column of the table tells it. Stamps when a task that had
-- ended, ran or rested is pending again, and when a task is running that was not (one that is to
-- stop is not taken by that: if it waited, nobody holds it); forgets it when it ends. Our own verbs
-- pass, since they write it down themselves. It refuses nothing. Where the role of the migration
-- may not have triggers on the table, it goes without; `doctor` says so.
create or replace function unstuck.@watch@_put_back() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if @waits_by_word(new)@ and (@waits_by_word(old)@) is not true
    or @runs_by_word(new)@ and not (@is_stopping(new)@) and (@runs_by_word(old)@) is not true
  then
    perform unstuck.put_back('@watch@', array[new.@key@::text]);
  elsif @stops_by_word(new)@ and @waits_by_word(old)@ and not exists (
    select from unstuck.attempts a
    where a.watch = '@watch@' and a.task_id = new.@key@::text and a.ended_at is null
  ) then
    perform unstuck.put_back('@watch@', array[new.@key@::text], true);
  elsif @has_ended(new)@ then
    delete from unstuck.observed o where o.watch = '@watch@' and o.task_id = new.@key@::text;
  end if;
  return null;
end $$;

do $$
begin
  perform unstuck.keep_trigger(@table_literal@, 'unstuck_put_back', $trigger$
after update on @table@
for each row when (
  (@tells_state(old)@) is distinct from (@tells_state(new)@)
  and coalesce(current_setting('unstuck.override', true), '')
    not in ('@watch@', '@watch@/' || pg_trigger_depth())
) execute function unstuck.@watch@_put_back()
$trigger$);
exception when insufficient_privilege or wrong_object_type or feature_not_supported then
  raise warning
    'unstuck: no trigger on % sees that a task is put back: %', @table_literal@, sqlerrm;
end $$;
