-- pace: whether the queue is slower than its arrivals. Of each kind that waits: how many tasks (the
-- oldest 20,000 are read), since when the oldest, and how many came and were taken in the last
-- `p_seconds`. A task that is put back comes again where its table says when. No sequential scans,
-- for the reason that sweep.sql gives.
create or replace function unstuck.@watch@_pace(p_seconds double precision) returns jsonb
language plpgsql stable set enable_seqscan = off set jit = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_since constant timestamptz := v_now - make_interval(secs => p_seconds);
begin
  return coalesce((
    select jsonb_agg(jsonb_build_object(
      'kind', w.kind,
      'waiting', w.waiting,
      'oldest', w.oldest,
      'came', w.came + coalesce(c.came, 0),
      'taken', coalesce(c.taken, 0)
    ) order by w.kind)
    from (
      select
        o.kind,
        count(*) as waiting,
        coalesce(extract(epoch from v_now - min(unstuck.finite(o.queued))), 0) as oldest,
        count(*) filter (where o.queued > v_since) as came
      from (
        select @kind(t)@ as kind, @queued(t)@ as queued
        from @table@ t
        where @is_pending(t)@ and @queued_bound(t)@ <= v_now
        order by @queued_bound(t)@
        limit 20000
      ) o
      group by 1
    ) w
    left join (
      select
        a.kind,
        count(*) as taken,
        count(*) filter (where @queued(t)@ > v_since) as came
      from unstuck.attempts a
      left join @table@ t on t.@key@ = a.task_id::@key_type@
      where a.watch = '@watch@'
        and (a.ended_at is null or a.ended_at > v_since)
        and a.started_at > v_since
        and a.worker is not null
      group by 1
    ) c on c.kind is not distinct from w.kind
  ), '[]');
end $$;
