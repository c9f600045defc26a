-- check_policy: a watch that is not in the policy is dropped. Where the policy shares no watch with
-- the database, it is another policy's database, whose functions must stay.
do $$
declare
  v_watches text[];
begin
  select array_agg(substring(p.proname from '^(.+)_claim$') order by p.proname)
  into v_watches
  from pg_proc p
  where p.pronamespace = to_regnamespace('unstuck')
    and p.proname ~ '._claim$';
  if not v_watches && @watches@ then
    raise exception
      'this database has the watches of another policy (%)', array_to_string(v_watches, ', ')
      using errcode = 'object_not_in_prerequisite_state',
      hint = 'Use a database of its own, or put the watches of both into one policy. If a watch '
        'got a new name, keep the old one beside it for one run, then leave it out.';
  end if;
end $$;
