-- claim: makes one attempt the holder of one given task (`p_task`), or of the next one.
-- The next one is never a row that the sweep wants: only rows younger than their pending rule are taken.
-- Its plans are generic: each search is by a key or by the order of an index, and to plan it anew took half of its time.
-- The caller makes the token, so that a claim whose answer was lost can be asked for again (`p_again`).
create or replace function unstuck.@watch@_claim(
  p_task text, p_worker text, p_rules jsonb, p_token uuid default gen_random_uuid(), p_again boolean default false,
  p_kinds text[] default null
) returns jsonb language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_task    record;
  v_last    record;
  v_rule    jsonb;
  v_lease   interval;
  v_tries   integer := 1;
  v_rescued json;
  v_answer  jsonb;
  v_held    text[] := '{}';
begin@as_role@
  if @only_swept@ then
    raise exception 'the watch % has no word for completed: its tasks can be swept, but not run in the guard', @watch_name@
      using errcode = 'feature_not_supported';
  end if;
  if p_again then
    perform 1 from @table@ t where @key@ = p_task::@key_type@ for update;  -- the first call may be at it still
    select jsonb_build_object('verdict', 'claimed', 'task_id', a.task_id, 'kind', a.kind, 'state', 'running', 'token', a.token,
      'number', a.number, 'tries', a.tries, 'input', @input@, 'rescued', null, 'checkpoint', a.checkpoint) into v_answer
    from unstuck.attempts a join @table@ t on @key@ = a.task_id::@key_type@
    where a.watch = @watch_name@ and a.ended_at is null and a.token = p_token;
    if found then
      return v_answer;
    end if;
  end if;

  loop
    if p_task is null then
      select @key@ as key, @key@::text as id, @state@ as state, @kind@ as kind, @input@ as input, @due@ as due into v_task
      from @table@ t
      where @is_pending@ and @due@ <= v_now
        and @queued@ > v_now - unstuck.longest(p_rules, 'pending_for')
        and @queued@ > v_now - unstuck.rule_seconds(p_rules, @kind@, 'pending_for')
        and (p_kinds is null or @kind@ = any (p_kinds))
        and @key@::text <> all (v_held)
      order by @claim_order@ limit 1 for update skip locked;
      if not found then
        return jsonb_build_object('verdict', 'none');
      end if;
    else
      select @key@ as key, @key@::text as id, @state@ as state, @kind@ as kind, @input@ as input, @due@ as due into v_task
      from @table@ t where @key@ = p_task::@key_type@ for update;
      if not found then
        return jsonb_build_object('verdict', 'missing');
      end if;
      if v_task.state = 'running' then  -- redelivered: an attempt that is overdue is taken over, a live one is left alone
        v_rescued := unstuck.@watch@_sweep(p_rules, 1, null, p_task) -> 'rescued';
        select @state@ into v_task.state from @table@ t where @key@ = p_task::@key_type@;
        v_task.due := null;
        if @born_running@ and v_task.state = 'running' and not exists (  -- nobody holds it: it is as good as pending
          select from unstuck.attempts a where a.watch = @watch_name@ and a.task_id = v_task.id and a.ended_at is null)
        then
          v_task.state := 'pending';
        end if;
      end if;
      if v_task.state is distinct from 'pending' then
        return jsonb_build_object('verdict', case when v_task.state = 'running' then 'held'
                                                  when v_task.state = 'resting' then 'resting' else 'ended' end,
          'task_id', v_task.id, 'kind', v_task.kind, 'state', v_task.state, 'rescued', v_rescued, 'retry_after', (
            select greatest(1, extract(epoch from unstuck.alive_until(a.lease_until, a.lease, a.deadline_at, (select unstuck.ready_after())) - v_now))
            from unstuck.attempts a where a.watch = @watch_name@ and a.task_id = v_task.id and a.ended_at is null));
      end if;
      if v_task.due > v_now then
        return jsonb_build_object('verdict', 'early', 'task_id', v_task.id, 'kind', v_task.kind, 'state', 'pending',
          'retry_after', extract(epoch from v_task.due - v_now));
      end if;
    end if;
    select a.number, a.tries, a.outcome, a.checkpoint into v_last
    from unstuck.attempts a where a.watch = @watch_name@ and a.task_id = v_task.id order by a.number desc limit 1;
    exit when v_last.number is null or v_last.outcome is not null;
    if p_task is not null then  -- somebody put a held task back; its attempt ends first
      return jsonb_build_object('verdict', 'held', 'task_id', v_task.id, 'kind', v_task.kind, 'state', 'pending', 'retry_after', 1);
    end if;
    v_held := v_held || v_task.id;
  end loop;

  v_rule := unstuck.rule(p_rules, v_task.kind);
  v_lease := make_interval(secs => (v_rule ->> 'lease')::float8);
  if v_last.number is not null then
    v_tries := case
      when v_last.outcome in ('completed', 'failed', 'cancelled') then 1    -- it had ended: a person started it again
      when v_last.outcome = 'released' then greatest(v_last.tries, 1)
      else v_last.tries + 1
    end;
  end if;

  insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker, started_at, beat_at, lease,
                                lease_until, deadline_at, checkpoint)
  values (@watch_name@, v_task.id, coalesce(v_last.number, 0) + 1, v_tries, v_task.kind, p_token, p_worker, v_now, v_now, v_lease,
          v_now + v_lease, v_now + v_lease + make_interval(secs => (v_rule ->> 'run_for')::float8),
          case when v_last.outcome in ('retried', 'released', 'overtaken') then v_last.checkpoint else '{}' end);
  update @table@ t set @to_running@ where @key@ = v_task.key;

  return jsonb_build_object('verdict', 'claimed', 'task_id', v_task.id, 'kind', v_task.kind, 'state', 'running', 'token', p_token,
    'number', coalesce(v_last.number, 0) + 1, 'tries', v_tries, 'input', v_task.input, 'rescued', v_rescued,
    'checkpoint', case when v_last.outcome in ('retried', 'released', 'overtaken') then v_last.checkpoint else '{}' end);
end $$;
