-- grants: our schema is for its owner and, on Supabase, for its service role; for nobody else.
-- Comes last, each time. PostgreSQL lets everybody execute a new function, and a default privilege
-- of one schema cannot take that away; but nobody else may use the schema, so what is made here
-- later is out of reach.
revoke all on schema unstuck from public;
revoke all on all tables in schema unstuck from public;
revoke execute on all routines in schema unstuck from public;

do $$
begin
  if to_regrole('anon') is null
    or to_regrole('authenticated') is null
    or to_regrole('service_role') is null
  then
    return;
  end if;
  revoke all on schema unstuck from anon, authenticated;
  revoke all on all tables in schema unstuck from anon, authenticated;
  revoke execute on all routines in schema unstuck from anon, authenticated;
  grant usage on schema unstuck to service_role;
  grant select, insert, update, delete on all tables in schema unstuck to service_role;
  grant execute on all routines in schema unstuck to service_role;
  if to_regclass('unstuck.migrations') is not null then
    revoke insert, update, delete on unstuck.migrations from service_role;
  end if;
end $$;
