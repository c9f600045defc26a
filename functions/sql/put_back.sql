-- put_back: a task that is put back waits from that moment, whoever put it back: also where no
-- column of the table tells it. Stamps when a task that had ended, ran or rested is pending again;
-- our own verbs pass, since they write it down themselves. It refuses nothing. Where the role of
-- the migration may not have triggers on the table, it goes without; `doctor` says so.
create or replace function unstuck.@watch@_put_back() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_pass constant text := current_setting('unstuck.override', true);
begin
  if v_pass = '@watch@' or v_pass = '@watch@' || '/' || pg_trigger_depth() - 1 then
    return null;
  end if;
  perform unstuck.put_back('@watch@', array[new.@key@::text]);
  return null;
end $$;

do $$
begin
  perform unstuck.keep_trigger(@table_literal@, 'unstuck_put_back', $trigger$
after update on @table@
for each row when ((@is_pending(new)@) and (@is_pending(old)@) is not true)
execute function unstuck.@watch@_put_back()
$trigger$);
exception when insufficient_privilege or wrong_object_type or feature_not_supported then
  raise warning
    'unstuck: no trigger on % sees that a task is put back: %', @table_literal@, sqlerrm;
end $$;
