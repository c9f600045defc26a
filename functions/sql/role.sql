-- role: the rights of a login that only calls our functions, for deployed code that need not be the
-- owner of the tables: it changes rows, and no table, function or trigger.
grant usage on schema unstuck to @role@;
grant select, insert, update, delete on all tables in schema unstuck to @role@;
revoke insert, update, delete on unstuck.migrations from @role@;
grant execute on all routines in schema unstuck to @role@;

do $$
declare
  v_table regclass;
begin
  for v_table in
    select c.oid
    from pg_class c
    where c.relkind in ('r', 'p')
      and c.relrowsecurity
      and (c.relnamespace = 'unstuck'::regnamespace or c.oid = any (@tables@::regclass[]))
      and not exists (
        select from pg_policy p
        where p.polrelid = c.oid and p.polname = @policy@
      )
  loop
    execute format(
      'create policy %I on %s for all to %s using (true) with check (true)',
      @policy@, v_table, @role_literal@
    );
  end loop;
end $$;
