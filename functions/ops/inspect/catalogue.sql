-- All that the catalogue knows of one table, as one JSON object: one round trip.
with recursive base (oid, at, width, checks) as (
  -- The type below a domain, its width, and the checks on the way down.
  select t.oid, t.oid, -1, '{}'::text[]
  from pg_type t
  where t.oid in (
    select a.atttypid from pg_attribute a where a.attrelid = %(oid)s::oid and a.attnum > 0
  )
  union all
  select
    b.oid,
    t.typbasetype,
    case when t.typtypmod >= 0 then t.typtypmod else b.width end,
    b.checks || array(
      select pg_get_constraintdef(k.oid) from pg_constraint k where k.contypid = t.oid
    )
  from base b join pg_type t on t.oid = b.at
  where t.typtype = 'd'
)
select json_build_object(
  'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'oid', c.oid::bigint,
  'owner', pg_get_userbyid(c.relowner),
  'may_read', has_table_privilege(c.oid, 'select'),
  'may_write', has_table_privilege(c.oid, 'update') or has_any_column_privilege(c.oid, 'update'),
  'row_security', row_security_active(c.oid) and not (
    -- a policy that lets the role see each row, and none that takes some away
    select coalesce(
      bool_or(p.polpermissive and o.shows) and bool_and(p.polpermissive or o.shows),
      false
    )
    from pg_policy p
      cross join lateral (select pg_get_expr(p.polqual, p.polrelid) = 'true' as shows) o
    where p.polrelid = c.oid
      and p.polcmd in ('*', 'r')
      and exists (
        select from unnest(p.polroles) r (oid)
        where case when r.oid = 0 then true else pg_has_role(r.oid, 'usage') end
      )
  ),
  'zone', coalesce(
    (
      select split_part(s, '=', 2)
      from pg_db_role_setting r, unnest(r.setconfig) s
      where r.setdatabase in (
          0, (select oid from pg_database where datname = current_database())
        )
        and r.setrole in (0, (select oid from pg_roles where rolname = current_user))
        and lower(s) like 'timezone=%%'
      order by r.setrole desc, r.setdatabase desc
      limit 1
    ),
    (select reset_val from pg_settings where name = 'TimeZone')
  ),
  'comment', coalesce(obj_description(c.oid, 'pg_class'), ''),
  'key', coalesce((
    select json_agg(a.attname order by k.at)
    from pg_index i, unnest(i.indkey) with ordinality k (num, at), pg_attribute a
    where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.num
  ), '[]'),
  'columns', (
    select json_agg(json_build_object(
      'name', a.attname, 'type', t.typname, 'shown', format_type(a.atttypid, a.atttypmod),
      'width', case
        when t.typname in ('varchar', 'bpchar')
        then nullif(greatest(a.atttypmod, b.width), -1) - 4
        when t.typname in ('timestamp', 'timestamptz')
          and greatest(a.atttypmod, b.width) between 0 and 5
        then greatest(a.atttypmod, b.width)
      end,
      'not_null', a.attnotnull or d.typnotnull,
      'generated', a.attgenerated <> '' or a.attidentity = 'a',
      'default', coalesce(
        pg_get_expr(f.adbin, f.adrelid),
        case when a.attidentity <> '' then 'identity' end,
        d.typdefault
      ),
      'labels', (
        select coalesce(json_agg(e.enumlabel order by e.enumsortorder), '[]')
        from pg_enum e
        where e.enumtypid = t.oid
      ),
      'checks', b.checks, 'comment', coalesce(col_description(c.oid, a.attnum), ''),
      'points_to', (
        select r.confrelid::bigint
        from pg_constraint r
        where r.conrelid = c.oid and r.contype = 'f' and r.conkey = array[a.attnum]
        limit 1
      )
    ) order by a.attnum)
    from pg_attribute a
      join pg_type d on d.oid = a.atttypid
      join base b on b.oid = a.atttypid
      join pg_type t on t.oid = b.at and t.typtype <> 'd'
      left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ),
  'checks', coalesce((
    select json_agg(json_build_object(
      'name', k.conname, 'text', pg_get_constraintdef(k.oid),
      'columns', array(
        select a.attname::text
        from pg_attribute a
        where a.attrelid = c.oid and a.attnum = any (k.conkey)
      )
    ) order by k.conname)
    from pg_constraint k
    where k.conrelid = c.oid and k.contype = 'c'
  ), '[]'),
  'indexes', coalesce((
    select json_agg(json_build_object(
      'name', x.relname, 'unique', i.indisunique, 'method', m.amname,
      'columns', array(
        select coalesce((
          select a.attname::text
          from pg_attribute a
          where a.attrelid = c.oid and a.attnum = k.num
        ), '')
        from unnest(i.indkey) with ordinality k (num, at)
        where k.at <= i.indnkeyatts
        order by k.at
      ),
      'where', coalesce(pg_get_expr(i.indpred, i.indrelid), '')
    ) order by x.relname)
    from pg_index i
      join pg_class x on x.oid = i.indexrelid
      join pg_am m on m.oid = x.relam
    where i.indrelid = c.oid and i.indisvalid
  ), '[]'),
  'triggers', coalesce((
    select json_agg(json_build_object(
      'name', g.tgname, 'before_update', g.tgtype::int & 18 = 18, 'source', p.prosrc
    ) order by g.tgname)
    from pg_trigger g join pg_proc p on p.oid = g.tgfoid
    where g.tgrelid = c.oid and not g.tgisinternal and g.tgenabled <> 'D'
  ), '[]'),
  'reads', coalesce((  -- of a view: the tables below it
    select json_agg(distinct u.oid::regclass::text)
    from pg_rewrite w
      join pg_depend p on p.classid = 'pg_rewrite'::regclass and p.objid = w.oid
      join pg_class u on p.refclassid = 'pg_class'::regclass and u.oid = p.refobjid
    where w.ev_class = c.oid and u.oid <> c.oid and u.relkind in ('r', 'p')
  ), '[]')
)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = %(oid)s::oid
