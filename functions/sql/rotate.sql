-- rotate: the next task of an adopted table in the turns of its owners: the most urgent that may
-- start, then that of the owner after the one whose task was taken last, and of one owner the
-- oldest. Owners come in the order of their names, and round; those without one count as one. The
-- tasks are read as they stand, so nothing is kept beside what the application writes. Returns the
-- key of the task, which is locked, and the gate through which it goes; the refusal after which to
-- ask again the soonest; or null, where the claim has to look for itself.
-- An owner whose oldest task another claim has locked has had the turn: claims at once do not wait.
create or replace function unstuck.@watch@_rotate(
  p_kinds text[],
  p_name text,
  p_held @key_type@[],
  p_now timestamptz,
  p_rules jsonb
) returns jsonb language plpgsql as $$
declare
  v_gated   boolean := p_rules -> '*' ? 'some_limited';
  v_aged    timestamptz := p_now;  -- now, less the time for which nothing grew older
  v_kinds   text[] := p_kinds;
  v_gates   jsonb := '{}';  -- by kind
  v_gate    jsonb;
  v_refusal jsonb;
  v_head    record;  -- the most urgent task
  v_lower   record;
  v_levels  integer := 0;  -- of priorities
  v_last    text;  -- whose task was taken last
  v_owner   text;
  v_after   text;
  v_since   timestamptz;
  v_round   boolean;  -- whether the names begin anew
  v_left    integer := 1000;  -- so many owners are asked
  v_next    record;
begin
  if exists (  -- a pause, a clock that was set, a pause that has ended
    select
    from unstuck.pauses p
    where p.watch in ('@watch@', '', '/@watch@') and p.ended_at is null
  ) then
    v_gated := true;
    v_aged := p_now - coalesce(unstuck.stood_still('@watch@', null, p_rules), '0');
  end if;
  if @rotation_index@ is null or not exists (
    select from pg_index i where i.indexrelid = to_regclass(@rotation_index@) and i.indisvalid
  ) then
    return unstuck.@watch@_rotate_some(p_kinds, p_name, p_held, p_now, v_aged, v_gated, p_rules);
  end if;
  if v_kinds is null and @has_kinds@ then
    v_kinds := unstuck.@watch@_waiting_kinds();
  end if;
  v_kinds := coalesce(v_kinds, array['']);

  loop  -- by priority
    if not @has_priority@ then
      exit when v_levels > 0;
    elsif v_levels = 0 then
      select h.*
      into v_head
      from unnest(v_kinds) as k (kind)
      cross join lateral (
        select t.*
        from @table@ t
        where @is_claimable(t)@
          and @kind(t)@ = k.kind
          and @due(t)@ <= p_now
          and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, k.kind)
          and t.@key@ <> all (p_held)
        order by @urgency(t)@
        limit 1
      ) h
      order by @urgency(h)@
      limit 1;
      exit when not found;
    else
      select h.*
      into v_lower
      from unnest(v_kinds) as k (kind)
      cross join lateral (
        select t.*
        from @table@ t
        where @is_claimable(t)@
          and @kind(t)@ = k.kind
          and @is_less_urgent(t, v_head)@
          and @due(t)@ <= p_now
          and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, k.kind)
          and t.@key@ <> all (p_held)
        order by @urgency(t)@
        limit 1
      ) h
      order by @urgency(h)@
      limit 1;
      exit when not found;
      v_head := v_lower;
    end if;
    v_levels := v_levels + 1;
    v_last := unstuck.turned_last('@watch@', p_name, @priority_text(v_head)@);
    v_round := v_last is null;
    v_after := coalesce(v_last, '');
    v_since := case when v_round then '-infinity' else 'infinity' end;

    loop  -- by owner
      select o.owner
      into v_owner
      from unnest(v_kinds) as k (kind)
      cross join lateral (
        select @owner_or_none(t)@ as owner
        from @table@ t
        where @is_claimable(t)@
          and @kind(t)@ = k.kind
          and @is_as_urgent(t, v_head)@
          and (@owner_or_none(t)@, @queued_bound(t)@) > (v_after, v_since)
        order by @owner_or_none(t)@, @queued_bound(t)@
        limit 1
      ) o
      order by o.owner
      limit 1;
      if not found then
        exit when v_round;
        v_round := true;
        v_after := '';
        v_since := '-infinity';
        continue;
      end if;
      exit when v_round and v_owner > v_last;
      for v_next in
        select h.key, k.kind
        from unnest(v_kinds) as k (kind)
        cross join lateral (
          select t.@key@ as key, @queued_bound(t)@ as queued
          from @table@ t
          where @is_claimable(t)@
            and @kind(t)@ = k.kind
            and @is_as_urgent(t, v_head)@
            and @owner_or_none(t)@ = v_owner
            and @due(t)@ <= p_now
            and @queued(t)@ > v_aged - unstuck.pending_at_most(p_rules, k.kind)
            and t.@key@ <> all (p_held)
          order by @queued_bound(t)@
          limit 1
        ) h
        order by h.queued
      loop
        if v_gated and not v_gates ? v_next.kind then
          v_gate := unstuck.@watch@_gate(v_next.kind, null, p_rules);
          v_gates := v_gates || jsonb_build_object(v_next.kind, v_gate);
          if v_gate ? 'verdict' then
            v_kinds := array_remove(v_kinds, v_next.kind);
          end if;
        end if;
        v_gate := unstuck.@watch@_seat(
          v_next.key, v_next.kind, v_owner, v_gates -> v_next.kind, p_now, p_rules
        );
        if v_gate ? 'key' then
          if v_owner is distinct from v_last then
            perform unstuck.turned('@watch@', p_name, @priority_text(v_head)@, v_owner);
          end if;
          return v_gate;
        end if;
        if v_gate is not null then
          v_refusal := unstuck.sooner(v_refusal, v_gate);
        end if;
      end loop;
      v_after := v_owner;
      v_since := 'infinity';
      v_left := v_left - 1;
      if v_left = 0 then  -- the next claim goes on from there
        perform unstuck.turned('@watch@', p_name, @priority_text(v_head)@, v_owner);
        return v_refusal;
      end if;
    end loop;
  end loop;
  return v_refusal;
end $$;

-- The same where the table lacks the index for it: among the 100 that are next by age and the 100
-- that came last, and never a refusal. So a new task of another owner is seen whatever waits before
-- it, and what a claim costs does not grow with what waits. Whether a task may start takes as long
-- to see as all the rest, and is asked of those alone whose turn it is.
create or replace function unstuck.@watch@_rotate_some(
  p_kinds text[],
  p_name text,
  p_held @key_type@[],
  p_now timestamptz,
  p_aged timestamptz,
  p_gated boolean,
  p_rules jsonb
) returns jsonb language plpgsql as $$
declare
  v_head  record;  -- the most urgent task
  v_next  record;
  v_gates jsonb := '{}';  -- by kind
  v_gate  jsonb;
begin
  if @has_priority@ then
    select t.*
    into v_head
    from @table@ t
    where @is_claimable(t)@
    order by @urgency(t)@
    limit 1;
  end if;
  for v_next in
    select
      t.@key@ as key,
      @kind(t)@ as kind,
      @owner_or_none(t)@ as owner,
      @priority_text(t)@ as priority,
      r.owner as last
    from (
      (
        select t.*
        from @table@ t
        where @is_claimable(t)@
        order by @claim_order(t)@
        limit 100
      )
      union all
      (
        select t.*
        from @table@ t
        where @is_claimable(t)@
          and @is_as_urgent(t, v_head)@
          and @queued_bound(t)@ <= p_now
        order by @queued_bound(t)@ desc
        limit 100
      )
    ) t
    left join unstuck.rotations r
      on r.watch = '@watch@'
      and r.name = p_name
      and r.priority = @priority_text(t)@
    where (p_kinds is null or @kind(t)@ = any (p_kinds))
      and t.@key@ <> all (p_held)
    order by
      @urgency(t)@,
      @owner_or_none(t)@ collate "C" > r.owner desc,
      @owner_or_none(t)@ collate "C",
      @queued_bound(t)@
    limit 100
  loop
    continue when not exists (
      select
      from @table@ t
      where t.@key@ = v_next.key
        and @due(t)@ <= p_now
        and @queued(t)@ > p_aged - unstuck.pending_at_most(p_rules, v_next.kind)
    );
    if p_gated and not v_gates ? v_next.kind then
      v_gate := unstuck.@watch@_gate(v_next.kind, null, p_rules);
      v_gates := v_gates || jsonb_build_object(v_next.kind, v_gate);
    end if;
    v_gate := unstuck.@watch@_seat(
      v_next.key, v_next.kind, v_next.owner, v_gates -> v_next.kind, p_now, p_rules
    );
    if v_gate ? 'key' then
      if v_next.owner is distinct from v_next.last then
        perform unstuck.turned('@watch@', p_name, v_next.priority, v_next.owner);
      end if;
      return v_gate;
    end if;
  end loop;
  return null;
end $$;

-- Locks a task whose turn it is, through the gate of its kind and the slots of its owner: both, and
-- its key. Or the refusal; null where another claim has the task.
create or replace function unstuck.@watch@_seat(
  p_key @key_type@,
  p_kind text,
  p_owner text,
  p_gate jsonb,
  p_now timestamptz,
  p_rules jsonb
) returns jsonb language plpgsql as $$
declare
  v_gate  jsonb := coalesce(p_gate, '{}');
  v_slots jsonb;
begin
  if v_gate ? 'verdict' then
    return v_gate;
  end if;
  if p_gate is not null and p_owner <> '' and unstuck.limits_owners(p_rules, p_kind) then
    v_slots := unstuck.slots_for('@watch@', p_rules, p_kind, p_owner, true);
    if v_slots ? 'full' then
      return v_slots || '{"verdict": "limited"}';
    end if;
    v_gate := v_gate || jsonb_build_object('slots', v_gate -> 'slots' || v_slots);
  end if;
  perform
  from @table@ t
  where t.@key@ = p_key
    and @is_claimable(t)@
    and @due(t)@ <= p_now
    and (
      p_gate is null  -- else another kind alone may have stood still
      or @queued(t)@ > p_now
        - coalesce(unstuck.stood_still('@watch@', p_kind, p_rules), '0')
        - unstuck.pending_at_most(p_rules, p_kind)
    )
  for update skip locked;
  if not found then
    return null;
  end if;
  return v_gate || jsonb_build_object('key', p_key);
end $$;
