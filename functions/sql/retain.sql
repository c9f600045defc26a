-- retain: the retention of ended tasks, a bounded number in each run of the sweep: the result of a
-- task first, its row later, each when the rule of its kind says so. What a rule does not name
-- stays. A row that the database refuses to delete, such as one to which another table refers, is
-- written down as kept and left for a day: it must not keep the others. Each search is in the order
-- of its index: any other plan reads again what was deleted since the last vacuum. Answers how many
-- results and rows went.
create or replace function unstuck.@watch@_retain(p_rules jsonb, p_limit integer default 500)
returns jsonb language plpgsql set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_results integer := 0;
  v_rows    integer := 0;
  v_until   timestamptz;
  v_keys    @key_type@[];
  v_tried   @key_type@[] := '{}';
begin
  if not @retains@ or not unstuck.names_retention(p_rules) then
    return jsonb_build_object('results', 0, 'rows', 0);
  end if;
  @as_role@
  if @has_result@ then
    perform set_config('unstuck.override', '@watch@' || '/' || pg_trigger_depth(), true);
    update @table@ t
    set @no_result(t)@
    where t.@key@ = any (array(
      select o.@key@
      from @table@ o
      where @is_completed(o)@
        and @result(o)@ is not null
        and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_result')
        and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_result')
      order by @finished(o)@
      limit p_limit
      for update skip locked
    ));
    get diagnostics v_results = row_count;
    perform set_config('unstuck.override', '', true);
  end if;
  -- A foreign key that is checked at the end of the transaction, as each of Django's, would take
  -- all back there.
  set constraints all immediate;
  -- Locks and deletes are in one subtransaction: what is deleted in another one than it was locked
  -- in gets a multixact, and no search learns that it is gone before the next vacuum.
  begin
    v_keys := array(
      select o.@key@
      from @table@ o
      where @is_completed(o)@
        and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_completed')
        and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_completed')
        and not unstuck.is_kept('@watch@', o.@key@::text, v_now)
      order by @finished(o)@
      limit p_limit
      for update skip locked
    ) || array(
      select o.@key@
      from @table@ o
      where @is_failed(o)@
        and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_failed')
        and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_failed')
        and not unstuck.is_kept('@watch@', o.@key@::text, v_now)
      order by @finished(o)@
      limit p_limit
      for update skip locked
    ) || array(
      select o.@key@
      from @table@ o
      where @is_cancelled(o)@
        and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_cancelled')
        and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_cancelled')
        and not unstuck.is_kept('@watch@', o.@key@::text, v_now)
      order by @finished(o)@
      limit p_limit
      for update skip locked
    );
    delete from @table@ t where t.@key@ = any (v_keys);
    get diagnostics v_rows = row_count;
  exception when others then
    if v_keys is null or unstuck.stops_batch(sqlstate) then
      raise;
    end if;
    -- Row by row. They are locked no more: who was changed meanwhile may stay.
    v_until := v_now + unstuck.half_of_limit();
    for v_number in 1..cardinality(v_keys) loop
      exit when clock_timestamp() >= v_until;  -- what was done so far must come to its commit
      begin
        perform
        from @table@ t
        where t.@key@ = v_keys[v_number]
          and @finished(t)@ < v_now - unstuck.rule_seconds(p_rules, @kind(t)@, case
            when @is_completed(t)@ then 'retention_completed'
            when @is_failed(t)@ then 'retention_failed'
            when @is_cancelled(t)@ then 'retention_cancelled'
          end)
        for update skip locked;
        continue when not found;
        v_tried := v_tried || v_keys[v_number];
        delete from @table@ t where t.@key@ = v_keys[v_number];
        v_rows := v_rows + found::integer;
      exception when others then
        if unstuck.stops_batch(sqlstate) then
          raise;
        end if;
        perform unstuck.keep('@watch@', v_keys[v_number]::text, sqlstate, sqlerrm);
      end;
    end loop;
    v_keys := v_tried;
  end;
  perform unstuck.keep(
    '@watch@', t.@key@::text, '', 'a trigger or a row security policy of the table keeps the row'
  )
  from @table@ t
  where t.@key@ = any (v_keys)
    and not unstuck.is_kept('@watch@', t.@key@::text, v_now);
  return jsonb_build_object('results', v_results, 'rows', v_rows);
end $$;
