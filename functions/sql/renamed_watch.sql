-- renamed_watch: where the table of a watch had a watch of another name, which the policy no longer
-- has, that one's ledger and steps become those of this watch.
do $renamed$
declare
  v_old text;
begin
  select substring(m.name from '^verbs[.](.+)$')
  into v_old
  from unstuck.migrations m
  join pg_proc p
    on p.pronamespace = to_regnamespace('unstuck')
    and p.proname = substring(m.name from '^verbs[.](.+)$') || '_claim'
  where m.name like 'verbs.%'
    and substring(m.name from '^verbs[.](.+)$') <> all (@watches@)
    and coalesce(to_jsonb(m) ->> 'installation', '') in ('', '@installation@')
    and to_regclass(substring(p.prosrc from 'from ((?:"(?:[^"]|"")+"\.?)+) t\s'))
      = to_regclass(@table_literal@)
  limit 1;
  if v_old is not null then
    execute replace($text$
@text@
$text$, '@placeholder@', v_old);
  end if;
end $renamed$;
