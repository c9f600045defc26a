-- pulse: what the operators' page shows first: how many tasks are stuck, what is open, the last
-- sweep. Bounded, since it is asked every 2 seconds: at most 1,000 rows of a state are read, the
-- oldest first, and the answer has that bound (`most`). Reads open rows and the ledger, and locks
-- nothing.
create or replace function unstuck.@watch@_pulse(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_now  constant timestamptz := clock_timestamp();
  v_most constant integer := 1000;
begin
  return jsonb_build_object(
    'most', v_most,
    'stuck', (
      select jsonb_build_object(
        'count', count(*),
        'oldest', extract(epoch from v_now - min(unstuck.finite(s.at))),
        'unjudged', (
          select count(*)
          from (
            select from @table@ t
            where @is_pending(t)@ and @queued_bound(t)@ is null
            union all
            select from @table@ t
            where @is_running(t)@
              and @alive_bound(t)@ is null
              and not exists (
                select from unstuck.attempts a
                where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
              )
            limit v_most
          ) u
        )
      )
      from unstuck.@watch@_stuck_tasks(v_now, p_rules, v_most) s
    ),
    'open', coalesce((
      select jsonb_agg(jsonb_build_object(
        'state', o.state, 'kind', o.kind, 'count', o.count, 'oldest', o.oldest
      ) order by o.state desc, o.count desc, o.kind)
      from (
        select
          'pending' as state,
          p.kind,
          count(*) as count,
          extract(epoch from v_now - min(unstuck.finite(p.since))) as oldest
        from (
          select @kind(t)@ as kind, @queued_bound(t)@ as since
          from @table@ t
          where @is_pending(t)@
          order by @queued_bound(t)@
          limit v_most
        ) p
        group by p.kind
        union all
        select 'running', r.kind, count(*), extract(epoch from v_now - min(unstuck.finite(r.since)))
        from (
          select @kind(t)@ as kind, coalesce(@started(t)@, @alive(t)@) as since
          from @table@ t
          where @is_running(t)@
          order by @alive_bound(t)@
          limit v_most
        ) r
        group by r.kind
      ) o
    ), '[]'),
    'last_sweep', (
      select jsonb_build_object(
        'id', s.id,
        'ago', extract(epoch from v_now - s.started_at),
        'ok', s.ok,
        'counts', s.counts,
        'error', s.error,
        'running', s.ended_at is null and s.until > v_now
      )
      from unstuck.sweeps s
      where s.installation = '@installation@'
      order by s.id desc
      limit 1
    ),
    'last_good', (
      select extract(epoch from v_now - g.started_at)
      from (
        select s.id, s.started_at, s.ok
        from unstuck.sweeps s
        where s.installation = '@installation@'
        order by s.id desc
        limit 1000
      ) g
      where g.ok
      order by g.id desc
      limit 1
    )
  );
end $$;

-- The last `p_half_hours`: how attempts ended (at most 200 of each half hour are read: a sample
-- where `more`, and `about` is then how many there were, at the pace of the sample), of which kinds
-- they were, how long the first ones of a task waited for a worker (at most 20 of each half hour),
-- and how long it took from the last sign of life of an attempt to its rescue by a sweep.
create or replace function unstuck.@watch@_day(p_half_hours integer default 48) returns jsonb
language plpgsql stable set enable_seqscan = off set jit = off as $$
declare
  v_step  constant interval := '30 min';
  v_each  constant integer := 200;
  v_begin constant timestamptz :=
    date_bin(v_step, clock_timestamp(), '2000-01-01') - (p_half_hours - 1) * v_step;
begin
  return jsonb_build_object(
    'begin', extract(epoch from v_begin),
    'step', extract(epoch from v_step),
    'ended', (
      select jsonb_agg(jsonb_build_object(
        'completed', e.completed,
        'failed', e.failed,
        'retried', e.retried,
        'more', e.seen >= v_each,
        'about', case
          when e.seen < v_each then e.seen
          else round(
            e.seen * extract(epoch from v_step) / greatest(1, extract(epoch from
              least(e.latest, clock_timestamp()) - (v_begin + b.n * v_step)))
          )
        end,
        'kinds', e.kinds
      ) order by b.n)
      from generate_series(0, p_half_hours - 1) as b (n)
      cross join lateral (
        select
          count(*) filter (where s.outcome = 'completed') as completed,
          count(*) filter (where s.outcome = 'failed') as failed,
          count(*) filter (where s.outcome in ('retried', 'released')) as retried,
          count(*) as seen,
          max(s.ended_at) as latest,
          coalesce(jsonb_agg(distinct s.kind), '[]') as kinds
        from (
          select a.outcome, a.kind, a.ended_at
          from unstuck.attempts a
          where a.ended_at >= v_begin + b.n * v_step
            and a.ended_at < v_begin + (b.n + 1) * v_step
            and a.watch = '@watch@'
          order by a.ended_at
          limit v_each
        ) s
      ) e
    ),
    'waits', (
      select jsonb_build_object(
        'count', count(*),
        'p50', percentile_cont(0.5) within group (order by w.seconds),
        'p95', percentile_cont(0.95) within group (order by w.seconds)
      )
      from generate_series(0, p_half_hours - 1) as b (n)
      cross join lateral (
        select extract(epoch from s.started_at - (
          select unstuck.finite(@queued_bound(t)@)
          from @table@ t
          where t.@key@ = s.task_id::@key_type@
        )) as seconds
        from (
          select a.task_id, a.started_at, a.number, a.lease, a.reason
          from unstuck.attempts a
          where a.ended_at >= v_begin + b.n * v_step
            and a.ended_at < v_begin + (b.n + 1) * v_step
            and a.watch = '@watch@'
          order by a.ended_at
          limit 20
        ) s
        where s.number = 1
          and (s.lease > '0' or s.reason = 'never_claimed')  -- else nobody knows when it was taken
      ) w
      where w.seconds >= 0
    ),
    'rescued', coalesce((
      select jsonb_agg(jsonb_build_object(
        'n', r.n, 'count', r.count, 'p50', r.p50, 'max', r.max
      ) order by r.n)
      from (
        select
          floor(
            extract(epoch from s.ended_at - v_begin) / extract(epoch from v_step)
          )::integer as n,
          count(*) as count,
          percentile_cont(0.5) within group (order by s.took) as p50,
          max(s.took) as max
        from (
          select a.ended_at, extract(epoch from a.ended_at - a.beat_at) as took
          from unstuck.attempts a
          where a.sweep_id >= (
            select coalesce(min(w.id), 0)
            from (
              select w.id
              from unstuck.sweeps w
              where w.started_at >= v_begin
              order by w.id desc
              limit 3000
            ) w
          )
            and a.sweep_id > 0
            and a.watch = '@watch@'
            and a.ended_at >= v_begin
            and a.beat_at < a.ended_at
          order by a.sweep_id desc
          limit 5000
        ) s
        group by 1
      ) r
    ), '[]')
  );
end $$;
