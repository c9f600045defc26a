-- create: writes a pending task. The same idempotency key of the same owner finds the task that is
-- there; the caller may make the id, so that a create whose answer was lost can be repeated. The
-- limits of a user are checked under one lock for each owner, so that no race lets two through: at
-- most `p_per_minute` tasks in a minute, and one open task of a kind whose rule says `one_active`.
-- An index holds that one as well, for other writers of the column `one_active`. `p_at`: the time
-- before which it does not start, which a client gave; `p_delay`: seconds from now. Both by the
-- clock of the database alone. `due_in` of the answer says how long it waits. `p_callback`: the URL
-- that is told of its end.
drop function if exists unstuck.@watch@_create(
  text, jsonb, text, text, integer, double precision, jsonb, uuid, jsonb, integer
);
drop function if exists unstuck.@watch@_create(
  text, jsonb, text, text, integer, double precision, jsonb, uuid, jsonb, integer, timestamptz
);
create or replace function unstuck.@watch@_create(
  p_kind text,
  p_input jsonb default '{}',
  p_owner text default null,
  p_key text default null,
  p_priority integer default 0,
  p_delay double precision default 0,
  p_metadata jsonb default '{}',
  p_id uuid default gen_random_uuid(),
  p_rules jsonb default '{}',
  p_per_minute integer default null,
  p_at timestamptz default null,
  p_callback text default null
) returns jsonb language plpgsql as $$
declare
  v_due    timestamptz;
  v_single    constant boolean :=
    coalesce((unstuck.rule(p_rules, p_kind) ->> 'one_active')::boolean, false);
  v_answer jsonb := '{}';
  v_obstacle  jsonb;
begin
  if v_single or p_owner is not null and p_per_minute is not null then
    -- a bounded number of locks: some owners share one
    perform unstuck.hold('create/' || (hashtext(format('%s/%s', '@watch@', p_owner)) & 1023));
    v_answer := coalesce(
      unstuck.@watch@_same(p_kind, p_input, p_owner, p_key, p_id),
      unstuck.@watch@_limited(p_owner, p_per_minute),
      case when v_single then unstuck.@watch@_active(p_kind, p_owner, p_rules) end,
      '{}'
    );
    if v_answer ? 'verdict' then
      return v_answer;
    end if;
  end if;
  v_due := greatest(clock_timestamp(), p_at) + make_interval(secs => p_delay);
  loop
    begin
      insert into @table@ as t (
        id, kind, input, owner, idempotency_key, priority,
        scheduled_at, metadata, one_active, callback_url
      ) values (
        p_id, p_kind, p_input, p_owner, p_key, p_priority,
        v_due, p_metadata, v_single, p_callback
      );
      exit;
    exception when unique_violation then
      v_obstacle := coalesce(
        unstuck.@watch@_same(p_kind, p_input, p_owner, p_key, p_id),
        unstuck.@watch@_active(p_kind, p_owner, p_rules)
      );
      if v_obstacle is null then  -- a unique index of the table's owner: the error names it
        raise;
      elsif v_obstacle ? 'verdict' then
        return v_answer || v_obstacle;
      end if;
      v_answer := v_answer || v_obstacle;  -- what stood in the way is healed
    end;
  end loop;
  @on_created(p_id::text)@
  return v_answer
    || jsonb_build_object(
      'verdict', 'created',
      'task_id', p_id,
      'state', 'pending',
      'due_in', unstuck.due_in(v_due)
    );
end $$;

-- The task that is there by this id or key: verdict exists, or conflict when it is another one.
-- Null when there is none.
create or replace function unstuck.@watch@_same(
  p_kind text,
  p_input jsonb,
  p_owner text,
  p_key text,
  p_id uuid
) returns jsonb language plpgsql stable as $$
begin
  return (
    select jsonb_build_object(
      'verdict', case
        when t.kind = p_kind and t.input = p_input then 'exists'
        else 'conflict'
      end,
      'task_id', t.id,
      'state', @state(t)@,
      'due_in', unstuck.due_in(@due(t)@)
    )
    from @table@ t
    where t.id = p_id
      or coalesce(t.owner, '') = coalesce(p_owner, '') and t.idempotency_key = p_key
  );
end $$;

-- Verdict limited, with the seconds until the oldest of the last minute's tasks has left it. Null
-- when there is room.
create or replace function unstuck.@watch@_limited(p_owner text, p_per_minute integer)
returns jsonb language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return (
    select jsonb_build_object(
      'verdict', 'limited',
      'retry_after', extract(epoch from t.created_at + interval '1 minute' - v_now)
    )
    from @table@ t
    where p_per_minute is not null
      and t.owner = p_owner
      and t.created_at > v_now - interval '1 minute'
    order by t.created_at desc
    offset p_per_minute - 1
    limit 1
  );
end $$;

-- Verdict active, with the open task of that kind. One that is overdue is healed first: it must not
-- lock its user out. Null when there is none.
create or replace function unstuck.@watch@_active(p_kind text, p_owner text, p_rules jsonb)
returns jsonb language plpgsql as $$
declare
  v_id      uuid;
  v_state   text;
  v_rescued json;
begin
  select t.id
  into v_id
  from @table@ t
  where t.one_active
    and (@is_pending(t)@ or @is_running(t)@)
    and t.kind = p_kind
    and coalesce(t.owner, '') = coalesce(p_owner, '');
  if not found then
    return null;
  end if;
  v_rescued := unstuck.@watch@_sweep(p_rules, 1, null, v_id::text) -> 'rescued';
  select @state(t)@
  into v_state
  from @table@ t
  where t.id = v_id;
  if v_state in ('pending', 'running') then
    return jsonb_build_object(
      'verdict', 'active', 'task_id', v_id, 'state', v_state, 'rescued', v_rescued
    );
  end if;
  return jsonb_build_object('rescued', v_rescued);
end $$;
