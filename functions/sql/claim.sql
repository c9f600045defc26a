-- claim: makes one attempt the holder of one given task (`p_task`), or of the next one; with
-- `p_kinds` only of a task of these kinds. Three short
-- steps: lock the task; read its last attempt, by a statement of its own, which sees what was
-- committed before the lock; add the new attempt and move the task. The next task is one that may
-- still wait: only rows younger than `pending_at_most` are taken, so that a mass of stale rows is
-- not walked through. The plans are generic: each search is by a key or in the order of an index,
-- and to plan it anew took half of the time. The caller makes the token, so that a claim whose
-- answer was lost can be asked for again (`p_again`). No lock is waited for longer than the caller
-- waits for the answer: a claim that comes through when nobody listens would burn a try.
-- Names between at signs stand for what differs by table: see functions/install/render.py.
create or replace function unstuck.@watch@_claim(
  p_task text,
  p_worker text,
  p_rules jsonb,
  p_token uuid default gen_random_uuid(),
  p_again boolean default false,
  p_kinds text[] default null
) returns jsonb
language plpgsql set plan_cache_mode = force_generic_plan set lock_timeout = '2s' as $$
declare
  v_key     constant @key_type@ := p_task::@key_type@;
  v_now     constant timestamptz := clock_timestamp();
  -- whether this claim is all that its transaction writes
  v_alone   constant boolean := pg_current_xact_id_if_assigned() is null;
  v_aged    timestamptz;  -- now, by the clock before it was set forward
  v_task    record;
  v_last    record;
  v_number  integer := 1;
  v_tries   integer := 1;
  v_lease   interval;
  v_run_for interval;
  -- checkpoints as an older release wrote them: all in one value
  v_checkpoint jsonb := '{}';
  v_saved   jsonb := '{}';
  v_answer  jsonb;
  v_rescued json;
  v_held    @key_type@[] := '{}';
  v_kind    text;
  v_taken   boolean;
  v_pass    text;
begin
  @as_role@
  if @only_swept@ then
    raise exception
      'the watch % has no word for completed: its tasks can be swept, but not run in the guard',
      '@watch@' using errcode = 'feature_not_supported';
  end if;
  if p_task is null then  -- the first call may still run, with any task: its repetition waits
    v_aged := v_now - coalesce((select j.ahead from unstuck.last_jump() j), '0');
    v_pass := pg_advisory_xact_lock(hashtextextended(p_token::text, 0)) is null;
  end if;
  if p_again then
    v_answer := unstuck.@watch@_claimed(p_task, p_token);
    if v_answer is not null then
      return v_answer;
    end if;
  end if;

  loop
    if p_task is null and p_kinds is null then
      select
        t.@key@ as key,
        t.@key@::text as id,
        @kind(t)@ as kind,
        @input(t)@ as input,
        @attempts(t)@ as counted
      into v_task
      from @table@ t
      where @is_claimable(t)@
        and @due(t)@ <= v_now
        and @queued(t)@ > v_aged - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, @kind(t)@)
        and t.@key@ <> all (v_held)
      order by @claim_order(t)@
      limit 1
      for update skip locked;
      if not found then
        return '{"verdict": "none"}';
      end if;
    elsif p_task is null then
      -- Kind by kind, in the order of what is next of each: a search over all pending tasks would
      -- walk past those of the other kinds.
      v_taken := false;
      for v_kind in
        select k.kind
        from unnest(p_kinds) as k (kind)
        cross join lateral (
          select t.*
          from @table@ t
          where @is_claimable(t)@
            and @due(t)@ <= v_now
            and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, k.kind)
            and @kind(t)@ = k.kind
            and t.@key@ <> all (v_held)
          order by @claim_order(t)@
          limit 1
        ) h
        order by @claim_order(h)@
      loop
        select
          t.@key@ as key,
          t.@key@::text as id,
          @kind(t)@ as kind,
          @input(t)@ as input,
          @attempts(t)@ as counted
        into v_task
        from @table@ t
        where @is_claimable(t)@
          and @due(t)@ <= v_now
          and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, v_kind)
          and @kind(t)@ = v_kind
          and t.@key@ <> all (v_held)
        order by @claim_order(t)@
        limit 1
        for update skip locked;
        v_taken := found;  -- the loop itself sets `found` when it ends
        exit when v_taken;
      end loop;
      if not v_taken then
        return '{"verdict": "none"}';
      end if;
    else
      select
        t.@key@ as key,
        t.@key@::text as id,
        @kind(t)@ as kind,
        @input(t)@ as input,
        @attempts(t)@ as counted,
        @is_claimable(t)@ and (@due(t)@ > v_now) is not true as ready
      into v_task
      from @table@ t
      where t.@key@ = v_key
      for update;
      if v_task.ready is not true then
        v_answer := unstuck.@watch@_unready(p_task, p_rules, v_now);
        if v_answer ->> 'verdict' <> 'rescued' then
          return v_answer;
        end if;
        v_rescued := v_answer -> 'rescued';
      end if;
      if v_task.kind <> all (p_kinds) then  -- the caller cannot do it: the task stays
        return jsonb_build_object(
          'verdict', 'elsewhere',
          'task_id', v_task.id,
          'kind', v_task.kind,
          'state', 'pending',
          'rescued', v_rescued
        );
      end if;
    end if;
    select a.number, a.tries, a.outcome, a.checkpoint
    into v_last
    from unstuck.attempts a
    where a.watch = '@watch@'
      and a.task_id = v_task.id
    order by a.number desc
    limit 1;
    exit when v_last.number is null or v_last.outcome is not null;
    if p_task is not null then  -- somebody put a held task back; its attempt ends first
      return jsonb_build_object(
        'verdict', 'held',
        'task_id', v_task.id,
        'kind', v_task.kind,
        'state', 'pending',
        'retry_after', 1
      );
    end if;
    v_held := v_held || v_task.key;
  end loop;

  if v_last.number is null then  -- its table may have counted tries outside the guard
    v_tries := greatest(1, v_task.counted + 1);
  else
    v_number := v_last.number + 1;
    v_tries := case
      -- it had ended: a person started it again
      when v_last.outcome in ('completed', 'failed', 'cancelled') then 1
      when v_last.outcome = 'released' then greatest(v_last.tries, 1)
      else v_last.tries + 1
    end;
    if v_last.outcome in ('retried', 'released', 'overtaken') then
      v_checkpoint := v_last.checkpoint;
      v_saved := unstuck.saved('@watch@', v_task.id, v_last.number);
    end if;
  end if;
  -- A crash of the database may forget the claim of a task that may be repeated: then it is still
  -- pending, and nobody knows the token. So this commit does not wait for the disk, which takes
  -- longer than all the rest. The settle waits, and for both.
  if v_alone
    and v_rescued is null
    and unstuck.rule_value(p_rules, v_task.kind, 'on_lost') = 'retry'
  then
    v_pass := set_config('synchronous_commit', 'off', true);
  end if;
  v_lease := unstuck.rule_seconds(p_rules, v_task.kind, 'lease');
  v_run_for := unstuck.rule_seconds(p_rules, v_task.kind, 'run_for');
  insert into unstuck.attempts (
    watch, task_id, number, tries, kind, token, worker,
    started_at, beat_at, lease, lease_until, deadline_at, checkpoint
  ) values (
    '@watch@', v_task.id, v_number, v_tries, v_task.kind, p_token, p_worker,
    v_now, v_now, v_lease, v_now + v_lease, v_now + v_lease + v_run_for, v_checkpoint
  );
  if @sees_put_back@ then
    v_pass := set_config('unstuck.override', '@watch@' || '/' || pg_trigger_depth(), true);
  end if;
  update @table@ t
  set @start(t, v_now, p_worker)@
  where t.@key@ = v_task.key;
  if @sees_put_back@ then
    v_pass := set_config('unstuck.override', '', true);
  end if;

  return jsonb_build_object(
    'verdict', 'claimed',
    'task_id', v_task.id,
    'kind', v_task.kind,
    'state', 'running',
    'token', p_token,
    'number', v_number,
    'tries', v_tries,
    'input', v_task.input,
    'rescued', v_rescued,
    'checkpoint', v_checkpoint || v_saved
  );
end $$;

-- The answer of an earlier claim with the same token, or null.
create or replace function unstuck.@watch@_claimed(p_task text, p_token uuid) returns jsonb
language plpgsql as $$
begin
  -- that call may still run
  perform 1 from @table@ t where t.@key@ = p_task::@key_type@ for update;
  return (
    select jsonb_build_object(
      'verdict', 'claimed',
      'task_id', a.task_id,
      'kind', a.kind,
      'state', 'running',
      'token', a.token,
      'number', a.number,
      'tries', a.tries,
      'input', @input(t)@,
      'rescued', null,
      'checkpoint', a.checkpoint || unstuck.saved('@watch@', a.task_id, a.number)
    )
    from unstuck.attempts a
    join @table@ t on t.@key@ = a.task_id::@key_type@
    where a.watch = '@watch@'
      and a.ended_at is null
      and a.token = p_token
  );
end $$;

-- Why a given task that `claim` has locked cannot be claimed: missing, early, held, resting or
-- ended. Where its attempt is overdue the task is rescued, and may then be taken at once; a live
-- attempt is left alone. A waiting task whose user asked to stop it is cancelled.
create or replace function unstuck.@watch@_unready(
  p_task text,
  p_rules jsonb,
  p_now timestamptz
) returns jsonb language plpgsql as $$
declare
  v_task    record;
  v_rescued json;
begin
  select
    t.@key@::text as id,
    @state(t)@ as state,
    @kind(t)@ as kind,
    @due(t)@ as due,
    @is_stopping(t)@ as stopping
  into v_task
  from @table@ t
  where t.@key@ = p_task::@key_type@;
  if not found then
    return '{"verdict": "missing"}';
  end if;
  if v_task.state = 'pending' and v_task.stopping then
    v_rescued := unstuck.@watch@_sweep(p_rules, 1, null, p_task) -> 'rescued';
    select @state(t)@
    into v_task.state
    from @table@ t
    where t.@key@ = p_task::@key_type@;
  end if;
  if v_task.state = 'pending' then
    return jsonb_build_object(
      'verdict', 'early',
      'task_id', v_task.id,
      'kind', v_task.kind,
      'state', 'pending',
      'retry_after', coalesce(extract(epoch from unstuck.finite(v_task.due) - p_now), 86400)
    );
  end if;
  if v_task.state = 'running' then
    v_rescued := unstuck.@watch@_sweep(p_rules, 1, null, p_task) -> 'rescued';
    select @state(t)@
    into v_task.state
    from @table@ t
    where t.@key@ = p_task::@key_type@;
    -- rows that are born running and that nobody holds are as good as pending
    if @born_running@ and v_task.state = 'running' and not exists (
      select from unstuck.attempts a
      where a.watch = '@watch@' and a.task_id = v_task.id and a.ended_at is null
    ) then
      v_task.state := 'pending';
    end if;
  end if;
  return jsonb_build_object(
    'task_id', v_task.id,
    'kind', v_task.kind,
    'state', v_task.state,
    'rescued', v_rescued,
    'verdict', case v_task.state
      when 'pending' then 'rescued'
      when 'running' then 'held'
      when 'resting' then 'resting'
      else 'ended'
    end,
    'retry_after', (
      select greatest(1, extract(
        epoch from unstuck.lives_until(a, (select unstuck.ready_after())) - p_now
      ))
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.task_id = v_task.id
        and a.ended_at is null
    )
  );
end $$;
