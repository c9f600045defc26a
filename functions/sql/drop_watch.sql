-- drop_watch: for a watch that the policy no longer has. Its functions and triggers go; its table,
-- its attempts and its refusals stay, and become those of the watch that has its table now. Not
-- while its workers run: then it may be the watch of another policy.
do $$
declare
  v_live integer;
  v_object  record;
begin
  @inherit@
  select count(*)
  into v_live
  from unstuck.attempts a
  where a.watch = '@watch@'
    and a.ended_at is null
    and a.lease_until > clock_timestamp();
  if v_live > 0 then
    raise exception 'the policy has no watch % any more, but % of its tasks run', '@watch@', v_live
      using errcode = 'object_in_use',
      hint = 'Stop its workers first. If it is the watch of another policy, put both into one.';
  end if;
  for v_object in
    select t.tgname, t.tgrelid::regclass as relation
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid
    where not t.tgisinternal
      and p.pronamespace = 'unstuck'::regnamespace
      and p.proname = any (@functions@)
  loop
    execute format('drop trigger %I on %s', v_object.tgname, v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as routine
    from pg_proc p
    where p.pronamespace = 'unstuck'::regnamespace
      and p.proname = any (@functions@)
  loop
    execute format('drop function %s', v_object.routine);
  end loop;
  delete from unstuck.observed o where o.watch = '@watch@';
  delete from unstuck.migrations m where m.name = any (@steps@);
end $$;
