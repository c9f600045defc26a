-- keep_trigger: makes the trigger `unstuck_...` of a watched table. Not where it is there already:
-- to make one anew locks the table, and all who write to it wait while it waits for its lock. The
-- definition is kept as the trigger's comment.
create or replace function unstuck.keep_trigger(
  p_table regclass,
  p_name text,
  p_definition text
) returns void language plpgsql as $$
begin
  if not exists (
    select from pg_trigger t
    where t.tgrelid = p_table
      and t.tgname = p_name
      and t.tgenabled <> 'D'
      and obj_description(t.oid, 'pg_trigger') = p_definition
  ) then
    execute format('create or replace trigger %I %s', p_name, p_definition);
    execute format('comment on trigger %I on %s is %L', p_name, p_table, p_definition);
  end if;
end $$;
