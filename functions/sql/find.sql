-- find: tasks by a filter, for operators. No view: it would stand in the way of the owner's
-- `alter table`. `p_filter`: {ids, states, kind, owner, reason, message (the shape of a sentence),
-- sweep_id, older_than (seconds)}, each optional; without states, the open ones. Ordered by key, at
-- most 500, those after `p_after`: so an operation on many tasks reads the table once. No JIT: up
-- to PostgreSQL 17 such expressions for each row of a table that was adopted look so dear that they
-- are compiled (1.2 to 2.9 s for each call with 100,000 tasks on 15, and 14 to 298 ms without).
create or replace function unstuck.@watch@_find(
  p_filter jsonb default '{}',
  p_limit integer default 500,
  p_after text default null
) returns json language plpgsql stable set jit = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return coalesce((
    select json_agg(l)
    from (
      select
        v.task_id,
        v.state,
        v.word,
        v.kind,
        v.owner,
        coalesce(v.error, a.error) as error,
        a.number,
        a.tries,
        a.worker,
        a.reason,
        extract(epoch from v_now - unstuck.finite(case v.state
          when 'running' then coalesce(a.started_at, v.started, v.alive)
          when 'pending' then v.queued
          else coalesce(a.ended_at, v.alive)
        end)) as age
      from (
        select
          t.@key@ as key,
          t.@key@::text as task_id,
          @state(t)@ as state,
          t.@status@::text as word,
          @kind(t)@ as kind,
          @owner(t)@::text as owner,
          @queued(t)@ as queued,
          @due(t)@ as due,
          @alive(t)@ as alive,
          @started(t)@ as started,
          @error(t)@ as error,
          (@is_pending(t)@ or @is_running(t)@) as open
        from @table@ t
      ) v
      left join lateral (
        select
          a.number,
          a.tries,
          a.worker,
          a.started_at,
          a.ended_at,
          a.outcome,
          a.reason,
          a.error,
          a.sweep_id
        from unstuck.attempts a
        where a.watch = '@watch@' and a.task_id = v.task_id
        order by a.number desc
        limit 1
      ) a on true
      where case when p_filter ? 'states' then p_filter -> 'states' ? v.state else v.open end
        and (p_filter ? 'states' or v.open)
        and (
          not p_filter ? 'ids'
          or v.key in (
            select i.id::@key_type@
            from jsonb_array_elements_text(p_filter -> 'ids') as i (id)
          )
        )
        and (not p_filter ? 'kind' or v.kind = p_filter ->> 'kind')
        and (not p_filter ? 'owner' or v.owner = p_filter ->> 'owner')
        and (not p_filter ? 'reason' or a.reason = p_filter ->> 'reason')
        and (
          not p_filter ? 'message'
          or unstuck.message_shape(a.error) = p_filter ->> 'message'
        )
        -- why the task ended, not how a try went before others ended it
        and (
          not p_filter ?| array['reason', 'message']
          or v.state not in ('completed', 'failed', 'cancelled')
          or a.outcome = v.state
        )
        and (not p_filter ? 'sweep_id' or a.sweep_id = (p_filter ->> 'sweep_id')::bigint)
        and (
          not p_filter ? 'older_than'
          or v_now - make_interval(secs => (p_filter ->> 'older_than')::float8)
            >= case v.state when 'pending' then v.queued else v.alive end
        )
        and (p_after is null or v.key > p_after::@key_type@)
      order by v.key
      limit least(p_limit, 500)
    ) l
  ), '[]');
end $$;

-- The attempts of one task, the first one first.
create or replace function unstuck.@watch@_history(p_task text) returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object(
    'number', a.number,
    'tries', a.tries,
    'worker', a.worker,
    'started_at', a.started_at,
    'ended_at', a.ended_at,
    'age', extract(epoch from clock_timestamp() - a.started_at),
    'took', extract(epoch from a.ended_at - a.started_at),
    'beats', a.beats,
    'outcome', a.outcome,
    'reason', a.reason,
    'cause', a.cause,
    'error', a.error,
    'detail', a.detail,
    'evidence', a.evidence,
    'progress', a.progress,
    'checkpoints', (
      select json_agg(c.name)
      from (
        select jsonb_object_keys(a.checkpoint) as name
        union
        select c.name from unstuck.checkpoints_of('@watch@', p_task, a.number) c
      ) c
    ),
    'sweep_id', a.sweep_id
  ) order by a.number), '[]')
  from unstuck.attempts a
  where a.watch = '@watch@'
    and a.task_id = p_task
$$;
