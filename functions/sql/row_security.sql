-- row_security: a user who is logged in reads their own tasks, and writes nothing; only the service
-- role does. A change of a task reaches the clients that listen (Realtime checks this policy too).
revoke all on @table@ from public, anon, authenticated;
grant select on @table@ to authenticated;
grant select, insert, update, delete on @table@ to service_role;
alter table @table@ enable row level security;
drop policy if exists unstuck_owner_reads on @table@;
create policy unstuck_owner_reads on @table@ for select to authenticated
using (owner = (select auth.uid())::text);

do $$
begin
  if exists (
    select from pg_publication
    where pubname = 'supabase_realtime' and not puballtables
  ) and not exists (
    select from pg_publication_rel r
    join pg_publication p on p.oid = r.prpubid
    where p.pubname = 'supabase_realtime' and r.prrelid = '@table@'::regclass
  ) then
    alter publication supabase_realtime add table @table@;
  end if;
end $$;
