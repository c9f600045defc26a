-- overview: counts and ages of open tasks by state and kind, and what ended in the last hour. Reads
-- open rows and the ledger only.
create or replace function unstuck.@watch@_overview(p_rules jsonb) returns jsonb
language plpgsql stable as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return jsonb_build_object(
    'open', coalesce((
      select jsonb_agg(jsonb_build_object(
        'state', o.state, 'kind', o.kind, 'count', o.count, 'oldest', o.oldest
      ) order by o.state, o.kind)
      from (
        select
          'pending' as state,
          @kind(t)@ as kind,
          count(*) as count,
          extract(epoch from v_now - min(@queued(t)@)) as oldest
        from @table@ t
        where @is_pending(t)@
        group by 2
        union all
        select
          'running',
          @kind(t)@,
          count(*),
          extract(epoch from v_now - min(@started(t)@))
        from @table@ t
        where @is_running(t)@
        group by 2
      ) o
    ), '[]'),
    'live', (
      select count(*)
      from unstuck.attempts a
      where a.watch = '@watch@' and a.ended_at is null
    ),
    'live_by_kind', (
      select coalesce(jsonb_object_agg(l.kind, l.count), '{}')
      from (
        select a.kind, count(*) as count
        from unstuck.attempts a
        where a.watch = '@watch@' and a.ended_at is null
        group by 1
      ) l
    ),
    'overdue', (
      select jsonb_build_object(
        'count', count(*), 'oldest', extract(epoch from v_now - min(until))
      )
      from (
        select unstuck.lives_until(a, (select unstuck.ready_after())) as until
        from unstuck.attempts a
        where a.watch = '@watch@' and a.ended_at is null
        union all
        select @queued(t)@ + unstuck.rule_seconds(p_rules, @kind(t)@, 'pending_for')
        from @table@ t
        where @is_pending(t)@
      ) u
      where until <= v_now
    ),
    'ended', coalesce((
      select jsonb_agg(jsonb_build_object(
        'kind', e.kind, 'outcome', e.outcome, 'reason', e.reason, 'count', e.count
      ) order by e.kind, e.outcome, e.reason)
      from (
        select a.kind, a.outcome, a.reason, count(*) as count
        from unstuck.attempts a
        where a.watch = '@watch@' and a.ended_at > v_now - interval '1 hour'
        group by 1, 2, 3
      ) e
    ), '[]'),
    'refused', (
      select count(*)
      from unstuck.refusals r
      where r.watch = '@watch@' and r.at > v_now - interval '1 hour'
    ),
    'last_sweep', (
      select jsonb_build_object(
        'started_at', s.started_at,
        'ago', extract(epoch from v_now - s.started_at),
        'ok', s.ok,
        'counts', s.counts
      )
      from unstuck.sweeps s
      order by s.id desc
      limit 1
    )
  );
end $$;
