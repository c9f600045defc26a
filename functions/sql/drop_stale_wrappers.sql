-- drop_stale_wrappers: functions that an earlier release or policy made for Supabase's REST API.
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid
    from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname like 'unstuck\_%'
      and p.prosrc like ' select unstuck.%'
      and not exists (  -- those of another installation stay
        select from unstuck.migrations m
        where m.name like 'verbs.%'
          and m.installation <> '@installation@'
          and starts_with(p.proname, 'unstuck_' || substring(m.name from '^verbs[.](.+)$') || '_')
      )
      and p.oid <> all (array[
      @kept@
      ]::regprocedure[])
  loop
    execute format('drop function %s', v_function);
  end loop;
end $$;
