-- settle: ends an attempt and moves its task, together or not at all. Safe to repeat: the token is
-- the key. `p_outcome` is what the worker asks for:
--   complete, fail
--   retry    counts against the attempts
--   release  does not, since the worker was shut down
--   return   the handler had not begun, so that nothing is uncertain. Counts unless the worker was
--            shut down, has no such handler, or could not import it
-- `p_reason` is why, in a code; `p_delay` is the wait before the next attempt, in seconds.
-- Names between at signs stand for what differs by table: see functions/install/render.py.
create or replace function unstuck.@watch@_settle(
  p_task text,
  p_token uuid,
  p_outcome text,
  p_rules jsonb,
  p_result jsonb default null,
  p_reason text default null,
  p_error text default null,
  p_detail text default null,
  p_delay double precision default null
) returns jsonb language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  -- A table without a pending status cannot take a task back, so there a release counts as a try:
  -- a task that ends its worker each time would live for ever.
  v_free_releases constant integer := case when @born_running@ then 0 else 10 end;
  v_attempt record;
  v_rule    jsonb;
  v_state   text := case p_outcome
    when 'complete' then 'completed'
    when 'fail' then 'failed'
    when 'retry' then 'pending'
    when 'release' then 'pending'
    when 'return' then 'pending'
  end;
  v_cause   text := coalesce(p_reason, case p_outcome when 'release' then 'shutdown' end);
  v_free    boolean;
  v_outcome text := v_state;
  v_reason  text := p_reason;
  v_error   text := p_error;
  v_retry_at timestamptz;
  v_pass    text;
  v_callback text;
begin
  @as_role@
  if v_state is null then
    raise exception 'unknown outcome: %', p_outcome using errcode = 'invalid_parameter_value';
  end if;
  if v_state <> 'completed' then
    select a.kind, a.tries
    into v_attempt
    from unstuck.attempts a
    where a.watch = '@watch@'
      and a.task_id = p_task
      and a.token = p_token
      and a.ended_at is null
    for update;
    if v_state = 'pending' and exists (  -- its user asked to stop it
      select from @table@ t where t.@key@ = p_task::@key_type@ and @is_stopping(t)@
    ) then
      v_state := 'cancelled';
      v_outcome := v_state;
      v_reason := v_state;
    elsif v_state = 'pending' then
      v_rule := unstuck.rule_of_row(
        unstuck.rule(p_rules, v_attempt.kind),
        (select @own_attempts(t)@ from @table@ t where t.@key@ = p_task::@key_type@)
      );
      -- The handler had not begun: even work that must not be done twice may be tried again.
      if p_outcome = 'return' and v_rule ->> 'on_lost' = 'uncertain' then
        v_rule := v_rule || '{"on_lost": "retry"}';
      end if;
      -- Whether the attempt counts for nothing.
      v_free := case p_outcome
        when 'release' then v_rule ->> 'on_lost' = 'retry'
        else p_outcome = 'return' and p_reason in ('shutdown', 'no_handler', 'transient')
      end;
      if v_free and v_free_releases > (
        select count(*) filter (where a.outcome = 'released' and a.number > coalesce(e.number, 0))
        from unstuck.attempts a, (
          select max(number) as number  -- the last end: a task that was put back begins anew
          from unstuck.attempts
          where watch = '@watch@'
            and task_id = p_task
            and outcome in ('completed', 'failed', 'cancelled')
        ) e
        where a.watch = '@watch@'
          and a.task_id = p_task
      ) then
        v_outcome := 'released';
        v_retry_at := v_now + make_interval(secs => coalesce(p_delay, 0));
      else
        v_state := unstuck.next_state(v_rule, v_cause, v_attempt.tries);
        v_outcome := case v_state when 'pending' then 'retried' else v_state end;
        v_reason := unstuck.next_reason(v_rule, v_cause, v_attempt.tries);
        v_retry_at := case v_state when 'pending' then v_now + coalesce(
          make_interval(secs => p_delay),
          unstuck.backoff(v_rule, v_attempt.tries)
        ) end;
      end if;
    end if;
    v_error := coalesce(p_error, unstuck.sentence(v_reason, p_reason, v_attempt.tries));
  end if;

  update unstuck.attempts a
  set ended_at = v_now,
      outcome = v_outcome,
      reason = v_reason,
      cause = p_reason,
      error = v_error,
      detail = p_detail,
      retry_at = v_retry_at
  where a.watch = '@watch@'
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null
  returning a.number, a.tries, a.kind, a.started_at into v_attempt;
  if not found then
    return unstuck.@watch@_refuse(p_task, p_token, p_outcome);
  end if;
  if v_cause = 'transient' and v_rule ? 'breaker_failures' then
    perform unstuck.trip('@watch@', v_attempt.kind, v_rule);
  end if;
  -- the fence lets this statement pass
  v_pass := set_config('unstuck.override', '@watch@' || '/' || pg_trigger_depth(), true);
  -- coalesce() keeps the planner from the partial index on running rows: the primary key is faster.
  if v_state = 'completed' then  -- apart: with a constant state the planner drops the cases
    update @table@ t
    set @move(t, x)@
    from (
      select
        'completed' as state,
        p_result as result,
        v_reason as reason,
        v_error as error,
        v_retry_at as retry_at
    ) x
    where t.@key@ = p_task::@key_type@
      and coalesce(@runs_by_word(t)@, false)
    returning @callback(t)@ into v_callback;
  else
    update @table@ t
    set @move(t, x)@
    from (
      select
        v_state as state,
        null::jsonb as result,
        v_reason as reason,
        v_error as error,
        v_retry_at as retry_at
    ) x
    where t.@key@ = p_task::@key_type@
      and coalesce(@runs_by_word(t)@, false)
    returning @callback(t)@ into v_callback;
  end if;
  v_pass := set_config('unstuck.override', '', true);
  if not found then  -- moved without the guard: the task is theirs, the attempt ends
    update unstuck.attempts a
    set outcome = 'overtaken'
    where a.watch = '@watch@'
      and a.task_id = p_task
      and a.number = v_attempt.number;
    return unstuck.@watch@_refuse(p_task, p_token, p_outcome);
  end if;
  if v_state = 'completed' then
    @on_completed(p_task, v_attempt.number, p_result)@
  elsif v_state = 'failed' then
    @on_failed(p_task, v_attempt.number, v_reason)@
  end if;
  if v_callback is not null or v_outcome in (@told_outcomes@) then
    perform unstuck.@watch@_tell(array[p_task], array[v_attempt.number]);
  end if;
  return jsonb_build_object(
    'verdict', 'settled',
    'state', v_state,
    'reason', v_reason,
    'error', v_error,
    'number', v_attempt.number,
    'tries', v_attempt.tries,
    'kind', v_attempt.kind,
    'took', extract(epoch from v_now - v_attempt.started_at),
    'retry_after', extract(epoch from v_retry_at - v_now)
  );
end $$;

-- The answer to a settle whose attempt is not live: it was settled so before (`repeat`), or the
-- attempt is lost. A lost one is recorded.
create or replace function unstuck.@watch@_refuse(p_task text, p_token uuid, p_outcome text)
returns jsonb language plpgsql as $$
declare
  v_attempt record;
begin
  select
    a.outcome, a.reason, a.error, a.number, a.tries, a.kind, a.sweep_id,
    a.ended_at - a.started_at as took
  into v_attempt
  from unstuck.attempts a
  where a.watch = '@watch@'
    and a.task_id = p_task
    and a.token = p_token;
  if v_attempt.sweep_id is null
    and v_attempt.outcome is not null
    and (p_outcome, v_attempt.outcome) in (
      ('complete', 'completed'),
      ('fail', 'failed'),
      ('retry', 'retried'),
      ('retry', 'failed'),
      ('release', 'released'),
      ('release', 'retried'),
      ('release', 'failed'),
      ('return', 'released'),
      ('return', 'retried'),
      ('return', 'failed')
    )
  then
    return jsonb_build_object(
      'verdict', 'settled',
      'repeat', true,
      'reason', v_attempt.reason,
      'error', v_attempt.error,
      'number', v_attempt.number,
      'tries', v_attempt.tries,
      'kind', v_attempt.kind,
      'took', extract(epoch from v_attempt.took),
      'retry_after', 0,
      'state', case
        when v_attempt.outcome in ('retried', 'released') then 'pending'
        else v_attempt.outcome
      end
    );
  end if;
  return unstuck.lost('@watch@', p_task, p_token, p_outcome);
end $$;
