-- cron_sweep: the scheduled run in SQL alone, for pg_cron: `call unstuck.cron_sweep()`, not inside
-- a transaction. It does what functions/sweep/sweep.py does, but writes no log: unstuck.sweeps has
-- what it did. With pg_net it pushes to the address `worker`, and tells people.

-- The counts with one of them raised.
create or replace function unstuck.cron_add(p_counts jsonb, p_name text, p_more integer)
returns jsonb language sql immutable as $$
  select p_counts || jsonb_build_object(p_name, (p_counts ->> p_name)::integer + p_more)
$$;

-- The counts with the greater of two ages.
create or replace function unstuck.cron_oldest(
  p_counts jsonb,
  p_name text,
  p_seconds double precision
) returns jsonb language sql immutable as $$
  select p_counts
    || jsonb_build_object(p_name, greatest((p_counts ->> p_name)::float8, p_seconds))
$$;

-- The counts with one more batch in them.
create or replace function unstuck.cron_count(p_counts jsonb, p_batch json) returns jsonb
language plpgsql immutable as $$
declare
  v_task json;
begin
  for v_task in select json_array_elements(p_batch -> 'rescued') loop
    p_counts := unstuck.cron_oldest(
      p_counts, 'oldest_overdue_seconds', (v_task ->> 'late')::float8
    );
    if v_task ->> 'state' in ('failed', 'pending') then
      p_counts := unstuck.cron_add(
        p_counts, case v_task ->> 'state' when 'failed' then 'failed' else 'requeued' end, 1
      );
    end if;
  end loop;
  return unstuck.cron_add(p_counts, 'unsweepable', json_array_length(p_batch -> 'unsweepable'));
end $$;

create or replace procedure unstuck.@procedure@() language plpgsql as $$
declare
  v_until  constant timestamptz := clock_timestamp() + make_interval(secs => @budget@);
  v_begun  jsonb;
  v_sweep  bigint;
  v_counts jsonb := '@counts@';
  v_errors text[] := '{}';
begin
  -- A search without an index looks so dear that it would be compiled, which took 20 seconds.
  perform set_config('jit', 'off', false);
  v_begun := unstuck.sweep_begin(
    null, 'pg_cron', @budget@, p_installation => '@installation@'
  );
  if v_begun ->> 'verdict' <> 'begun' then
    return;
  end if;
  v_sweep := (v_begun ->> 'sweep_id')::bigint;
  commit;
  begin  -- first of all: a clock that was set ends nothing
    v_counts := unstuck.cron_add(v_counts, 'suspended', unstuck.keep_time(v_sweep));
  exception when others then
    perform unstuck.sweep_end(v_sweep, false, v_counts || '{"complete": false}', sqlerrm);
    return;
  end;
  commit;
@calls@
  begin
    if unstuck.has_net() then
      perform unstuck.net_read();
      perform unstuck.net_send(p_watches => @watches@);
    end if;
  exception when others then
    v_errors := v_errors || format('notify: %s', sqlerrm);
  end;
  commit;
  begin
    v_counts := unstuck.cron_add(
      v_counts, 'pruned', unstuck.prune(@retention@, p_installation => '@installation@')
    );
  exception when others then
    v_errors := v_errors || sqlerrm;
  end;
  perform unstuck.sweep_end(
    v_sweep, v_errors = '{}', v_counts, nullif(array_to_string(v_errors, '; '), '')
  );
  commit;
  if v_errors = '{}' and unstuck.has_net() then
    perform unstuck.net_ping();
  end if;
end $$;
