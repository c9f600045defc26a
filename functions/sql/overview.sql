-- What is open and overdue now: for the page, the overview, the gauges and the alerts. Not what a
-- sweep could end: a row that somebody holds is late as well. `until` is when it should have ended.
-- The oldest first by `at`, after (`p_after`, `p_after_id`). No sequential scans, for the reason
-- that sweep.sql gives.
create or replace function unstuck.@watch@_late(
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer default null,
  p_after timestamptz default '-infinity',
  p_after_id text default ''
) returns table (at timestamptz, id text, kind text, owner text, until timestamptz)
language plpgsql stable set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_turns constant jsonb := unstuck.@watch@_turns(p_now, p_rules, 'pending_for');
  v_jump record;
begin
  select * into v_jump from unstuck.last_jump();
  return query
    select s.*
    from (
      (
        select
          a.started_at as at,
          a.task_id as id,
          @kind(t)@::text as kind,
          @owner(t)@::text as owner,
          unstuck.lives_until(a, (select unstuck.ready_after())) as until
        from unstuck.attempts a
        join @table@ t on t.@key@ = a.task_id::@key_type@
        where a.watch = '@watch@'
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
          and unstuck.lives_until(a, (select unstuck.ready_after())) <= p_now
          and (@is_running(t)@ or @is_pending(t)@)
          and (a.started_at, a.task_id) > (p_after, p_after_id)
        order by 1, 2
        limit p_limit
      )
      union all
      (
        select
          @queued_bound(t)@,
          t.@key@::text,
          @kind(t)@::text,
          @owner(t)@::text,
          unstuck.pending_until(@queued(t)@, @kind(t)@, p_rules, v_turns)
        from @table@ t
        where @is_pending(t)@
          and @queued_bound(t)@ <= p_now - unstuck.shortest(p_rules, 'pending_for')
          and @queued(t)@ <= p_now
            - unstuck.rule_seconds(p_rules, @kind(t)@, 'pending_for')
            - case when @queued(t)@ < v_jump.at then v_jump.ahead else '0' end
          and unstuck.pending_until(
            @queued(t)@ + case when @queued(t)@ < v_jump.at then v_jump.ahead else '0' end,
            @kind(t)@,
            p_rules,
            v_turns
          ) <= p_now
          and @queued_bound(t)@ >= p_after
          and (@queued_bound(t)@, t.@key@::text) > (p_after, p_after_id)
          and not exists (
            select from unstuck.attempts a
            where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
          )
        order by @queued_bound(t)@, t.@key@::text
        limit p_limit
      )
      union all
      (
        select
          @alive_bound(t)@,
          t.@key@::text,
          @kind(t)@::text,
          @owner(t)@::text,
          @alive(t)@ + unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for')
        from @table@ t
        where @is_running(t)@
          and @alive_bound(t)@ <= p_now - unstuck.shortest(p_rules, 'silent_for')
          and @alive(t)@ <= p_now
            - unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for')
            - case when @alive(t)@ < v_jump.at then v_jump.ahead else '0' end
          and @alive_bound(t)@ >= p_after
          and (@alive_bound(t)@, t.@key@::text) > (p_after, p_after_id)
          and not exists (
            select from unstuck.attempts a
            where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
          )
        order by @alive_bound(t)@, t.@key@::text
        limit p_limit
      )
    ) s
    order by 1, 2
    limit p_limit;
end $$;

-- overview: counts and ages of open tasks by state and kind, and what ended in the last hour. Reads
-- open rows and the ledger only. The plan is generic: to plan it anew, which a long history makes
-- PostgreSQL do, took longer than to run it.
create or replace function unstuck.@watch@_overview(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
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
          extract(epoch from v_now - min(unstuck.finite(@queued(t)@))) as oldest
        from @table@ t
        where @is_pending(t)@
        group by 2
        union all
        select
          'running',
          @kind(t)@,
          count(*),
          extract(epoch from v_now - min(unstuck.finite(@started(t)@)))
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
        'count', count(*), 'oldest', extract(epoch from v_now - min(unstuck.finite(l.until)))
      )
      from unstuck.@watch@_late(v_now, p_rules) l
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
