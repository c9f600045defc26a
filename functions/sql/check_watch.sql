-- check_watch: the functions of a watch are named after it. Where another policy has the same name
-- for another table (a second stage in one database), they would be turned to this table, and the
-- workers of the other one with them. A table that was renamed is the same one. Nor may a table
-- have two watches of two installations: each would have a ledger of its own.
do $$
declare
  v_table text;
  v_other text;
begin
  select substring(p.prosrc from 'from ((?:"(?:[^"]|"")+"\.?)+) t\s')
  into v_table
  from pg_proc p
  where p.pronamespace = to_regnamespace('unstuck')
    and p.proname = '@watch@_claim';
  if to_regclass(v_table) is not null
    and to_regclass(v_table) is distinct from to_regclass(@table_literal@)
  then
    raise exception
      'the watch % of this database belongs to the table %, and the policy names the table %',
      '@watch@', v_table, @table_literal@
      using errcode = 'object_not_in_prerequisite_state',
      hint = 'Write `installation: NAME` into this policy, or give it a database of its own, or '
        'put both tables into one policy, as two watches. If the watch is to leave its table for '
        'good, give it another name.';
  end if;
  if to_regclass('unstuck.migrations') is null then
    return;
  end if;
  select m.name
  into v_other
  from unstuck.migrations m
  join pg_proc p
    on p.pronamespace = to_regnamespace('unstuck')
    and p.proname = substring(m.name from '^verbs[.](.+)$') || '_claim'
  where m.name like 'verbs.%'
    and m.name <> 'verbs.' || '@watch@'
    and coalesce(to_jsonb(m) ->> 'installation', '') not in ('', '@installation@')
    and to_regclass(substring(p.prosrc from 'from ((?:"(?:[^"]|"")+"\.?)+) t\s'))
      = to_regclass(@table_literal@)
  limit 1;
  if v_other is not null then
    raise exception 'the table % is guarded by the watch % of another installation',
      @table_literal@, substring(v_other from '^verbs[.](.+)$')
      using errcode = 'object_not_in_prerequisite_state',
      hint = 'One installation guards a table. Name another table, or drop that watch first.';
  end if;
end $$;
