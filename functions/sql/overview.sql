-- Whether an index leads to the kinds that wait: our own table has one. Without it each search for
-- a kind would sort the whole queue. The planner knows which index serves; a function that only
-- reads may not ask it.
create or replace function unstuck.@watch@_finds_kinds() returns boolean
language plpgsql
set enable_seqscan = off set jit = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_plan json;
begin
  if @is_own@ then
    return true;
  end if;
  execute $query$
    explain (format json)
    select @kind(t)@
    from @table@ t
    where @is_pending(t)@
    order by @kind(t)@
    limit 1
  $query$
  into v_plan;
  return v_plan::text !~ '"Node Type": "(Incremental )?Sort"|"Filter"';
end $$;

-- What waits for longer than its rule allows, and not for its turn: what `stuck_tasks` says of it.
-- A long queue that moves is not read: where an index leads to the kinds that wait, those whose
-- turn does not come are searched by kind.
create or replace function unstuck.@watch@_never_claimed(
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb,
  p_limit integer,
  p_after timestamptz,
  p_after_id text
) returns table (at timestamptz, id text, kind text, owner text, until timestamptz)
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_jump   record;
  v_kinds  text[];  -- '' is the first; in this order:
  v_bounds timestamptz[];  -- up to when overdue ones may have been queued,
  v_for    interval[];  -- how long they may wait,
  v_most   interval[];  -- whatever goes on,
  v_held   timestamptz[];  -- and when a worker last held one of them
  v_all    record;
  v_least  timestamptz;
  v_before timestamptz;
  v_waits  text[] := '{}';  -- the kinds that wait, where each is searched apart
  v_part   record;
  v_count  bigint;
begin
  select * into v_jump from unstuck.last_jump();
  -- what JSON says is read once, not for each row
  select
    array_agg(b.kind order by b.kind),
    array_agg(b.bound order by b.kind),
    array_agg(unstuck.rule_seconds(p_rules, b.kind, 'pending_for') order by b.kind),
    array_agg(unstuck.pending_at_most(p_rules, b.kind) order by b.kind),
    array_agg((p_turns -> b.kind ->> 'held')::timestamptz order by b.kind),
    min(b.bound),
    max(b.bound)
  into v_kinds, v_bounds, v_for, v_most, v_held, v_least, v_before
  from unstuck.overdue_bounds(p_now, p_rules, p_turns) b;
  select
    (p_turns -> '*' ->> 'held')::timestamptz as held,
    (p_turns -> '*' ->> 'front')::timestamptz as front,
    p_turns -> '*' -> 'pauses' as pauses
  into v_all;
  if v_least < v_before and (
    select count(*)
    from (
      select
      from @table@ t
      where @is_pending(t)@ and @queued_bound(t)@ > v_least and @queued_bound(t)@ <= v_before
      limit 200
    ) w
  ) = 200 and unstuck.@watch@_finds_kinds() then
    v_waits := unstuck.@watch@_waiting_kinds();
    v_before := v_least;
  end if;
  for v_part in
    select null as kind, null::timestamptz as since, v_before as before
    union all
    select w.kind, v_least, w.bound
    from (
      select k.kind, coalesce(v_bounds[array_position(v_kinds, k.kind)], v_bounds[1]) as bound
      from unnest(v_waits) as k (kind)
    ) w
    where w.bound > v_least
  loop
    if v_part.kind is not null then  -- planned for its kind, which takes less than a millisecond
      perform set_config('plan_cache_mode', 'force_custom_plan', true);
    end if;
    return query
      select
        @queued_bound(t)@,
        t.@key@::text,
        @kind(t)@::text,
        @owner(t)@::text,
        c.until
      from @table@ t
      cross join lateral (
        select
          coalesce(array_position(v_kinds, @kind(t)@::text), 1) as kind_number,
          @queued(t)@ + case when @queued(t)@ < v_jump.at then v_jump.ahead else '0' end as at
        offset 0  -- computed once
      ) q
      cross join lateral (
        select unstuck.waits_until(
          q.at,
          case
            when v_all.pauses is not null then unstuck.paused_time(
              @kind(t)@, least(q.at, '9999-12-31'), statement_timestamp(), v_all.pauses
            )
            else '0'
          end,
          v_for[q.kind_number],
          v_most[q.kind_number],
          v_held[q.kind_number],
          v_all.held,
          v_all.front
        ) as until
      ) c
      where @is_claimable(t)@
        and @queued_bound(t)@ <= v_part.before
        and (v_part.since is null or @queued_bound(t)@ > v_part.since)
        and @queued_bound(t)@ >= p_after
        and (v_part.kind is null or @kind(t)@ = v_part.kind)
        -- of a long queue that moves each row may be read: what costs more comes later. Each in a
        -- CASE: else the planner expects one row, and sorts all that it reads
        and case when @queued_bound(t)@ <= v_least
          or @queued_bound(t)@ <= coalesce(
            v_bounds[array_position(v_kinds, @kind(t)@::text)], v_bounds[1]
          )
        then true end
        and case when c.until <= p_now
          and (@queued_bound(t)@, t.@key@::text) > (p_after, p_after_id)
          and t.@key@::text not in (
            select a.task_id
            from unstuck.attempts a
            where a.watch = '@watch@' and a.ended_at is null
          )
        then true end
      order by @queued_bound(t)@, t.@key@::text
      limit p_limit;
    get diagnostics v_count = row_count;
    exit when v_part.kind is null and v_count >= p_limit;  -- what comes is newer
  end loop;
end $$;

-- What is stuck now: the one answer for `check`, the dry run, `stats`, the page, the gauges and the
-- alerts. It is by the rules of the sweep, but not what a sweep could end: a row that others hold
-- is stuck as well. `at` is since when the task is in its state, `until` when it should have ended,
-- and `cause` what happened. The oldest first, after (`p_after`, `p_after_id`). `p_turns` is the
-- answer of `turns`, of one that has asked for it already; `p_was`: only `running` or `pending`
-- ones. No sequential scans, for the reason that sweep.sql gives, and each search in the order of
-- its index, since mostly the first few are asked for.
drop function if exists unstuck.@watch@_late(timestamptz, jsonb, integer, timestamptz, text);
drop function if exists unstuck.@watch@_stuck_tasks(
  timestamptz, jsonb, integer, timestamptz, text
);
drop function if exists unstuck.@watch@_stuck_tasks(
  timestamptz, jsonb, integer, timestamptz, text, jsonb
);
create or replace function unstuck.@watch@_stuck_tasks(
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer default null,
  p_after timestamptz default '-infinity',
  p_after_id text default '',
  p_turns jsonb default null,
  p_was text default null
) returns table (
  at timestamptz,
  id text,
  kind text,
  owner text,
  until timestamptz,
  cause text,
  was text
)
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_turns  constant jsonb :=
    coalesce(p_turns, unstuck.@watch@_turns(p_now, p_rules, 'pending_for'));
  v_silent_before constant timestamptz := p_now - unstuck.shortest(p_rules, 'silent_for');
  v_jump   record;
  v_kinds  text[];  -- '' is the first; in this order:
  v_silent interval[];  -- how long they may be silent
begin
  select * into v_jump from unstuck.last_jump();
  select
    array_agg(b.kind order by b.kind),
    array_agg(unstuck.rule_seconds(p_rules, b.kind, 'silent_for') order by b.kind)
  into v_kinds, v_silent
  from unstuck.overdue_bounds(p_now, p_rules, v_turns) b;
  return query
    select s.*
    from (
      (
        select
          a.started_at as at,
          a.task_id as id,
          @kind(t)@::text as kind,
          @owner(t)@::text as owner,
          unstuck.lives_until(a, (select unstuck.ready_after())) as until,
          case when a.deadline_at <= p_now then 'deadline' else 'lease_lost' end as cause,
          case when @is_running(t)@ then 'running' else 'pending' end as was
        from unstuck.attempts a
        join @table@ t on t.@key@ = a.task_id::@key_type@
        where a.watch = '@watch@'
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
          and unstuck.lives_until(a, (select unstuck.ready_after())) <= p_now
          and (
            @is_running(t)@ and p_was is distinct from 'pending'
            or @is_pending(t)@ and p_was is distinct from 'running'
          )
          and (a.started_at, a.task_id) > (p_after, p_after_id)
        order by 1, 2
        limit p_limit
      )
      union all
      (
        select n.*, 'never_claimed', 'pending'
        from unstuck.@watch@_never_claimed(p_now, p_rules, v_turns, p_limit, p_after, p_after_id) n
        where p_was is distinct from 'running'
      )
      union all
      (
        select
          @queued_bound(t)@,
          t.@key@::text,
          @kind(t)@::text,
          @owner(t)@::text,
          p_now,
          'cancelled',
          case when @is_pending(t)@ then 'pending' else 'running' end
        from @table@ t
        where @may_be_asked@
          and @is_withdrawn(t)@
          and (p_was is null or p_was = case when @is_pending(t)@ then 'pending' else 'running' end)
          and t.@key@ in (@oldest_withdrawn()@)
          and (@queued_bound(t)@, t.@key@::text) > (p_after, p_after_id)
          and t.@key@::text not in (
            select a.task_id
            from unstuck.attempts a
            where a.watch = '@watch@' and a.ended_at is null
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
          s.until,
          'stale',
          'running'
        from @table@ t
        cross join lateral (
          select @alive(t)@ + v_silent[
            coalesce(array_position(v_kinds, @kind(t)@::text), 1)
          ] as until
          offset 0
        ) s
        where @is_running(t)@
          and p_was is distinct from 'pending'
          and @alive_bound(t)@ <= v_silent_before
          and s.until <= p_now - case when @alive(t)@ < v_jump.at then v_jump.ahead else '0' end
          and @alive_bound(t)@ >= p_after
          and (@alive_bound(t)@, t.@key@::text) > (p_after, p_after_id)
          and t.@key@::text not in (
            select a.task_id
            from unstuck.attempts a
            where a.watch = '@watch@' and a.ended_at is null
          )
          and not (@was_withdrawn(t)@)
        order by @alive_bound(t)@, t.@key@::text
        limit p_limit
      )
    ) s
    order by 1, 2
    limit p_limit;
end $$;

-- stuck: how many tasks are stuck (at most 20,000 are counted, the oldest first; `most`), what a
-- sweep would do with them, by kind and reason, with the ages of the oldest and the newest, and the
-- first of them. Writes and locks nothing.
create or replace function unstuck.@watch@_stuck(p_rules jsonb, p_limit integer default 500)
returns jsonb language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_rules constant jsonb := unstuck.complete_rules(p_rules);
  v_most  constant integer := 20000;
begin
  return (
    with decided as materialized (
      select
        s.at,
        case s.cause
          when 'never_claimed' then unstuck.unclaimed(
            s.id,
            s.kind,
            l.number,
            l.tries,
            s.until = @queued(t)@ + unstuck.pending_at_most(p_rules, s.kind)
              and s.until > @queued(t)@ + unstuck.rule_seconds(p_rules, s.kind, 'pending_for'),
            v_now - unstuck.finite(s.until)
          )
          when 'cancelled' then unstuck.withdrawn(s.id, s.kind, l.number, l.tries, s.was)
          when 'stale' then unstuck.decided(
            s.id,
            s.kind,
            false,
            coalesce(l.number, 0) + 1,
            unstuck.lost_try(l.outcome, l.tries, @attempts(t)@),
            null,
            unstuck.rule_at_age(
              unstuck.rule_of_row(coalesce(v_rules -> s.kind, v_rules -> '*'), @own_attempts(t)@),
              @alive(t)@,
              v_now
            ),
            case when @is_stopping(t)@ then 'cancelled' else s.cause end,
            true,
            v_now - unstuck.finite(s.until)
          )
          else unstuck.decided(
            s.id,
            s.kind,
            true,
            l.number,
            l.tries,
            l.worker,
            unstuck.rule_of_row(coalesce(v_rules -> s.kind, v_rules -> '*'), @own_attempts(t)@),
            case when @is_stopping(t)@ then 'cancelled' else s.cause end,
            s.was = 'running',
            v_now - unstuck.finite(s.until)
          )
        end as decision,
        s.was,
        s.id
      from unstuck.@watch@_stuck_tasks(v_now, p_rules, v_most) s
      join @table@ t on t.@key@ = s.id::@key_type@
      left join lateral (
        select a.number, a.tries, a.worker, a.outcome
        from unstuck.attempts a
        where a.watch = '@watch@' and a.task_id = s.id
        order by a.number desc
        limit 1
      ) l on true
    )
    select jsonb_build_object(
      'most', v_most,
      'count', (select count(*) from decided),
      'groups', coalesce((
        select jsonb_agg(to_jsonb(g) order by g.was, g.state, g.reason, g.kind)
        from (
          select
            (d.decision).kind,
            d.was,
            (d.decision).state,
            (d.decision).reason,
            count(*) as count,
            extract(epoch from v_now - min(unstuck.finite(d.at))) as oldest,
            extract(epoch from v_now - max(unstuck.finite(d.at))) as newest
          from decided d
          group by 1, 2, 3, 4
        ) g
      ), '[]'),
      'tasks', coalesce((
        select jsonb_agg(
          to_jsonb(f.decision) || jsonb_build_object(
            'was', f.was, 'age', extract(epoch from v_now - unstuck.finite(f.at))
          ) order by f.at, f.id
        )
        from (select * from decided d order by d.at, d.id limit p_limit) f
      ), '[]')
    )
  );
end $$;

-- What a sweep would do now, without doing it.
create or replace function unstuck.@watch@_preview(p_rules jsonb, p_limit integer default 500)
returns json language sql as $$
  select (unstuck.@watch@_stuck(p_rules, p_limit) -> 'tasks')::json
$$;

-- What is open now: counts and ages of tasks by state and kind, attempts that live, overdue ones.
-- Of those that wait at most 20,000 are read, the oldest, however many there are; where there are
-- more, their number is what the planner estimates (`estimated`). The plan is generic: to plan it
-- anew, which a long history makes PostgreSQL do, took longer than to run it. A pause stands still:
-- its time is no part of the age of what waits.
create or replace function unstuck.@watch@_open_work(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_most   constant integer := 20000;
  v_open   record;
  v_live   record;
  v_pauses constant jsonb := unstuck.with_pauses('@watch@', v_now, p_rules, '{}')
    -> '*' -> 'pauses';
begin
  with waiting as materialized (
    select w.kind, count(*) as count, min(unstuck.finite(w.queued)) as oldest
    from (
      select @kind(t)@ as kind, @queued(t)@ as queued
      from @table@ t
      where @is_pending(t)@
      order by @queued_bound(t)@
      limit v_most
    ) w
    group by 1
  ), scale as materialized (
    select case
      when sum(w.count) = v_most then greatest(1, unstuck.estimated_rows(
        $query$select from @table@ t where @is_pending(t)@$query$
      ) / v_most)
      else 1
    end as factor
    from waiting w
  )
  select
    s.factor > 1 as is_estimated,
    coalesce((
      select jsonb_agg(jsonb_build_object(
        'state', o.state, 'kind', o.kind, 'count', o.count, 'oldest', o.oldest
      ) order by o.state, o.kind)
      from (
        select
          'pending' as state,
          w.kind,
          round(w.count * s.factor)::bigint as count,
          extract(epoch from v_now - w.oldest - unstuck.paused_time(
            w.kind::text, w.oldest, v_now, v_pauses
          )) as oldest
        from waiting w
        union all
        select
          'running',
          @kind(t)@,
          count(*),
          extract(epoch from v_now - min(unstuck.finite(coalesce(@started(t)@, @alive(t)@))))
        from @table@ t
        where @is_running(t)@
        group by 2
      ) o
    ), '[]') as groups
  into v_open
  from scale s;
  select
    coalesce(sum(l.count), 0) as count,
    coalesce(jsonb_object_agg(l.kind, l.count), '{}') as by_kind
  into v_live
  from (
    select a.kind, count(*) as count
    from unstuck.attempts a
    where a.watch = '@watch@' and a.ended_at is null
    group by 1
  ) l;
  return jsonb_build_object(
    'estimated', v_open.is_estimated,
    'open', v_open.groups,
    'live', v_live.count,
    'live_by_kind', v_live.by_kind,
    'overdue', (
      select jsonb_build_object(
        'count', count(*), 'oldest', extract(epoch from v_now - min(unstuck.finite(l.until)))
      )
      from unstuck.@watch@_stuck_tasks(v_now, p_rules, 20000) l
    )
  );
end $$;

-- overview: what is open now, and what ended or was refused in the last hour. Reads open rows and
-- the ledger only.
create or replace function unstuck.@watch@_overview(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return unstuck.@watch@_open_work(p_rules) || jsonb_build_object(
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
      where r.watch = '@watch@'
        and r.at > v_now - interval '1 hour'
        and r.source <> 'rehearsal'
    ),
    'last_sweep', (
      select jsonb_build_object(
        'started_at', s.started_at,
        'ago', extract(epoch from v_now - s.started_at),
        'ok', s.ok,
        'counts', s.counts
      )
      from unstuck.sweeps s
      where s.installation = '@installation@'
      order by s.id desc
      limit 1
    )
  );
end $$;

-- What a run does last in a watch, in one call: orphans, and what is open then. It does not ask for
-- what ended: that would be read in each run, and nobody needs it there.
create or replace function unstuck.@watch@_tidy(p_sweep bigint, p_rules jsonb) returns jsonb
language plpgsql as $$
declare
  v_orphaned constant integer := unstuck.@watch@_orphans(p_sweep);
begin
  return jsonb_build_object(
    'orphaned', v_orphaned, 'open', unstuck.@watch@_open_work(p_rules)
  );
end $$;
