-- cron_watch: the part of a run that is one watch's, in the order of functions/sweep/sweep.py. An
-- error ends this part, not the run.
create or replace procedure unstuck.@watch@_cron(
  p_sweep bigint,
  p_until timestamptz,
  inout p_counts jsonb,
  inout p_errors text[]
) language plpgsql as $$
declare
  v_rules constant jsonb := '@rules@';
  v_batch json;
  v_view  jsonb;
  v_quiet text[];
begin
  begin
    p_counts := unstuck.cron_add(
      p_counts, 'suspended', unstuck.suspend('@watch@', @at_least@, @share@)
    );
  exception when others then
    p_errors := p_errors || format('%s: %s', '@watch@', sqlerrm);
    p_counts := p_counts || '{"complete": false}';
    return;
  end;
  commit;
  loop
    if clock_timestamp() >= p_until then
      p_counts := p_counts || '{"complete": false}';
      exit;
    end if;
    begin
      v_batch := unstuck.@watch@_sweep(v_rules, @batch@, p_sweep);
    exception when others then
      p_errors := p_errors || format('%s: %s', '@watch@', sqlerrm);
      p_counts := p_counts || '{"complete": false}';
      exit;
    end;
    commit;  -- each batch: a claim beside it stays fast
    p_counts := unstuck.cron_count(p_counts, v_batch);
    exit when not (v_batch ->> 'more')::boolean;
  end loop;
  if unstuck.has_net() and exists (select from unstuck.addresses d where d.name = 'worker') then
    begin
      v_quiet := array(  -- pushes that seem lost
        select q ->> 'task_id'
        from json_array_elements(unstuck.@watch@_redispatch(v_rules, 200)) q
      );
      perform unstuck.net_wake('@watch@', v_quiet);
      p_counts := unstuck.cron_add(p_counts, 'redispatched', cardinality(v_quiet));
      perform unstuck.net_wake('@watch@', array(  -- put back, and due since the last run
        select a.task_id
        from unstuck.attempts a
        join @table@ t on t.@key@ = a.task_id::@key_type@
        where a.watch = '@watch@'
          and a.ended_at > clock_timestamp() - interval '1 hour'
          and a.retry_at <= clock_timestamp()
          and a.retry_at > (
            select max(s.started_at) - interval '1 second'
            from unstuck.sweeps s
            where s.id < p_sweep and s.installation = '@installation@'
          )
          and @is_pending(t)@
          and a.task_id <> all (v_quiet)
        limit 200
      ));
    exception when others then
      p_errors := p_errors || format('%s: %s', '@watch@', sqlerrm);
    end;
    commit;
  end if;
  begin
    p_counts := unstuck.cron_add(p_counts, 'orphaned', unstuck.@watch@_orphans(p_sweep));
    v_view := unstuck.@watch@_overview(v_rules);
    p_counts := unstuck.cron_oldest(
      p_counts, 'oldest_overdue_seconds', (v_view #>> '{overdue,oldest}')::float8
    );
    p_counts := unstuck.cron_oldest(p_counts, 'oldest_pending_seconds', (
      select max((o ->> 'oldest')::float8)
      from jsonb_array_elements(v_view -> 'open') o
      where o ->> 'state' = 'pending'
    ));
  exception when others then
    p_errors := p_errors || format('%s: %s', '@watch@', sqlerrm);
    p_counts := p_counts || '{"complete": false}';
    return;
  end;
  commit;
end $$;
