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

-- Writes down that the tasks wait from now on; with `p_withdrawn` that they waited until now, and
-- are to stop.
drop function if exists unstuck.put_back(text, text[]);
create or replace function unstuck.put_back(
  p_watch text,
  p_ids text[],
  p_withdrawn boolean default false
) returns void language sql as $$
  insert into unstuck.observed as o (watch, task_id, status_at, touched_at, withdrawn)
  select p_watch, i.id, clock_timestamp(), clock_timestamp(), p_withdrawn
  from unnest(p_ids) as i (id)
  on conflict (watch, task_id) do update
  set status_at = excluded.status_at,
      touched_at = excluded.touched_at,
      withdrawn = excluded.withdrawn
$$;
