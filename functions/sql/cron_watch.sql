-- cron_watch: the part of a run that is one watch's, in the order of functions/sweep/sweep.py. An
-- error ends this part, not the run.

-- Settles batch by batch what is overdue, but for the tasks `p_skip`.
create or replace procedure unstuck.@watch@_cron_settle(
  p_sweep bigint,
  p_until timestamptz,
  p_skip text[],
  inout p_counts jsonb,
  inout p_errors text[]
) language plpgsql as $$
declare
  v_rules constant jsonb := '@rules@';
  v_batch json;
begin
  loop
    if clock_timestamp() >= p_until then
      p_counts := p_counts || '{"complete": false}';
      exit;
    end if;
    begin
      v_batch := unstuck.@watch@_batch(
        v_rules, @batch@, p_sweep, gen_random_uuid(), p_skip
      );
    exception when others then
      p_errors := p_errors || format('%s: %s', '@watch@', sqlerrm);
      p_counts := p_counts || '{"complete": false}';
      exit;
    end;
    commit;  -- each batch: a claim beside it stays fast
    p_counts := unstuck.cron_count(p_counts, v_batch);
    exit when not (v_batch ->> 'more')::boolean;
  end loop;
end $$;

create or replace procedure unstuck.@watch@_cron(
  p_sweep bigint,
  p_until timestamptz,
  inout p_counts jsonb,
  inout p_errors text[]
) language plpgsql as $$
declare
  v_rules constant jsonb := '@rules@';
  v_begun  constant timestamptz := clock_timestamp();
  v_unsure text[];
  v_left   float8;
  v_times  timestamptz[] := '{}';
  v_time   timestamptz;
  v_quiet  text[];
  v_view   jsonb;
begin
  begin
    p_counts := unstuck.cron_add(
      p_counts, 'suspended', unstuck.suspend('@watch@', @at_least@, @share@)
    );
    v_unsure := array(select jsonb_array_elements_text(unstuck.unsure('@watch@')));
    if v_unsure <> '{}' then
      v_times := array[v_begun + least(@heard@, @heard_share@ * (p_until - v_begun))];
    end if;
    v_left := nullif(unstuck.suspended_for('@watch@'), 0);
    v_times := v_times || (clock_timestamp() + make_interval(secs => v_left));
  exception when others then
    p_errors := p_errors || format('%s: %s', '@watch@', sqlerrm);
    p_counts := p_counts || '{"complete": false}';
    return;
  end;
  commit;
  call unstuck.@watch@_cron_settle(p_sweep, p_until, v_unsure, p_counts, p_errors);
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
  -- Those whose worker may live come last, when it has had the time to say so.
  foreach v_time in array v_times loop
    if v_time < p_until then
      perform pg_sleep(extract(epoch from v_time - clock_timestamp()));
      call unstuck.@watch@_cron_settle(p_sweep, p_until, '{}', p_counts, p_errors);
    end if;
  end loop;
  begin
    p_counts := unstuck.cron_add(p_counts, 'orphaned', unstuck.@watch@_orphans(p_sweep));
    v_view := unstuck.@watch@_open_work(v_rules);
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
