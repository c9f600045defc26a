-- sweep: settles what is overdue, one batch for each call. Two sweeps at once are harmless: each
-- skips the rows that the other has locked.
--   overdue  finds and locks the rows, and decides; writes nothing. Each search is in the order of
--            its index: without an order the limit makes a scan of the whole table look cheap to
--            the planner, and each batch would do one. What no index knows is asked in a CASE,
--            which the planner takes to be true of half of the rows: it took other conditions to
--            be true of one row, and each batch read and sorted all that was overdue
--   apply    writes the decisions, guarded again by status
--   sweep    does both; where the batch fails it goes row by row, so that one bad row never stops
--            the others, whether it is wrong, locked or slow
-- No sequential scans in overdue and apply: a plan that was made while a table was small would be
-- kept while it grows (30 times slower seen). And no JIT: up to PostgreSQL 17 a plan that cannot do
-- without such a scan is taken to be so dear that each run of it is compiled (105 to 434 ms of CPU
-- for a batch of 500, and 23 to 32 without).
-- Names between at signs stand for what differs by table: see functions/install/render.py.

-- What workers did last, by kind, and in '*' of all kinds: `held`, when one last held a task;
-- `claimed`, when one last claimed one; `front`, where they are in the queue: half of the claims
-- were of tasks that were queued later. Attempts that a sweep ended do not count. Looks back by the
-- longest time that rule `p_name` has, over at most 5,000 ended attempts; `front` is by a sample of
-- about 100 claims of a kind, since each costs a search for its task. Empty where no task waits for
-- so long: then nobody needs it.
create or replace function unstuck.@watch@_turns(
  p_now timestamptz,
  p_rules jsonb,
  p_name text
) returns jsonb language plpgsql stable
set enable_seqscan = off set jit = off
set enable_hashjoin = on
set max_parallel_workers_per_gather = 0
set plan_cache_mode = force_generic_plan as $$
declare
  v_window constant interval := (
    select make_interval(secs => max((value ->> p_name)::float8)) from jsonb_each(p_rules)
  );
  v_longest constant timestamptz := p_now - unstuck.shortest(p_rules, p_name);
begin
  -- In the order of its index, which an EXISTS ignores: with another one it walks past all that
  -- waited since the last vacuum.
  if (
    select true
    from @table@ t
    where @is_pending(t)@ and @queued_bound(t)@ <= v_longest
    order by @queued_bound(t)@
    limit 1
  ) is null then
    return '{}';
  end if;
  return unstuck.with_pauses('@watch@', p_now, p_rules, coalesce((
    with claims as materialized (
      (
        select
          a.kind,
          case
            when unstuck.lives_until(a, (select unstuck.ready_after())) > p_now then p_now
            else a.beat_at
          end as held,
          a.started_at,
          a.task_id
        from unstuck.attempts a
        where a.watch = '@watch@' and a.ended_at is null
      )
      union all
      (
        select
          a.kind,
          a.ended_at,
          a.started_at,
          a.task_id
        from unstuck.attempts a
        where a.watch = '@watch@'
          and coalesce(a.ended_at, 'infinity') > p_now - v_window
          and a.ended_at is not null
          and a.worker is not null
          and a.sweep_id is null
        order by coalesce(a.ended_at, 'infinity') desc  -- its index
        limit 5000
      )
    ), kinds as materialized (
      select c.kind, max(c.held) as held, max(c.started_at) as claimed, count(*) as claims
      from claims c
      group by c.kind
    ), total as materialized (
      select max(k.held) as held, max(k.claimed) as claimed, sum(k.claims)::float8 as claims
      from kinds k
    ), sample as materialized (
      select d.kind, d.is_of_all, q.queued
      from (
        select
          c.kind,
          c.task_id,
          k.claims * unstuck.draw(c.task_id) < 100 as is_of_kind,
          n.claims * unstuck.draw(c.task_id) < 100 as is_of_all
        from claims c
        join kinds k on k.kind = c.kind
        cross join total n
      ) d
      cross join lateral (
        select @queued_bound(t)@ as queued
        from @table@ t
        where t.@key@ = d.task_id::@key_type@
        limit 1  -- each by its key: the planner would read the whole table to join it
      ) q
      where d.is_of_kind
    )
    select jsonb_object_agg(k.kind, jsonb_build_object(
      'held', k.held, 'claimed', k.claimed, 'front', f.front
    ))
    from (
      select k.kind, k.held, k.claimed from kinds k
      union all
      select '*', n.held, n.claimed from total n
    ) k
    left join (
      select s.kind, percentile_disc(0.5) within group (order by s.queued) as front
      from (
        select s.kind, s.queued from sample s
        union all
        select '*', s.queued from sample s where s.is_of_all
      ) s
      group by s.kind
    ) f on f.kind = k.kind
    where k.held is not null
  ), '{}'));
end $$;

-- What is overdue now, and the decision about each task. `p_task`: only that one; null: all.
create or replace function unstuck.@watch@_overdue(
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer,
  p_task text,
  p_skip text[]
) returns unstuck.overdue[]
language plpgsql set plan_cache_mode = auto  -- whatever a claim has set, and until the end
set enable_seqscan = off set jit = off
set enable_memoize = off as $$  -- each task is asked for once
declare
  v_rules   constant jsonb := unstuck.complete_rules(p_rules);
  v_pushes  constant boolean := coalesce((p_rules -> '*' ->> 'pushes')::boolean, false);
  v_sent    constant boolean := exists (
    select from unstuck.dispatches p where p.watch = '@watch@'
  );
  v_jump    record;
  v_turns   jsonb;
  v_before  timestamptz;
  v_kinds   text[];  -- that have a rule or were worked on, '' for all others; in this order:
  v_for     interval[];  -- how long they may wait,
  v_most    interval[];  -- whatever goes on,
  v_again   interval[];  -- when a push was sent again,
  v_held    timestamptz[];  -- and when a worker last held one of them
  v_all     record;
  v_lost    unstuck.overdue[];
  v_asked   unstuck.overdue[];
  v_waiting unstuck.overdue[];
  v_silent  unstuck.overdue[];
begin
  -- To plan the searches of all overdue tasks anew in each run took four times as long as to run
  -- them. The search for one task is planned for its key.
  if p_task is null then
    perform set_config('plan_cache_mode', 'force_generic_plan', true);
  end if;
  select * into v_jump from unstuck.last_jump();
  -- Attempts whose lease or deadline has passed. Live attempts are few: all are read. Where
  -- somebody else moved the task (overtaken), the attempt ends and the task is theirs.
  select array_agg(unstuck.decided(
    d.task_id, d.kind, true, d.number, d.tries, d.worker, d.rule, d.cause, d.held,
    p_now - unstuck.finite(d.until)
  ))
  into v_lost
  from (
    select
      a.task_id,
      a.kind,
      a.number,
      a.tries,
      a.worker,
      unstuck.rule_of_row(coalesce(v_rules -> a.kind, v_rules -> '*'), @own_attempts(t)@) as rule,
      @is_running(t)@ as held,
      case
        when @is_stopping(t)@ then 'cancelled'
        when a.deadline_at <= p_now then 'deadline'
        else 'lease_lost'
      end as cause,
      unstuck.lives_until(a, (select unstuck.ready_after())) as until
    from unstuck.attempts a
    join @table@ t on t.@key@ = a.task_id::@key_type@
    where a.watch = '@watch@'
      and a.ended_at is null
      and least(a.lease_until, a.deadline_at) <= p_now
      and unstuck.lives_until(a, (select unstuck.ready_after())) <= p_now
      and (p_task is null or a.task_id = p_task)
      and a.task_id <> all (p_skip)
    order by a.task_id
    limit p_limit
    for update of a, t skip locked
  ) d;
  p_limit := p_limit - coalesce(cardinality(v_lost), 0);

  -- Waiting, or waited, although its user asked to stop it. Of all that wait the oldest are read.
  if @may_be_asked@ and p_limit > 0 then
    select array_agg(unstuck.withdrawn(d.task_id, d.kind, l.number, l.tries, d.was))
    into v_asked
    from (
      select
        t.@key@::text as task_id,
        @kind(t)@ as kind,
        case when @is_pending(t)@ then 'pending' else 'running' end as was
      from @table@ t
      where @is_withdrawn(t)@
        and case
          when p_task is null then t.@key@ in (@oldest_withdrawn()@)
          else t.@key@ = p_task::@key_type@
        end
        and not exists (
          select from unstuck.attempts a
          where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
        )
        and t.@key@::text <> all (p_skip)
      limit p_limit
      for update skip locked
    ) d
    left join lateral unstuck.last_attempt('@watch@', d.task_id) l on true;
    p_limit := p_limit - coalesce(cardinality(v_asked), 0);
  end if;

  if p_limit > 0 then
    -- Pending for longer than the rule, and not waiting for its turn. Where workers are pushed to,
    -- not before its push was sent again; and not where that was only just now, for the first time
    -- or after the rule's time was over.
    v_turns := coalesce(
      nullif(current_setting('unstuck.turns', true), '')::jsonb,  -- of `batch`
      unstuck.@watch@_turns(p_now, p_rules, 'pending_for')
    );
    v_before := unstuck.overdue_before(p_now, p_rules, v_turns);
    -- what JSON says is read once, not for each row
    select
      array_agg(k.kind),
      array_agg(unstuck.rule_seconds(p_rules, k.kind, 'pending_for')),
      array_agg(unstuck.pending_at_most(p_rules, k.kind)),
      array_agg(unstuck.rule_seconds(p_rules, k.kind, 'redispatch_after')),
      array_agg((v_turns -> k.kind ->> 'held')::timestamptz)
    into v_kinds, v_for, v_most, v_again, v_held
    from (
      select n.kind
      from (select jsonb_object_keys(p_rules || v_turns) as kind union select '') n
      where n.kind <> '*'
      order by n.kind <> ''
    ) k;
    select
      (v_turns -> '*' ->> 'held')::timestamptz as held,
      (v_turns -> '*' ->> 'front')::timestamptz as front,
      v_turns -> '*' -> 'pauses' as pauses
    into v_all;
    select array_agg(unstuck.unclaimed(
      d.task_id, d.kind, d.number, d.tries, d.had_turns, p_now - unstuck.finite(d.until)
    ))
    into v_waiting
    from (
      select
        q.task_id,
        @kind(t)@ as kind,
        l.number,
        l.tries,
        c.until,
        c.until = q.at + v_most[q.kind_number] and c.until > q.at + v_for[q.kind_number]
          as had_turns
      from @table@ t
      cross join lateral (
        select
          t.@key@::text as task_id,
          coalesce(array_position(v_kinds, @kind(t)@), 1) as kind_number,
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
        offset 0
      ) c
      left join lateral (
        select p.at, p.times
        from unstuck.dispatches p
        where v_sent and p.watch = '@watch@' and p.task_id = q.task_id
        offset 0  -- asked by its key: what was small when the plan was made may grow
      ) p on true
      left join lateral (
        select a.number, a.tries, a.ended_at
        from unstuck.attempts a
        where a.watch = '@watch@' and a.task_id = q.task_id
        order by a.number desc
        limit 1
      ) l on true
      where @is_claimable(t)@
        and @queued_bound(t)@ <= v_before
        and case when p_task is null then true else t.@key@ = p_task::@key_type@ end
        and case when q.task_id <> all (p_skip)
          and c.until <= p_now
          -- A poll ends it all the same: it may be the only path to an end while no scheduler runs.
          and (not v_pushes or p_task is not null or p.at >= @queued(t)@)
          and (
            (p.times = 1 or p.at >= c.until) and p.at > p_now - v_again[q.kind_number]
          ) is not true
          and (l.number is null or l.ended_at is not null)
        then true end
      order by @queued_bound(t)@
      limit p_limit
      for update of t skip locked
    ) d;
    p_limit := p_limit - coalesce(cardinality(v_waiting), 0);

    -- Running without a live attempt: a worker that does not use the guard. Judged by the clocks of
    -- the table.
    select array_agg(unstuck.decided(
      d.task_id,
      d.kind,
      false,
      coalesce(l.number, 0) + 1,
      unstuck.lost_try(l.outcome, l.tries, d.counted),
      null,
      d.rule,
      d.cause,
      true,
      p_now - unstuck.finite(d.until)
    ))
    into v_silent
    from (
      select
        t.@key@::text as task_id,
        @kind(t)@ as kind,
        unstuck.rule_at_age(
          unstuck.rule_of_row(coalesce(v_rules -> @kind(t)@, v_rules -> '*'), @own_attempts(t)@),
          @alive(t)@,
          p_now
        ) as rule,
        @attempts(t)@ as counted,
        case when @is_stopping(t)@ then 'cancelled' else 'stale' end as cause,
        @alive(t)@ + unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for') as until
      from @table@ t
      where @is_running(t)@
        and @alive_bound(t)@ <= p_now - unstuck.shortest(p_rules, 'silent_for')
        and case when p_task is null then true else t.@key@ = p_task::@key_type@ end
        and case when t.@key@::text <> all (p_skip)
          and @alive(t)@ <= p_now
            - unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for')
            - case when @alive(t)@ < v_jump.at then v_jump.ahead else '0' end
          and not exists (
            select from unstuck.attempts a
            where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
            offset 0
          )
          and not (@was_withdrawn(t)@)
        then true end
      order by @alive_bound(t)@
      limit p_limit
      for update skip locked
    ) d
    left join lateral unstuck.last_attempt('@watch@', d.task_id) l on true;
  end if;

  -- Running, with a sign of life that lies in the future: that counts as now when it was first seen
  -- (`orphans` wrote it down).
  if p_task is not null and (v_lost || v_asked || v_waiting || v_silent) is null then
    select array_agg(unstuck.decided(
      d.task_id,
      d.kind,
      false,
      coalesce(l.number, 0) + 1,
      unstuck.lost_try(l.outcome, l.tries, d.counted),
      null,
      d.rule,
      'stale',
      true,
      p_now - d.until
    ))
    into v_silent
    from (
      select
        t.@key@::text as task_id,
        @kind(t)@ as kind,
        unstuck.rule_of_row(
          coalesce(v_rules -> @kind(t)@, v_rules -> '*'), @own_attempts(t)@
        ) as rule,
        @attempts(t)@ as counted,
        u.since + unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for') as until
      from @table@ t
      join unstuck.unsweepable u
        on u.watch = '@watch@' and u.task_id = t.@key@::text and u.code = 'clock'
      where t.@key@ = p_task::@key_type@
        and @is_running(t)@
        and @alive_bound(t)@ > p_now
        and u.since <= p_now - unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for')
        and not exists (
          select from unstuck.attempts a
          where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
        )
      for update of t skip locked
    ) d
    left join lateral unstuck.last_attempt('@watch@', d.task_id) l on true;
  end if;

  return v_lost || v_asked || v_waiting || v_silent;
end $$;

-- Writes the decisions: ends live attempts, adds an attempt that holds the reason where there was
-- none, and moves the tasks.
create or replace function unstuck.@watch@_apply(
  p_now timestamptz,
  p_found unstuck.overdue[],
  p_sweep bigint
) returns void language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_called text[];  -- tasks whose own callback is to be told
begin
  @as_role@
  update unstuck.attempts a
  set ended_at = p_now,
      outcome = case x.state when 'pending' then 'retried' else x.state end,
      reason = x.reason,
      cause = x.cause,
      error = x.error,
      retry_at = p_now + make_interval(secs => x.retry_after),
      sweep_id = coalesce(p_sweep, 0)
  from unnest(p_found) x
  where x.live
    and a.watch = '@watch@'
    and a.task_id = x.task_id
    and a.number = x.number
    and a.ended_at is null;

  insert into unstuck.attempts (
    watch, task_id, number, tries, kind, token,
    started_at, lease, lease_until, deadline_at, beat_at, ended_at,
    outcome, reason, cause, error, retry_at, sweep_id, checkpoint
  )
  select
    '@watch@', x.task_id, x.number, x.tries, x.kind, '00000000-0000-0000-0000-000000000000',
    p_now, '0', p_now, p_now, p_now, p_now,
    case x.state when 'pending' then 'retried' else x.state end,
    x.reason,
    x.cause,
    x.error,
    p_now + make_interval(secs => x.retry_after),
    coalesce(p_sweep, 0),
    case when x.state = 'pending' then coalesce((  -- the next attempt starts with what is done
      select a.checkpoint
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.task_id = x.task_id
        and a.number = x.number - 1
        and a.outcome not in ('completed', 'failed', 'cancelled')
    ), '{}') else '{}' end
  from unnest(p_found) x
  where not x.live;

  perform set_config('unstuck.override', '@watch@' || '/' || pg_trigger_depth(), true);
  with moved as (
    update @table@ t
    set @move(t, x)@
    from (
      select
        u.*,
        p_now + make_interval(secs => u.retry_after) as retry_at,
        null::jsonb as result
      from unnest(p_found) u
    ) x
    where x.state <> 'overtaken'
      and t.@key@ = x.task_id::@key_type@
      and @state_by_word(t)@ = x.was
    returning x.task_id, x.state, @callback(t)@ as callback
  )
  select array_agg(m.task_id)
  into v_called
  from moved m
  where m.state in ('failed', 'cancelled') and m.callback is not null;
  perform set_config('unstuck.override', '', true);

  @each_on_failed(p_found)@
  @each_on_cancelled(p_found)@
  -- Mostly nobody is to be told: then no row is read for it.
  if v_called is not null
    or (@tells_always@ or exists (select from unstuck.addresses d where unstuck.hears(d)))
    and exists (
      select from unnest(p_found) x
      where replace(x.state, 'pending', 'retried') in (@told_outcomes@)
    )
  then
    perform unstuck.@watch@_tell(array_agg(x.task_id), array_agg(x.number))
    from unnest(p_found) x
    where x.task_id = any (v_called)
      or replace(x.state, 'pending', 'retried') in (@told_outcomes@);
  end if;
end $$;

-- One batch: finds, decides and writes. Answers the tasks that it moved, those that it could not
-- move, and whether there are more. Where the batch fails it goes row by row. A row that fails
-- alone is written down as unsweepable, and comes again when nothing else is left: once in each
-- run. No lock is waited for longer than a small part of a run's budget: a row or an account that
-- somebody has locked must not keep the others.
create or replace function unstuck.@watch@_sweep(
  p_rules jsonb,
  p_limit integer default 500,
  p_sweep bigint default null,
  p_task text default null,
  p_skip text[] default '{}'
) returns json language plpgsql set lock_timeout = '200ms' as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_until timestamptz;
  v_passed text[] := '{}';
  v_ids   text[];
  v_id    text;
  v_batch unstuck.overdue[];
  v_task   unstuck.overdue[];
  v_settled  unstuck.overdue[] := '{}';
  v_bad   json[] := '{}';
  v_more  boolean := false;
begin
  if p_task is null then
    v_passed := array(select u.task_id from unstuck.unsweepable u where u.watch = '@watch@');
  else
    perform unstuck.forgive_silence();
  end if;
  perform unstuck.bridge('@watch@', p_task);
  -- Locks and writes are in one subtransaction: a row that was locked outside of it gets a
  -- multixact when it is written.
  begin
    v_batch := unstuck.@watch@_overdue(v_now, p_rules, p_limit, p_task, p_skip || v_passed);
    v_more := v_batch is not null
      and (cardinality(v_batch) >= p_limit or v_passed <> '{}' and p_sweep is not null);
    if v_batch is not null then
      perform unstuck.@watch@_apply(v_now, v_batch, p_sweep);
      return json_build_object(
        'rescued', to_json(v_batch), 'unsweepable', v_bad, 'more', v_more
      );
    end if;
  exception when others then
    if v_batch is null or unstuck.stops_batch(sqlstate) then
      raise;
    end if;
  end;
  if v_batch is null then
    v_ids := array(
      select u.task_id
      from unstuck.unsweepable u
      where u.watch = '@watch@'
        and u.task_id = any (v_passed)
        and u.task_id <> all (p_skip)
        and (p_sweep is null or u.sweep_id is distinct from p_sweep)
      order by u.tried_at
      limit p_limit
    );
    v_more := p_sweep is not null and cardinality(v_ids) >= p_limit;
  else
    v_ids := array(select f.task_id from unnest(v_batch) f);
  end if;
  if v_ids = '{}' then
    return json_build_object('rescued', v_settled, 'unsweepable', v_bad, 'more', false);
  end if;

  v_until := v_now + unstuck.half_of_limit();
  perform set_config('lock_timeout', '100ms', true);
  foreach v_id in array v_ids loop
    if clock_timestamp() >= v_until then  -- what was done so far must come to its commit
      v_more := true;
      exit;
    end if;
    v_task := null;
    begin
      v_task := unstuck.@watch@_overdue(v_now, p_rules, 1, v_id, '{}');
      if v_task is null then  -- settled or locked by somebody, in the meantime
        delete from unstuck.unsweepable u
        using @table@ t
        where u.watch = '@watch@'
          and u.task_id = v_id
          and u.code = 'clock'
          and t.@key@ = v_id::@key_type@
          and @alive_bound(t)@ <= v_now;
        update unstuck.unsweepable u
        set sweep_id = p_sweep
        where u.watch = '@watch@' and u.task_id = v_id;
        v_bad := v_bad || array(
          select json_build_object(
            'task_id', u.task_id,
            'kind', u.kind,
            'since', u.since,
            'code', u.code,
            'error', u.error
          )
          from unstuck.unsweepable u
          where u.watch = '@watch@' and u.task_id = v_id and u.code = 'clock'
        );
      else
        perform unstuck.@watch@_apply(v_now, v_task, p_sweep);
        delete from unstuck.unsweepable u where u.watch = '@watch@' and u.task_id = v_id;
        v_settled := v_settled || v_task;
      end if;
    exception when others then
      if unstuck.stops_batch(sqlstate) then
        raise;
      end if;
      v_bad := v_bad || unstuck.pass_over(
        '@watch@', v_id, v_task[1].kind, p_sweep, sqlstate, sqlerrm
      );
    end;
  end loop;
  return json_build_object(
    'rescued', to_json(v_settled), 'unsweepable', to_json(v_bad), 'more', v_more
  );
end $$;

-- Writes down the next overdue task as unsweepable, for a caller whose batch of one was stopped by
-- a time limit: nothing of such a batch is kept. Null where none is overdue.
create or replace function unstuck.@watch@_pass_over(
  p_rules jsonb,
  p_sweep bigint,
  p_code text,
  p_error text
) returns json language plpgsql as $$
declare
  v_passed constant text[] := array(
    select u.task_id from unstuck.unsweepable u where u.watch = '@watch@'
  );
  v_next  unstuck.overdue := (
    unstuck.@watch@_overdue(clock_timestamp(), p_rules, 1, null, v_passed)
  )[1];
begin
  if v_next.task_id is null then  -- then it was one of those that are known
    select u.task_id, u.kind
    into v_next.task_id, v_next.kind
    from unstuck.unsweepable u
    where u.watch = '@watch@'
      and u.sweep_id is distinct from p_sweep
    order by u.tried_at
    limit 1;
  end if;
  if v_next.task_id is null then
    return null;
  end if;
  return unstuck.pass_over(
    '@watch@', v_next.task_id, v_next.kind, p_sweep, p_code, p_error
  );
end $$;

-- Pending tasks whose push seems lost, to be sent again: once in each `redispatch_after`, and ever
-- more rarely while workers take other tasks. Not those that only wait for their turn, unless they
-- waited for the end of a pause: that may have outlasted their pushes. However many wait, it reads
-- the 20,000 oldest, and 20,000 from a time that is drawn anew in each call: behind so many others
-- there is little that a push could still win.
create or replace function unstuck.@watch@_redispatch(p_rules jsonb, p_limit integer default 500)
returns json language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_late   constant jsonb := unstuck.@watch@_turns(v_now, p_rules, 'pending_for');
  v_turns  constant jsonb := unstuck.@watch@_turns(v_now, p_rules, 'redispatch_after');
  v_resumed constant jsonb := unstuck.resumed(v_now, p_rules, v_turns);
  v_before constant timestamptz := v_now - unstuck.shortest(p_rules, 'redispatch_after');
  v_from   timestamptz;
  v_busy   text[];
  v_front  timestamptz;
  v_sent   json;
begin
  v_from := unstuck.finite((
    select @queued_bound(t)@
    from @table@ t
    where @is_claimable(t)@ and @queued_bound(t)@ <= v_before
    order by @queued_bound(t)@
    limit 1
  ));
  v_from := v_from + (v_before - v_from) * random();
  -- What is surely in turn is passed over without a look at its rule: a long queue is mostly that.
  select array_agg(k.kind), max((v_turns -> k.kind ->> 'front')::timestamptz)
  into v_busy, v_front
  from jsonb_object_keys(v_turns) as k (kind)
  where k.kind <> '*'
    and unstuck.in_turn(
      'infinity', k.kind, v_now - unstuck.rule_seconds(p_rules, k.kind, 'redispatch_after'), v_turns
    );
  with waiting as (
    (
      select t.@key@::text as task_id, @kind(t)@ as kind, @queued(t)@ as queued
      from @table@ t
      where @is_claimable(t)@ and @queued_bound(t)@ <= v_before
      order by @queued_bound(t)@
      limit 20000
    )
    union all
    (
      select t.@key@::text, @kind(t)@, @queued(t)@
      from @table@ t
      where @is_claimable(t)@ and @queued_bound(t)@ between v_from and v_before
      order by @queued_bound(t)@
      limit 20000
    )
  ), silent as (
    select w.task_id, w.kind, w.queued
    from waiting w
    cross join lateral (
      select unstuck.resumed_at(w.kind, v_resumed, v_turns) as at
    ) r
    left join lateral (
      select p.at, p.times
      from unstuck.dispatches p
      where p.watch = '@watch@' and p.task_id = w.task_id
      offset 0
    ) d on (w.kind = any (v_busy) and w.queued >= greatest(v_front, r.at)) is not true
    where (w.kind = any (v_busy) and w.queued >= greatest(v_front, r.at)) is not true
      and w.queued <= v_now - unstuck.rule_seconds(p_rules, w.kind, 'redispatch_after')
      and (
        d.at is null
        or d.at < w.queued
        or d.at > v_now  -- the clock was set back since
        or w.queued < r.at and d.at < r.at
        or d.at <= v_now
            - unstuck.rule_seconds(p_rules, w.kind, 'redispatch_after')
              * unstuck.push_factor(d.times, w.kind, v_now, p_rules, v_turns)
          and unstuck.pending_until(w.queued, w.kind, p_rules, v_late) > v_now
      )
      and (
        w.queued < r.at and coalesce(d.at < r.at, true)
        or not unstuck.in_turn(
          w.queued,
          w.kind,
          v_now - unstuck.rule_seconds(p_rules, w.kind, 'redispatch_after'),
          v_turns
        )
      )
    group by w.task_id, w.kind, w.queued
    order by w.queued
    limit p_limit
  ), quiet as (
    select
      w.task_id,
      w.kind,
      coalesce(extract(epoch from v_now - unstuck.finite(w.queued)), 0) as age
    from silent w
    join @table@ t on t.@key@ = w.task_id::@key_type@
    where @is_claimable(t)@
    for update of t skip locked
  ), sent as (
    insert into unstuck.dispatches as d (watch, task_id, at)
    select '@watch@', q.task_id, v_now
    from quiet q
    on conflict (watch, task_id) do update
    set at = v_now,
        times = d.times + 1
    returning d.task_id, d.times
  )
  select json_agg(json_build_object(
    'task_id', s.task_id,
    'kind', q.kind,
    'times', s.times,
    'age', q.age,
    'number', coalesce(l.number, 0) + 1
  ))
  into v_sent
  from sent s
  join quiet q using (task_id)
  left join lateral unstuck.last_attempt('@watch@', s.task_id) l on true;
  return coalesce(v_sent, '[]');
end $$;

-- Ends attempts whose task row was deleted, and forgets what a trigger saw of a row that is open
-- no more, since a truncate tells a trigger nothing; once in each run. Also calls on_swept, the
-- hook in which users look for changes that were made without our functions. What was unsweepable
-- and is open no more is forgotten. Returns how many attempts it ended.
create or replace function unstuck.@watch@_orphans(p_sweep bigint) returns integer
language plpgsql set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_before constant timestamptz := clock_timestamp() - interval '30 days';
  v_count  integer;
begin
  update unstuck.attempts a
  set ended_at = clock_timestamp(),
      outcome = 'overtaken',
      reason = 'cancelled',
      error = 'The task was deleted.',
      sweep_id = p_sweep
  where a.ctid = any (array(
    select l.ctid
    from unstuck.attempts l
    where l.watch = '@watch@'
      and l.ended_at is null
      and unstuck.lives_until(l, (select unstuck.ready_after())) <= clock_timestamp()
      and not exists (select from @table@ t where t.@key@ = l.task_id::@key_type@)
    for update skip locked
  ));
  get diagnostics v_count = row_count;
  delete from unstuck.unsweepable u
  where u.watch = '@watch@'
    and not exists (
      select from @table@ t
      where t.@key@ = u.task_id::@key_type@
        and (@is_pending(t)@ or @is_running(t)@)
    )
    and not exists (
      select from unstuck.attempts a
      where a.watch = '@watch@' and a.task_id = u.task_id and a.ended_at is null
    );
  -- A sign of life in the future would keep a dead task from every sweep, and from every count.
  insert into unstuck.unsweepable (watch, task_id, kind, code, error)
  select
    '@watch@',
    t.@key@::text,
    coalesce(@kind(t)@, ''),
    'clock',
    'Its last sign of life lies in the future; it counts as seen now.'
  from @table@ t
  where @is_running(t)@
    and @alive_bound(t)@ > clock_timestamp() + interval '1 hour'
    and @alive_bound(t)@ < 'infinity'
    and not exists (
      select from unstuck.attempts a
      where a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
    )
  order by @alive_bound(t)@ desc
  limit 500
  on conflict (watch, task_id) do nothing;
  delete from unstuck.observed o
  where o.ctid = any (array(
    select l.ctid
    from (
      select ctid, task_id
      from unstuck.observed
      where watch = '@watch@'
        and status_at < v_before
      order by status_at
      limit 500
      for update skip locked  -- a statement of the application may hold some, in its own order
    ) l
    where not exists (
      select from @table@ t
      where t.@key@ = l.task_id::@key_type@
        and (@is_pending(t)@ or @is_running(t)@)
    )
  ));
  @on_swept()@
  return v_count;
end $$;
