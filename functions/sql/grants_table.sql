-- grants_table: of a table that we made, what row security does not keep: where default privileges
-- are generous, as Supabase's are, anybody could empty it or put a trigger on it.
do $$
declare
  v_role  text;
  v_right text;
begin
  foreach v_role in array array['anon', 'authenticated'] loop
    foreach v_right in array array['truncate', 'references', 'trigger', 'maintain'] loop
      continue when to_regrole(v_role) is null;
      continue when v_right = 'maintain' and current_setting('server_version_num')::int < 170000;
      execute format('revoke %s on @table@ from %I', v_right, v_role);
    end loop;
  end loop;
end $$;
