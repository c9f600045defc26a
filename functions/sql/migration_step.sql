-- @name@
do $once$
begin
  if exists (
    select from unstuck.migrations where name = '@name@' and sha256 <> '@sha256@'
  ) then
    raise exception 'migration % differs from what was applied', '@name@'
      using hint = 'A released migration is never edited: restore its text and write a new one.';
  elsif not exists (select from unstuck.migrations where name = '@name@') then
    execute $migration$
@text@
$migration$;
    @record@;
  end if;
end $once$;
