-- check_policy: a watch that is not in the policy is dropped. Where the policy shares no watch with
-- those of its installation, it is another policy's database, whose functions must stay.
do $$
declare
  v_watches text[];
begin
  if to_regclass('unstuck.migrations') is null then
    return;
  end if;
  select array_agg(substring(m.name from '^verbs[.](.+)$') order by m.name)
  into v_watches
  from unstuck.migrations m
  where m.name like 'verbs.%'
    and coalesce(to_jsonb(m) ->> 'installation', '') = '@installation@';
  if not v_watches && @watches@ then
    raise exception
      'this database has the watches of another policy (%)', array_to_string(v_watches, ', ')
      using errcode = 'object_not_in_prerequisite_state',
      hint = 'Use a database of its own, or write `installation: NAME` into this policy, or put '
        'the watches of both into one. If a watch got a new name, keep the old one beside it for '
        'one run, then leave it out.';
  end if;
end $$;
