-- timeline: all that is known of one task's attempts, to draw them: times in seconds since 1970.
-- The last 50 attempts. `unguarded`: what the row says of a task that runs, or ended, without one.
create or replace function unstuck.@watch@_timeline(p_task text) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'now', extract(epoch from clock_timestamp()),
    'created', (
      select extract(epoch from unstuck.finite(@created(t)@))
      from @table@ t
      where t.@key@ = p_task::@key_type@
    ),
    'due', (
      select extract(epoch from unstuck.finite(@due(t)@))
      from @table@ t
      where t.@key@ = p_task::@key_type@ and @is_pending(t)@
    ),
    'parent', (
      select @parent(t)@
      from @table@ t
      where t.@key@ = p_task::@key_type@
    ),
    'label', (
      select @label(t)@
      from @table@ t
      where t.@key@ = p_task::@key_type@
    ),
    'unguarded', (
      select jsonb_build_object(
        'started', extract(epoch from unstuck.finite(@started(t)@)),
        'alive', extract(epoch from unstuck.finite(@alive(t)@)),
        'ended', case when not @is_running(t)@ then
          extract(epoch from unstuck.finite(coalesce(@finished(t)@, @alive(t)@)))
        end
      )
      from @table@ t
      where t.@key@ = p_task::@key_type@
        and (
          @is_running(t)@
          or @is_failed(t)@
          or @is_cancelled(t)@
          or @state(t)@ = 'completed'
        )
        and not exists (
          select from unstuck.attempts a where a.watch = '@watch@' and a.task_id = p_task
        )
    ),
    'attempts', coalesce((
      select jsonb_agg(jsonb_build_object(
        'number', a.number,
        'tries', a.tries,
        'worker', a.worker,
        'trace', a.trace,
        'started', extract(epoch from coalesce(r.started_at, a.started_at)),
        'beat', extract(epoch from coalesce(r.alive_at, a.beat_at)),
        'beats', a.beats,
        'lease', extract(epoch from a.lease),
        'lease_until', extract(epoch from a.lease_until),
        'deadline', extract(epoch from a.deadline_at),
        'ended', extract(epoch from a.ended_at),
        'retry_at', extract(epoch from a.retry_at),
        'outcome', a.outcome,
        'reason', a.reason,
        'cause', a.cause,
        'error', a.error,
        'detail', a.detail,
        'progress', a.progress,
        'sweep_id', a.sweep_id,
        'checkpoints', a.checkpoint_at || (
          select coalesce(jsonb_object_agg(c.name, extract(epoch from c.at)), '{}')
          from unstuck.checkpoints c
          where c.watch = '@watch@' and c.task_id = p_task and c.number = a.number
        )
      ) order by a.number)
      from (
        select *
        from unstuck.attempts a
        where a.watch = '@watch@' and a.task_id = p_task
        order by a.number desc
        limit 50
      ) a
      left join lateral (  -- a run without the guard, which a sweep ended
        select
          least(unstuck.finite(@started(t)@), a.started_at) as started_at,
          least(unstuck.finite(@alive(t)@), a.beat_at) as alive_at
        from @table@ t
        where a.lease = '0'
          and a.number = 1
          and t.@key@ = p_task::@key_type@
          and @started(t)@ is not null
          and not @is_pending(t)@
      ) r on true
    ), '[]'),
    'refusals', coalesce((
      select jsonb_agg(jsonb_build_object(
        'at', extract(epoch from r.at),
        'source', r.source,
        'wanted', r.wanted,
        'because', r.because,
        'writer', r.writer
      ) order by r.id)
      from (
        select *
        from unstuck.refusals r
        where r.watch = '@watch@' and r.task_id = p_task
        order by r.id desc
        limit 50
      ) r
    ), '[]')
  )
$$;

-- What the list never shows: input and result, and the data of the last attempt's checkpoints.
create or replace function unstuck.@watch@_payload(p_task text) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'input', @input(t)@,
    'result', @result(t)@,
    'checkpoints', (
      select a.checkpoint || unstuck.saved('@watch@', p_task, a.number)
      from unstuck.attempts a
      where a.watch = '@watch@' and a.task_id = p_task
      order by a.number desc
      limit 1
    )
  )
  from @table@ t
  where t.@key@ = p_task::@key_type@
$$;

-- What one sweep did to tasks, by task, at most 500. `undo`: the task is as that sweep left it, and
-- failed. With `p_undo` only those.
create or replace function unstuck.@watch@_swept(
  p_sweep bigint,
  p_limit integer default 500,
  p_after text default '',
  p_undo boolean default false
) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(to_jsonb(d) order by d.task_id), '[]')
  from (
    select
      a.task_id,
      a.number,
      a.kind,
      a.worker,
      a.outcome,
      a.reason,
      a.cause,
      extract(epoch from a.ended_at - a.beat_at) as silent,
      @state(t)@ as state,
      t.@status@::text as word,
      coalesce(@is_failed(t)@ and l.number = a.number, false) as undo
    from unstuck.attempts a
    join @table@ t on t.@key@ = a.task_id::@key_type@
    cross join lateral (
      select max(n.number) as number
      from unstuck.attempts n
      where n.watch = a.watch and n.task_id = a.task_id
    ) l
    where a.watch = '@watch@'
      and a.sweep_id = p_sweep
      and a.sweep_id > 0
      and a.task_id > p_after
      and (not p_undo or @is_failed(t)@ and l.number = a.number)
    order by a.task_id
    limit least(p_limit, 500)
  ) d
$$;
