-- status: answers a poll for one task, and heals that task if it is overdue (read-repair). A task
-- that is not of `p_owner`, where one is given, is missing.
create or replace function unstuck.@watch@_status(
  p_task text,
  p_rules jsonb,
  p_heal boolean default true,
  p_owner text default null
) returns jsonb language plpgsql as $$
declare
  -- cast here: in a scan of an empty table nobody would see that it is no key
  v_key     constant @key_type@ := p_task::@key_type@;
  v_now     timestamptz;
  v_task    record;
  v_attempt unstuck.attempts;
  v_jump    record;
  v_ahead   interval;
  v_overdue boolean;
  v_until   timestamptz;
  v_rescued json;
begin
  perform unstuck.heed();
  loop
    v_now := clock_timestamp();
    select
      t.@key@::text as id,
      @state(t)@ as state,
      t.@status@::text as word,
      @kind(t)@ as kind,
      @owner(t)@ as owner,
      @result(t)@ as result,
      @error(t)@ as error,
      @reason(t)@ as reason,
      @queued(t)@ as queued,
      @due(t)@ as due,
      @alive(t)@ as alive,
      @is_withdrawn(t)@ as withdrawn,
      @own_attempts(t)@ as attempts
    into v_task
    from @table@ t
    where t.@key@ = v_key;
    if not found or p_owner is not null and v_task.owner is distinct from p_owner then
      return jsonb_build_object('verdict', 'missing');
    end if;
    select a.*
    into v_attempt
    from unstuck.attempts a
    where a.watch = '@watch@'
      and a.task_id = v_task.id
    order by a.number desc
    limit 1;
    if @ends_alike@
      and v_task.state = 'completed'
      and v_attempt.outcome in ('failed', 'cancelled')
    then
      v_task.state := v_attempt.outcome;
    end if;
    select * into v_jump from unstuck.last_jump();
    v_ahead := case when v_task.queued < v_jump.at then v_jump.ahead else '0' end;
    if v_task.state = 'pending' then
      v_until := unstuck.pending_until(v_task.queued + v_ahead, v_task.kind, p_rules, '{}');
      if v_until <= v_now or exists (  -- or it waits for its turn, or while its kind is paused
        select from unstuck.pauses p where p.watch = '@watch@' and p.ended_at is null
      ) then
        v_until := unstuck.pending_until(
          v_task.queued + v_ahead,
          v_task.kind,
          p_rules,
          unstuck.@watch@_turns(v_now, p_rules, 'pending_for')
        );
      end if;
    end if;
    v_overdue := case
      when v_task.state in ('pending', 'running')
        and v_attempt.number is not null
        and v_attempt.ended_at is null
      then least(v_attempt.lease_until, v_attempt.deadline_at) <= v_now
        and unstuck.lives_until(v_attempt, unstuck.ready_after()) <= v_now
      when v_task.withdrawn then true
      when v_task.state = 'pending' then v_until <= v_now
      when v_task.state = 'running' then
        v_task.alive <= v_now
          - unstuck.rule_seconds(p_rules, v_task.kind, 'silent_for')
          - case when v_task.alive < v_jump.at then v_jump.ahead else '0' end
      else false
    end;
    exit when not p_heal
      or not coalesce(v_overdue, false)
      or v_rescued is not null
      or current_setting('transaction_read_only')::boolean;  -- a poll is answered there too
    v_rescued := unstuck.@watch@_sweep(p_rules, 1, null, v_task.id) -> 'rescued';
  end loop;
  return jsonb_build_object(
    'verdict', 'found',
    'task_id', v_task.id,
    'state', v_task.state,
    'word', v_task.word,
    'kind', v_task.kind,
    'owner', v_task.owner,
    'result', v_task.result,
    'overdue', coalesce(v_overdue, false),
    'rescued', coalesce(v_rescued, '[]'),
    'error', coalesce(
      v_task.error,
      case when v_task.state = 'failed' then v_attempt.error end
    ),
    'reason', coalesce(
      v_task.reason,
      case when v_task.state in ('failed', 'cancelled') then v_attempt.reason end
    ),
    'queued_at', v_task.queued,
    'waited', extract(epoch from v_now - unstuck.finite(v_task.queued)),
    'silent', extract(epoch from v_now - unstuck.finite(v_task.alive)),
    'pending_left', case v_task.state
      when 'pending' then extract(epoch from unstuck.finite(v_until) - v_now)
    end,
    'paused', case v_task.state
      when 'pending' then unstuck.pause_of('@watch@', v_task.kind)
    end,
    'due_in', case
      when v_task.state = 'pending' and v_task.due is distinct from 'infinity' then
        greatest(0, extract(epoch from unstuck.finite(v_task.due) - v_now))
    end,
    'attempt', case when v_attempt.number is not null then jsonb_build_object(
      'number', v_attempt.number,
      'tries', v_attempt.tries,
      'of', (
        unstuck.rule_of_row(unstuck.rule(p_rules, v_task.kind), v_task.attempts) ->> 'attempts'
      )::integer,
      'worker', v_attempt.worker,
      'started_at', v_attempt.started_at,
      'beat_at', v_attempt.beat_at,
      'ended_at', v_attempt.ended_at,
      'outcome', v_attempt.outcome,
      'reason', v_attempt.reason,
      'cause', v_attempt.cause,
      'evidence', v_attempt.evidence,
      'progress', v_attempt.progress,
      'age', extract(epoch from v_now - v_attempt.started_at),
      'silent', extract(epoch from v_now - v_attempt.beat_at),
      'ended_ago', extract(epoch from v_now - v_attempt.ended_at),
      'took', extract(epoch from v_attempt.ended_at - v_attempt.started_at),
      'deadline_left', case when v_attempt.ended_at is null then
        extract(epoch from v_attempt.deadline_at - v_now)
      end,
      'lease_left', case when v_attempt.ended_at is null then
        extract(epoch from unstuck.lives_until(
          v_attempt,
          case when v_attempt.lease_until <= v_now then unstuck.ready_after() else '0' end
        ) - v_now)
      end
    ) end
  );
end $$;
