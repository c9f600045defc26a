-- The tables that have a column which may hold a status: by its name, an enum of some words, or a
-- flag.
select c.oid::bigint, n.nspname, c.relname
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition
  and n.nspname !~ '^pg_' and n.nspname <> all (%(system_schemas)s)
  and has_schema_privilege(n.oid, 'usage')
  and exists (
    select from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and (
        t.typtype = 'e'
        or a.attname ~* '(status|state|estado|statut|zustand|phase|stage|situacao|zhuangtai|状态)'
        or t.typname = 'bool' and (
          a.attname ~* '(process|running|progress|executing|working|picked|claimed|leased|flight)'
          or a.attname ~* '(generating|procesa|bearbeitung|cours)'
        )
      )
  )
order by n.nspname, c.relname
