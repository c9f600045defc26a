-- not wanted by the policy: @trigger@
do $$
begin
  if exists (
    select from pg_trigger
    where tgrelid = '@table@'::regclass
      and tgname = 'unstuck_@trigger@'
      and tgfoid = to_regprocedure('@function@')
  ) then
    drop trigger unstuck_@trigger@ on @table@;
    @forget@
  end if;
end $$;
