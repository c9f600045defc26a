-- metrics: what a Prometheus counts of the ledger, since no log line reaches it. Each count is of
-- one hour, in one of two slots: those of the even hours and those of the odd ones take turns, so
-- that the last count of an hour stands for another hour, and then begins anew at 0. A Prometheus
-- takes that for a restart, and the sum over both slots loses nothing, whatever retention deletes.

create or replace function unstuck.metrics(
  p_watches text[],
  p_installation text default '',
  p_now timestamptz default clock_timestamp()
) returns jsonb language sql stable as $$
  with slots as (
    select
      h.at as begins,
      least(h.at + interval '1 hour', p_now) as ends,
      (extract(epoch from h.at)::bigint / 3600 % 2)::integer as slot
    from unnest(array[
      date_trunc('hour', p_now), date_trunc('hour', p_now) - interval '1 hour'
    ]) as h (at)
  ), ended as (
    select
      s.slot,
      a.watch,
      a.kind,
      a.outcome,
      a.reason,
      case
        when a.sweep_id > 0 then 'sweep'
        when a.sweep_id = 0 then 'status'
        when a.worker is null then 'operator'
        else 'guard'
      end as by,
      extract(epoch from a.ended_at - least(a.lease_until, a.deadline_at))::float8 as late,
      a.sweep_id is not null and a.worker is not null as is_rescue
    from slots s
    join unstuck.attempts a on a.ended_at >= s.begins and a.ended_at < s.ends
    where a.watch = any (p_watches)
  ), runs as (
    select s.slot, r.ok, r.counts, r.ended_at, r.started_at
    from slots s
    join unstuck.sweeps r on r.started_at >= s.begins and r.started_at < s.ends
    where r.installation = p_installation
  )
  select jsonb_build_object(
    'ended', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select e.watch, e.kind, e.outcome, e.reason, e.by, e.slot, count(*)
        from ended e
        where e.outcome in ('completed', 'failed', 'cancelled', 'retried', 'released')
        group by e.watch, e.kind, e.outcome, e.reason, e.by, e.slot
      ) g
    ),
    'rescues', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select
          e.slot,
          count(*) as count,
          sum(greatest(e.late, 0)) as sum,
          array[
            count(*) filter (where e.late <= 10),
            count(*) filter (where e.late <= 30),
            count(*) filter (where e.late <= 60),
            count(*) filter (where e.late <= 120),
            count(*) filter (where e.late <= 300),
            count(*) filter (where e.late <= 900)
          ] as buckets
        from ended e
        where e.is_rescue
        group by e.slot
      ) g
    ),
    'refused', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select f.wanted, s.slot, count(*)
        from slots s
        join unstuck.refusals f on f.at >= s.begins and f.at < s.ends
        where f.watch = any (p_watches) and f.source = 'verb'
        group by f.wanted, s.slot
      ) g
    ),
    'sweeps', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select
          r.slot,
          count(*) filter (where r.ok) as ok,
          count(*) filter (where not r.ok) as error,
          count(*) filter (where not (r.counts ->> 'complete')::boolean) as incomplete,
          coalesce(sum((r.counts ->> 'suspended')::integer), 0) as suspended,
          coalesce(sum((r.counts ->> 'unsweepable')::integer), 0) as unsweepable,
          coalesce(sum((r.counts ->> 'redispatched')::integer), 0) as redispatched,
          coalesce(sum((r.counts ->> 'oldest_overdue_seconds')::float8), 0) as overdue,
          count(r.counts ->> 'oldest_overdue_seconds') as overdue_count,
          coalesce(sum((r.counts ->> 'oldest_pending_seconds')::float8), 0) as pending,
          count(r.counts ->> 'oldest_pending_seconds') as pending_count
        from runs r
        where r.ended_at is not null
        group by r.slot
      ) g
    ),
    'last_sweep', (
      select jsonb_build_object(
        'age', extract(epoch from p_now - r.started_at),
        'ok', r.ok
      )
      from unstuck.sweeps r
      where r.installation = p_installation
        and r.started_at <= p_now
        and r.ended_at is not null
      order by r.id desc
      limit 1
    ),
    'outbox', (
      select jsonb_build_object(
        'waiting', count(*),
        'oldest', coalesce(extract(epoch from p_now - min(o.at)), 0)
      )
      from unstuck.outbox o
      where o.ended_at is null
    )
  )
$$;
