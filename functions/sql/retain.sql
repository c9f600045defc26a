-- retain: the retention of ended tasks, a bounded number in each run of the sweep: the result of a
-- task first, its row later, each when the rule of its kind says so. What a rule does not name
-- stays. Answers how many results and rows went.
create or replace function unstuck.@watch@_retain(p_rules jsonb, p_limit integer default 500)
returns jsonb language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_results integer := 0;
  v_rows    integer := 0;
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
  delete from @table@ t
  where t.@key@ = any (array(
    select o.@key@
    from @table@ o
    where @is_completed(o)@
      and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_completed')
      and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_completed')
    order by @finished(o)@
    limit p_limit
    for update skip locked
  ) || array(
    select o.@key@
    from @table@ o
    where @is_failed(o)@
      and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_failed')
      and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_failed')
    order by @finished(o)@
    limit p_limit
    for update skip locked
  ) || array(
    select o.@key@
    from @table@ o
    where @is_cancelled(o)@
      and @finished(o)@ < v_now - unstuck.shortest(p_rules, 'retention_cancelled')
      and @finished(o)@ < v_now - unstuck.rule_seconds(p_rules, @kind(o)@, 'retention_cancelled')
    order by @finished(o)@
    limit p_limit
    for update skip locked
  ));
  get diagnostics v_rows = row_count;
  return jsonb_build_object('results', v_results, 'rows', v_rows);
end $$;
