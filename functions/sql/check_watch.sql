-- check_watch: the functions of a watch are named after it. Where another policy has the same name
-- for another table (a second stage in one database), they would be turned to this table, and the
-- workers of the other one with them. A table that was renamed is the same one.
do $$
declare
  v_table text;
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
      hint = 'Give each stage a database of its own, or put both tables into one policy, as two '
        'watches. If the watch is to leave its table for good, give it another name.';
  end if;
end $$;
