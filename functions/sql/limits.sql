-- limits: how many tasks of a kind, of an owner in it, or of all of a watch ('*') run at once or
-- start in a minute. Each limit has as many slots; a claim locks a free one and writes itself into
-- it. So claims of one kind do not wait for each other, and those without a limit read nothing.

drop function if exists unstuck.is_free(unstuck.slots, boolean);

-- Locks a free slot and returns its number; null where none is free. A slot that another claim has
-- locked is about to be taken. Whether it is free is asked anew after the lock: the one before may
-- have been taken since. Begins anywhere, so that claims at the same time do not all try the same
-- ones, and ends at the first: what it costs grows with the slots that are taken.
create or replace function unstuck.slot(
  p_watch text,
  p_name text,
  p_limit integer,
  p_of_a_minute boolean
) returns integer language plpgsql as $$
declare
  v_most  integer := p_limit;
  v_from  integer;
  v_slot  integer;
  v_tried integer[] := '{}';
  v_free  boolean;
  v_count integer;
begin
  if exists (
    select from unstuck.slots s where s.watch = p_watch and s.name = p_name and s.slot > p_limit
  ) then  -- the limit was lowered: what is taken beyond it counts too
    select coalesce(max(k.k), 0)
    into v_most
    from generate_series(0, p_limit) as k (k)
    where k.k + (
      select count(*)
      from unstuck.slots s
      where s.watch = p_watch
        and s.name = p_name
        and s.slot > k.k
        and case
          when p_of_a_minute then
            s.at > clock_timestamp() - interval '1 minute' and s.at <= clock_timestamp()
          else exists (
            select from unstuck.attempts a
            where a.watch = s.watch
              and a.task_id = s.task_id
              and a.number = s.number
              and a.ended_at is null
          )
        end
    ) <= p_limit;
  end if;
  foreach v_from in array array[1 + floor(random() * v_most)::integer, 1]
  loop
    loop
      select s.slot
      into v_slot
      from unstuck.slots s
      where s.watch = p_watch
        and s.name = p_name
        and s.slot between v_from and v_most
        and s.slot <> all (v_tried)
        and case
          when p_of_a_minute then
            s.at <= clock_timestamp() - interval '1 minute'
            or s.at > clock_timestamp()  -- the clock was set back since
          else (
            select a.ended_at is null
            from unstuck.attempts a
            where a.watch = s.watch and a.task_id = s.task_id and a.number = s.number
          ) is not true
        end
      order by s.slot
      limit 1
      for update skip locked;
      exit when not found;
      select case
        when p_of_a_minute then
          s.at <= clock_timestamp() - interval '1 minute' or s.at > clock_timestamp()
        else (
          select a.ended_at is null
          from unstuck.attempts a
          where a.watch = s.watch and a.task_id = s.task_id and a.number = s.number
        ) is not true
      end
      into v_free
      from unstuck.slots s
      where s.watch = p_watch and s.name = p_name and s.slot = v_slot;
      if v_free then
        return v_slot;
      end if;
      v_tried := v_tried || v_slot;
    end loop;
  end loop;
  select count(*)
  into v_count
  from unstuck.slots s
  where s.watch = p_watch and s.name = p_name and s.slot <= p_limit;
  if v_count < p_limit then
    insert into unstuck.slots (watch, name, slot)
    select p_watch, p_name, n
    from generate_series(1, p_limit) n
    on conflict do nothing;
    return unstuck.slot(p_watch, p_name, p_limit, p_of_a_minute);
  end if;
  return null;
end $$;

-- The limits of a kind, those of its whole watch first: name of the slots, how many, whether of a
-- minute, whether of an owner. In one order for all, so that no two claims wait for each other.
create or replace function unstuck.limits(p_rules jsonb, p_kind text, p_owner text)
returns table (name text, slots integer, of_a_minute boolean, of_owner boolean)
language sql immutable as $$
  select l.name, l.slots::integer, l.of_a_minute, l.of_owner
  from (
    values
      ('running/*', p_rules -> '*' ->> 'all_running', false, false),
      ('minute/*', p_rules -> '*' ->> 'all_per_minute', true, false),
      ('owner/*/' || p_owner, p_rules -> '*' ->> 'all_per_owner', false, true),
      ('running/=' || p_kind, unstuck.rule_value(p_rules, p_kind, 'limit_running'), false, false),
      ('minute/=' || p_kind, unstuck.rule_value(p_rules, p_kind, 'limit_per_minute'), true, false),
      (
        format('owner/=%s/%s', p_kind, p_owner),
        unstuck.rule_value(p_rules, p_kind, 'limit_per_owner'),
        false,
        true
      )
  ) l (name, slots, of_a_minute, of_owner)
  where l.slots is not null
    and l.name is not null
    and (p_owner is not null or not l.of_owner)
$$;

-- After how many seconds one of the slots that are taken may be free: the time that the last
-- attempts of the kind (null: of all) took, or what those that hold the slots have taken already,
-- divided by the number of slots. 5 s in place of it where nothing is known; 0.5 to 60.
create or replace function unstuck.slot_wait(
  p_watch text,
  p_name text,
  p_slots integer,
  p_kind text
) returns double precision language plpgsql stable set enable_seqscan = off set jit = off as $$
declare
  v_usual  double precision;
  v_lasted double precision;
begin
  select percentile_cont(0.5) within group (
    order by extract(epoch from l.ended_at - l.started_at)::float8
  )
  into v_usual
  from (
    select a.kind, a.started_at, a.ended_at
    from unstuck.attempts a
    where a.watch = p_watch
      and a.ended_at is not null
      and a.worker is not null
      and a.sweep_id is null
    order by coalesce(a.ended_at, 'infinity') desc
    limit 50
  ) l
  where p_kind is null or l.kind = p_kind;
  select extract(epoch from clock_timestamp() - max(a.started_at))
  into v_lasted
  from unstuck.slots s
  join unstuck.attempts a on a.watch = s.watch and a.task_id = s.task_id and a.number = s.number
  where s.watch = p_watch
    and s.name = p_name
    and s.slot <= p_slots
    and a.ended_at is null;
  return least(60, greatest(0.5, greatest(coalesce(v_usual, 5), v_lasted) / p_slots));
end $$;

-- Slots of all limits of a kind, or with `p_of_owner` of its owner: {name: slot}. Where one of them
-- is full: {"full": name}, with the seconds after which to ask again.
create or replace function unstuck.slots_for(
  p_watch text,
  p_rules jsonb,
  p_kind text,
  p_owner text,
  p_of_owner boolean
) returns jsonb language plpgsql as $$
declare
  v_limit record;
  v_slot  integer;
  v_slots jsonb := '{}';
begin
  for v_limit in
    select * from unstuck.limits(p_rules, p_kind, p_owner) l where l.of_owner = p_of_owner
  loop
    v_slot := unstuck.slot(p_watch, v_limit.name, v_limit.slots, v_limit.of_a_minute);
    if v_slot is null then
      return jsonb_build_object('full', v_limit.name, 'retry_after', case
        when v_limit.of_a_minute then (
          select greatest(0.1, extract(
            epoch from min(s.at) + interval '1 minute' - clock_timestamp()
          ))
          from unstuck.slots s
          where s.watch = p_watch and s.name = v_limit.name and s.slot <= v_limit.slots
        )
        else unstuck.slot_wait(
          p_watch,
          v_limit.name,
          v_limit.slots,
          case when split_part(v_limit.name, '/', 2) <> '*' then p_kind end
        )
      end);
    end if;
    v_slots := v_slots || jsonb_build_object(v_limit.name, v_slot);
  end loop;
  return v_slots;
end $$;

-- Writes an attempt into the slots that its claim has locked. In plpgsql, which keeps the plan: to
-- make it took a claim longer than all the rest.
create or replace function unstuck.fill_slots(
  p_watch text,
  p_slots jsonb,
  p_task text,
  p_number integer
) returns void language plpgsql as $$
declare
  v_filled record;
begin
  for v_filled in select f.key as name, f.value::integer as slot from jsonb_each_text(p_slots) f
  loop
    update unstuck.slots s
    set at = clock_timestamp(),
        task_id = p_task,
        number = p_number
    where s.watch = p_watch and s.name = v_filled.name and s.slot = v_filled.slot;
  end loop;
end $$;

-- Whether a limit of each owner holds for a kind.
create or replace function unstuck.limits_owners(p_rules jsonb, p_kind text) returns boolean
language sql immutable as $$
  select (p_rules -> '*' ->> 'all_per_owner') is not null
    or unstuck.rule_value(p_rules, p_kind, 'limit_per_owner') is not null
$$;

-- Of two refusals the one after which to ask again sooner.
create or replace function unstuck.sooner(p_first jsonb, p_second jsonb) returns jsonb
language sql immutable as $$
  select case
    when p_first is null or p_first ->> 'verdict' = 'none' then p_second
    when (p_first ->> 'retry_after')::float8 <= (p_second ->> 'retry_after')::float8 then p_first
    else p_second
  end
$$;

-- Whose task was taken last: see rotate.sql.
create or replace function unstuck.turned_last(p_watch text, p_name text, p_priority text)
returns text language plpgsql stable as $$
begin
  return (
    select r.owner
    from unstuck.rotations r
    where r.watch = p_watch and r.name = p_name and r.priority = p_priority
  );
end $$;

-- Remembers whose task was taken last. Where another claim is about to write its own that one
-- stands: no claim waits for another.
create or replace function unstuck.turned(
  p_watch text,
  p_name text,
  p_priority text,
  p_owner text
) returns void language plpgsql as $$
begin
  if pg_try_advisory_xact_lock(
    hashtextextended(format('rotation/%s/%s/%s', p_watch, p_name, p_priority), 0)
  ) then
    insert into unstuck.rotations as r (watch, name, priority, owner)
    values (p_watch, p_name, p_priority, p_owner)
    on conflict (watch, name, priority) do update
    set owner = excluded.owner,
        at = excluded.at;
  end if;
end $$;

-- Whether any rule says when ended tasks go.
create or replace function unstuck.names_retention(p_rules jsonb) returns boolean
language sql immutable parallel safe as $$
  select exists (
    select
    from jsonb_each(p_rules) r, jsonb_object_keys(r.value) as k (name)
    where starts_with(k.name, 'retention_')
  )
$$;

-- Whether a push may take a task of the kind without naming it.
create or replace function unstuck.is_chosen(p_rules jsonb, p_kind text) returns boolean
language sql immutable parallel safe as $$
  select coalesce(unstuck.rule_value(p_rules, p_kind, 'dispatch'), 'chosen') = 'chosen'
$$;
