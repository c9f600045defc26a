-- claim: makes one attempt the holder of one given task (`p_task`), or of the next one; with
-- `p_kinds` only of a task of these kinds. With `p_chooses` the given task is a wake-up: where it
-- may start now, or somebody else has it, the claim takes the next task of all that may.
-- Three short steps: lock the task; read its last attempt, by a statement of its own, which sees
-- what was committed before the lock; add the new attempt and move the task. The next task is one
-- that may still wait: only rows younger than `pending_at_most` are taken, so that a mass of stale
-- rows is not walked through. The plans are generic: each search is by a key or in the order of an
-- index (never by a sort: that would read all that waits), and to plan it anew took half of the
-- time. Each setting and each expression is paid for by every claim: so what few of them need is in
-- functions of its own.
-- The caller makes the token, so that a claim whose answer was lost can be asked for again
-- (`p_again`). `p_trace` is that of the request that claims; what is no trace is not kept. No lock
-- is waited for longer than the caller waits for the answer: a claim that comes through when nobody
-- listens would burn a try.
-- What is paused or at its limit stays as it is (pauses.sql, limits.sql); where nothing is, a claim
-- reads nothing for it but that no pause is there.
-- Names between at signs stand for what differs by table: see functions/install/render.py.
drop function if exists unstuck.@watch@_claim(text, text, jsonb, uuid, boolean, text[]);
drop function if exists unstuck.@watch@_claim(
  text, text, jsonb, uuid, boolean, text[], boolean
);
create or replace function unstuck.@watch@_claim(
  p_task text,
  p_worker text,
  p_rules jsonb,
  p_token uuid default gen_random_uuid(),
  p_again boolean default false,
  p_kinds text[] default null,
  p_chooses boolean default false,
  p_trace text default null
) returns jsonb
language plpgsql set plan_cache_mode = force_generic_plan set lock_timeout = '2s'
set enable_sort = off @without_jit@ as $$
declare
  v_key     constant @key_type@ := p_task::@key_type@;
  v_now     constant timestamptz := clock_timestamp();
  -- whether this claim is all that its transaction writes
  v_alone   constant boolean := pg_current_xact_id_if_assigned() is null;
  v_named   boolean := p_task is not null;  -- whether no other task will do
  v_tried   boolean := not p_chooses;  -- whether that was tried
  -- whether what is next has to be looked for in each kind apart
  v_by_kind boolean := p_kinds is not null
    or p_rules -> '*' ? 'some_limited'
    or p_chooses and p_rules -> '*' ? 'some_named';
  v_kinds   text[] := p_kinds;
  -- what has to be asked before the search: a pause, a clock that was set, a pause that has ended
  v_marks   text[] := array['@watch@', '', '/@watch@'];
  v_still   interval;
  v_aged    timestamptz := v_now;  -- now, less the time for which nothing grew older
  v_task    record;
  v_last    record;
  v_attempt record;
  v_taken   boolean;
  v_checkpoint jsonb;
  v_answer  jsonb;
  v_refusal jsonb;  -- the answer where no other task can be had either
  v_gate    jsonb;  -- the slots, the pause and the rescue to which the claim has to be told
  v_held    @key_type@[] := '{}';
  v_starved @key_type@;  -- a task that waits for too long behind more urgent ones
  v_turn    jsonb;  -- the task of the owner whose turn it is
  v_pass    text;
begin
  @as_role@
  if @only_swept@ then
    raise exception
      'the watch % has no word for completed: its tasks can be swept, but not run in the guard',
      '@watch@' using errcode = 'wrong_object_type';
  end if;
  if p_rules -> '*' ?& array[
    'pending_for', 'longest_pending_for', 'run_for', 'silent_for', 'attempts', 'lease', 'on_lost',
    'backoff_first', 'backoff_factor', 'backoff_max'
  ] is not true then
    raise exception 'the rules are not those of a policy: "*" lacks some'
      using errcode = 'invalid_parameter_value',
        hint = 'Send what `unstuck sql --rules` prints.';
  end if;
  if p_task is null or p_chooses then  -- the first call may still run, with any task
    v_pass := pg_advisory_xact_lock(hashtextextended(p_token::text, 0)) is null;
  end if;
  if p_again then
    v_answer := unstuck.@watch@_claimed(case when not p_chooses then p_task end, p_token);
    if v_answer is not null then
      return v_answer;
    end if;
  end if;
  if p_chooses and v_named then
    select false
    into v_named
    from @table@ t
    where t.@key@ = v_key
      and @is_claimable(t)@
      and (@due(t)@ > v_now) is not true
      and unstuck.is_chosen(p_rules, @kind(t)@);
    v_named := v_named is null;
  end if;
  if p_chooses and p_rules -> '*' ? 'some_named' then
    v_kinds := array(
      select k.kind
      from unnest(coalesce(p_kinds, unstuck.@watch@_waiting_kinds())) as k (kind)
      where unstuck.is_chosen(p_rules, k.kind)
    );
  end if;
  if @has_priority@ and not v_named and get_byte(uuid_send(p_token), 15) % 4 = 0 and (
    select @queued_bound(t)@
    from @table@ t
    where @is_claimable(t)@
    order by @queued_bound(t)@
    limit 1
  ) <= v_now - unstuck.rule_seconds(p_rules, '*', 'ageing') then
    v_starved := unstuck.@watch@_starved(v_kinds, v_now, p_rules);
  end if;

  loop
    v_turn := null;
    if @rotates@ and not v_named and v_starved is null then
      v_turn := unstuck.@watch@_rotate(
        v_kinds, coalesce(md5(p_kinds::text), '*'), v_held, v_now, p_rules
      );
    end if;
    if v_named then
      v_tried := true;
      select
        @claimed_columns(t)@,
        @is_claimable(t)@ and (@due(t)@ > v_now) is not true as ready,
        exists (
          select from unstuck.pauses p where p.watch = '@watch@' and p.ended_at is null
        ) as paused
      into v_task
      from @table@ t
      where t.@key@ = v_key
      for update;
      if v_by_kind or v_task.paused or v_task.ready is not true then
        v_gate := unstuck.@watch@_admit(
          p_task, v_task.kind, v_task.owner, coalesce(v_task.ready, false), p_kinds, p_rules, v_now
        );
        if v_gate ? 'verdict' then
          if v_refusal is not null  -- nothing else was to be had
            or not p_chooses
            or v_gate ->> 'verdict' = 'early'
            or not unstuck.is_chosen(p_rules, v_task.kind)
          then
            return v_gate;
          end if;
          v_refusal := v_gate;
          v_gate := null;
          v_named := false;
          continue;
        end if;
      end if;
    elsif v_starved is not null then
      select @claimed_columns(t)@
      into v_task
      from @table@ t
      where t.@key@ = v_starved
        and @is_claimable(t)@
      for update skip locked;
      v_taken := found;
      v_starved := null;
      continue when not v_taken;
      v_gate := unstuck.@watch@_gate(v_task.kind, v_task.owner, p_rules);
      if v_gate ? 'verdict' then
        v_gate := null;
        continue;
      end if;
    elsif v_turn is null and not v_by_kind then
      select @claimed_columns(t)@
      into v_task
      from @table@ t
      where @is_claimable(t)@
        and @due(t)@ <= v_now
        and @queued(t)@ > v_aged - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, @kind(t)@)
        and t.@key@ <> all (v_held)
        and not exists (
          select from unstuck.pauses p where p.watch = any (v_marks) and p.ended_at is null
        )
      order by @claim_order(t)@
      limit 1
      for update skip locked;
      v_taken := found;
      if not v_taken and v_marks <> '{}' then
        v_marks := '{}';
        v_still := unstuck.stood_still('@watch@', null, p_rules);
        v_aged := v_now - coalesce(v_still, '0');
        v_by_kind := exists (
          select from unstuck.pauses p where p.watch = '@watch@' and p.ended_at is null
        );
        continue when v_by_kind
          or v_still is not null
          or unstuck.forget_resumed('@watch@', p_rules);
      end if;
    else
      v_gate := coalesce(v_turn, unstuck.@watch@_choose(v_kinds, v_held, v_now, p_rules));
      v_taken := coalesce(v_gate ? 'key', false);
      if v_taken then
        select @claimed_columns(t)@
        into v_task
        from @table@ t
        where t.@key@ = (v_gate ->> 'key')::@key_type@;
      elsif v_gate ? 'verdict' then
        v_refusal := unstuck.sooner(v_refusal, v_gate);
      end if;
    end if;
    if not v_named and not v_taken then
      if v_tried then
        return coalesce(v_refusal, '{"verdict": "none"}');
      end if;
      v_named := true;  -- then the given one says why
      v_gate := null;
      v_refusal := '{"verdict": "none"}';
      continue;
    end if;
    select a.number, a.tries, a.outcome, a.checkpoint
    into v_last
    from unstuck.attempts a
    where a.watch = '@watch@'
      and a.task_id = v_task.id
    order by a.number desc
    limit 1;
    exit when v_last.number is null or v_last.outcome is not null;
    if v_named then  -- somebody put a held task back; its attempt ends first
      return jsonb_build_object(
        'verdict', 'held',
        'task_id', v_task.id,
        'kind', v_task.kind,
        'state', 'pending',
        'retry_after', 1
      );
    end if;
    v_gate := null;
    v_held := v_held || v_task.key;
  end loop;

  -- A crash of the database may forget the claim of a task that may be repeated: then it is still
  -- pending, and nobody knows the token. So this commit does not wait for the disk, which takes
  -- longer than all the rest. The settle waits, and for both.
  if v_alone
    and v_gate ->> 'rescued' is null
    and unstuck.rule_value(p_rules, v_task.kind, 'on_lost') = 'retry'
  then
    v_pass := set_config('synchronous_commit', 'off', true);
  end if;
  insert into unstuck.attempts (
    watch, task_id, number, tries, kind, token, worker,
    started_at, beat_at, lease, lease_until, deadline_at, trace, checkpoint
  )
  select
    '@watch@',
    v_task.id,
    coalesce(v_last.number, 0) + 1,
    case
      -- its table may have counted tries outside the guard
      when v_last.number is null then greatest(1, v_task.counted + 1)
      -- it had ended: a person started it again
      when v_last.outcome in ('completed', 'failed', 'cancelled') then 1
      when v_last.outcome = 'released' then greatest(v_last.tries, 1)
      else v_last.tries + 1
    end,
    v_task.kind, p_token, p_worker,
    v_now, v_now, r.lease, v_now + r.lease, v_now + r.lease + r.run_for,
    substring(p_trace from '^[0-9a-f]{32}$'),
    -- checkpoints as an older release wrote them: all in one value
    case when v_last.outcome in ('retried', 'released', 'overtaken') then v_last.checkpoint
    else '{}' end
  from (
    select
      unstuck.rule_seconds(p_rules, v_task.kind, 'lease') as lease,
      unstuck.rule_seconds(p_rules, v_task.kind, 'run_for') as run_for
  ) r
  returning number, tries, checkpoint
  into v_attempt;
  if @sees_put_back@ then
    v_pass := set_config('unstuck.override', '@watch@' || '/' || pg_trigger_depth(), true);
  end if;
  update @table@ t
  set @start(t, v_now, p_worker)@
  where t.@key@ = v_task.key;
  if @sees_put_back@ then
    v_pass := set_config('unstuck.override', '', true);
  end if;
  if v_gate is not null then
    perform unstuck.@watch@_pass(v_gate, v_task.id, v_attempt.number);
  end if;
  v_checkpoint := v_attempt.checkpoint;
  if v_last.outcome in ('retried', 'released', 'overtaken') then
    v_checkpoint := v_checkpoint || unstuck.saved('@watch@', v_task.id, v_last.number);
  end if;

  return jsonb_build_object(
    'verdict', 'claimed',
    'task_id', v_task.id,
    'kind', v_task.kind,
    'state', 'running',
    'token', p_token,
    'number', v_attempt.number,
    'tries', v_attempt.tries,
    'input', v_task.input,
    'rescued', v_gate -> 'rescued',
    'checkpoint', v_checkpoint
  );
end $$;

-- Whether a given task that `claim` has locked may start now: the gate through which it goes; or
-- the answer, which says why not. A task that is overdue is rescued, and may start.
create or replace function unstuck.@watch@_admit(
  p_task text,
  p_kind text,
  p_owner text,
  p_ready boolean,
  p_kinds text[],
  p_rules jsonb,
  p_now timestamptz
) returns jsonb language plpgsql set jit = off as $$
declare
  v_answer  jsonb;
  v_rescued jsonb;
begin
  if not p_ready then
    v_answer := unstuck.@watch@_unready(p_task, p_rules, p_now);
    if v_answer ->> 'verdict' <> 'rescued' then
      return v_answer;
    end if;
    v_rescued := v_answer -> 'rescued';
  end if;
  if p_kind <> all (p_kinds) then  -- the caller cannot do it
    v_answer := '{"verdict": "elsewhere"}';
  else
    v_answer := unstuck.@watch@_gate(p_kind, p_owner, p_rules);
  end if;
  if v_answer ? 'verdict' then
    v_answer := v_answer || jsonb_build_object(
      'task_id', p_task,
      'kind', p_kind,
      'state', 'pending'
    );
  end if;
  return v_answer || jsonb_build_object('rescued', v_rescued);
end $$;

-- Locks the next task, kind by kind, in the order of what is next of each: a search over all
-- pending tasks would walk past those of the other kinds. Returns its key and the gate through
-- which it goes; or the refusal after which to ask again the soonest, or null.
create or replace function unstuck.@watch@_choose(
  p_kinds text[],
  p_held @key_type@[],
  p_now timestamptz,
  p_rules jsonb
) returns jsonb language plpgsql set jit = off as $$
declare
  v_still   constant interval := unstuck.stood_still('@watch@', null, p_rules);
  v_limited constant boolean := p_rules -> '*' ? 'some_limited';
  v_next    record;
  v_owner   text;
  v_key     @key_type@;
  v_gate    jsonb;
  v_slots   jsonb;
  v_refusal jsonb;
begin
  for v_next in
    select
      k.kind,
      k.aged,
      v_limited and unstuck.rule_value(p_rules, k.kind, 'limited') is not null
        or exists (
          select from unstuck.pauses p where p.watch = '@watch@' and p.ended_at is null
        ) as gated
    from (
      select
        w.kind,
        case
          when v_still is null then p_now
          else p_now - coalesce(unstuck.stood_still('@watch@', w.kind, p_rules), '0')
        end as aged
      from unnest(coalesce(p_kinds, unstuck.@watch@_waiting_kinds())) as w (kind)
      offset 0
    ) k
    cross join lateral (
      select t.*
      from @table@ t
      where @is_claimable(t)@
        and @due(t)@ <= p_now
        and @queued(t)@ > k.aged - unstuck.pending_at_most(p_rules, k.kind)
        and @kind(t)@ = k.kind
        and t.@key@ <> all (p_held)
      order by @claim_order(t)@
      limit 1
    ) h
    order by @claim_order(h)@
  loop
    v_gate := '{}';
    if v_next.gated then
      v_gate := unstuck.@watch@_gate(v_next.kind, null, p_rules);
      if v_gate ? 'verdict' then
        v_refusal := unstuck.sooner(v_refusal, v_gate);
        continue;
      end if;
    end if;
    if v_next.gated and unstuck.limits_owners(p_rules, v_next.kind) then
      -- Owner by owner, for the same reason: one who is at the limit may have a million.
      for v_owner in
        select o.owner from unstuck.@watch@_waiting_owners(v_next.kind, p_now) o
      loop
        v_slots := unstuck.slots_for('@watch@', p_rules, v_next.kind, nullif(v_owner, ''), true);
        if v_slots ? 'full' then
          v_refusal := unstuck.sooner(v_refusal, v_slots || '{"verdict": "limited"}');
          continue;
        end if;
        select t.@key@
        into v_key
        from @table@ t
        where @is_claimable(t)@
          and @due(t)@ <= p_now
          and @queued(t)@ > v_next.aged - unstuck.pending_at_most(p_rules, v_next.kind)
          and @kind(t)@ = v_next.kind
          and @owner_or_none(t)@ = v_owner
          and t.@key@ <> all (p_held)
        order by @claim_order(t)@
        limit 1
        for update skip locked;
        if found then
          v_slots := v_gate -> 'slots' || v_slots;
          return v_gate || jsonb_build_object('key', v_key, 'slots', v_slots);
        end if;
      end loop;
      continue;
    end if;
    select t.@key@
    into v_key
    from @table@ t
    where @is_claimable(t)@
      and @due(t)@ <= p_now
      and @queued(t)@ > v_next.aged - unstuck.pending_at_most(p_rules, v_next.kind)
      and @kind(t)@ = v_next.kind
      and t.@key@ <> all (p_held)
    order by @claim_order(t)@
    limit 1
    for update skip locked;
    if found then
      return v_gate || jsonb_build_object('key', v_key);
    end if;
  end loop;
  return v_refusal;
end $$;

-- Tells the slots, and the pause that lets one task through, which attempt has come through.
create or replace function unstuck.@watch@_pass(p_gate jsonb, p_task text, p_number integer)
returns void language plpgsql as $$
begin
  if p_gate -> 'slots' <> '{}' then
    perform unstuck.fill_slots('@watch@', p_gate -> 'slots', p_task, p_number);
  end if;
  if p_gate ->> 'probe' is not null then
    update unstuck.pauses p
    set probe = p_task,
        probe_number = p_number
    where p.id = (p_gate ->> 'probe')::bigint;
  end if;
end $$;

-- Whether a task of a kind may start now: the slots that it gets, those of its owner too where one
-- is given; or verdict paused or limited, with the seconds after which to ask again.
create or replace function unstuck.@watch@_gate(p_kind text, p_owner text, p_rules jsonb)
returns jsonb language plpgsql as $$
declare
  v_closed jsonb;
  v_slots  jsonb := '{}';
  v_more   jsonb;
begin
  if exists (select from unstuck.pauses p where p.watch = '@watch@' and p.ended_at is null) then
    v_closed := unstuck.closed('@watch@', p_kind, p_rules);
    if (v_closed -> 'closed')::boolean then
      return v_closed || '{"verdict": "paused"}';
    end if;
  end if;
  if p_rules -> '*' ? 'some_limited' then
    v_slots := unstuck.slots_for('@watch@', p_rules, p_kind, p_owner, false);
    if not v_slots ? 'full' and p_owner is not null then
      v_more := unstuck.slots_for('@watch@', p_rules, p_kind, p_owner, true);
      v_slots := v_slots || v_more;
    end if;
    if v_slots ? 'full' then
      return v_slots || '{"verdict": "limited"}';
    end if;
  end if;
  return jsonb_build_object('slots', v_slots, 'probe', v_closed -> 'probe');
end $$;

-- The oldest of the tasks that wait for longer than `ageing` behind a more urgent one; null where
-- none does. Looks at the oldest 100.
create or replace function unstuck.@watch@_starved(
  p_kinds text[],
  p_now timestamptz,
  p_rules jsonb
) returns @key_type@ language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
begin
  return (
    select t.@key@
    from (
      select t.*
      from @table@ t
      where @is_claimable(t)@
        and @queued_bound(t)@ <= p_now - unstuck.rule_seconds(p_rules, '*', 'ageing')
      order by @queued_bound(t)@
      limit 100
    ) t
    cross join (
      select h.*
      from @table@ h
      where @is_claimable(h)@
      order by @claim_order(h)@
      limit 1
    ) h
    where @is_less_urgent(t, h)@
      and (@due(t)@ > p_now) is not true
      and @queued(t)@ > p_now - unstuck.pending_at_most(p_rules, @kind(t)@)
      and (p_kinds is null or @kind(t)@ = any (p_kinds))
    order by @queued_bound(t)@
    limit 1
  );
end $$;

-- The kinds that wait, at most 500: each is found by the index that a claim by kind needs.
create or replace function unstuck.@watch@_waiting_kinds() returns text[]
language plpgsql stable as $$
begin
  return (
    with recursive waiting as (
      (
        select @kind(t)@ as kind
        from @table@ t
        where @is_claimable(t)@
        order by @kind(t)@
        limit 1
      )
      union all
      (
        select (
          select @kind(t)@
          from @table@ t
          where @is_claimable(t)@ and @kind(t)@ > w.kind
          order by @kind(t)@
          limit 1
        )
        from waiting w
        where w.kind is not null
      )
    )
    select coalesce(array_agg(l.kind), '{}')
    from (select w.kind from waiting w where w.kind is not null limit 500) l
  );
end $$;

-- The owners of the tasks of a kind that may start, at most 1,000, in the order of what is next of
-- each; '' for those without an owner. In our own table each is found by an index.
create or replace function unstuck.@watch@_waiting_owners(p_kind text, p_now timestamptz)
returns table (owner text) language plpgsql stable as $$
#variable_conflict use_column
begin
  if not @is_own@ then
    return query
      select @owner_or_none(h)@
      from (
        select distinct on (@owner_or_none(t)@) t.*
        from @table@ t
        where @is_claimable(t)@
          and @due(t)@ <= p_now
          and @kind(t)@ = p_kind
        order by @owner_or_none(t)@, @claim_order(t)@
      ) h
      order by @claim_order(h)@
      limit 1000;
    return;
  end if;
  return query
    with recursive waiting as (
      (
        select @owner_or_none(t)@ as owner
        from @table@ t
        where @is_claimable(t)@ and @kind(t)@ = p_kind
        order by @owner_or_none(t)@
        limit 1
      )
      union all
      (
        select (
          select @owner_or_none(t)@
          from @table@ t
          where @is_claimable(t)@ and @kind(t)@ = p_kind and @owner_or_none(t)@ > w.owner
          order by @owner_or_none(t)@
          limit 1
        )
        from waiting w
        where w.owner is not null
      )
    )
    select l.owner
    from (select w.owner from waiting w where w.owner is not null limit 1000) l
    cross join lateral (
      select t.*
      from @table@ t
      where @is_claimable(t)@
        and @due(t)@ <= p_now
        and @kind(t)@ = p_kind
        and @owner_or_none(t)@ = l.owner
      order by @claim_order(t)@
      limit 1
    ) h
    order by @claim_order(h)@;
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
