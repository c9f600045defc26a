-- All tables and what is like one, and whether a name without a schema finds it.
select c.oid::bigint, n.nspname, c.relname, n.nspname = any (current_schemas(false))
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and n.nspname <> 'information_schema'
  and n.nspname !~ '^pg_'
