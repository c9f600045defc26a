-- pauses: a kind, or all of a watch ('*'), whose tasks are not claimed for a while. Running ones go
-- on, and a waiting task does not come nearer to its end: the time of a pause does not count.

-- Whether it holds still: one whose time is over does not, unless it is that of a breaker, which
-- waits for the task that it lets through.
create or replace function unstuck.is_open(p_pause unstuck.pauses) returns boolean
language sql stable as $$
  select p_pause.ended_at is null
    and (p_pause.until is null or p_pause.until > clock_timestamp() or p_pause.breaker is not null)
$$;

create or replace function unstuck.shown(p_pause unstuck.pauses) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'watch', p_pause.watch,
    'kind', p_pause.kind,
    'who', p_pause.who,
    'why', p_pause.why,
    'breaker', p_pause.breaker is not null,
    'since', p_pause.since,
    'age', extract(epoch from coalesce(p_pause.ended_at, clock_timestamp()) - p_pause.since),
    'left', case when p_pause.until is not null then
      greatest(0, extract(epoch from p_pause.until - clock_timestamp()))
    end,
    'ended_by', p_pause.ended_by
  )
$$;

-- Pauses, or says anew until when and why. `p_seconds` null: until somebody resumes it.
create or replace function unstuck.pause(
  p_watch text,
  p_kind text,
  p_seconds double precision,
  p_who text,
  p_why text default null
) returns jsonb language plpgsql as $$
declare
  v_pause unstuck.pauses;
begin
  if p_seconds <= 0 then
    raise exception 'a pause of % s would be over at once', p_seconds
      using errcode = 'invalid_parameter_value',
        hint = 'Give a time above 0, or null: until somebody resumes it.';
  end if;
  insert into unstuck.pauses as p (watch, kind, until, who, why)
  values (p_watch, p_kind, clock_timestamp() + make_interval(secs => p_seconds), p_who, p_why)
  on conflict (watch, kind) where ended_at is null do update
  set until = excluded.until,
      who = p_who,
      why = p_why,
      breaker = null,
      probe = null,
      told = 0
  returning p.* into v_pause;
  return unstuck.shown(v_pause);
end $$;

-- A pause has ended: what waited through it looks older than it is. As for the clock, a mark beside
-- the pauses says so, which the first claim that has no use for it any more takes away.
create or replace function unstuck.mark_resumed(p_watch text) returns void language sql as $$
  insert into unstuck.pauses (watch, kind, who)
  values ('/' || p_watch, 'resumed', 'resumed')
  on conflict (watch, kind) where ended_at is null do nothing
$$;

-- Ends the pause of a kind; with '*' all pauses of the watch. Returns those that it ended.
create or replace function unstuck.resume(p_watch text, p_kind text, p_who text) returns jsonb
language plpgsql as $$
declare
  v_ended jsonb;
begin
  with ended as (
    update unstuck.pauses p
    set ended_at = clock_timestamp(),
        ended_by = p_who
    where p.id in (
      select l.id
      from unstuck.pauses l
      where l.watch = p_watch
        and l.ended_at is null
        and (p_kind = '*' or l.kind = p_kind)
        and unstuck.is_open(l)
      order by l.id
      for update
    )
    returning p.*
  )
  select jsonb_agg(unstuck.shown(e::unstuck.pauses) order by e.kind)
  into v_ended
  from ended e;
  if v_ended is not null then
    perform unstuck.mark_resumed(p_watch);
  end if;
  return coalesce(v_ended, '[]');
end $$;

-- What is paused now, in these watches.
create or replace function unstuck.pauses(p_watches text[]) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(unstuck.shown(p) order by p.watch, p.kind), '[]')
  from unstuck.pauses p
  where p.watch = any (p_watches)
    and p.ended_at is null
    and unstuck.is_open(p)
$$;

-- Once in each run of the sweep: ends the pauses whose time is over, and answers what nobody was
-- told yet, whoever did it: `paused`, `resumed`, or `forgotten`, one that is older than
-- `p_forgotten` seconds and has no end. Each once.
create or replace function unstuck.pauses_told(p_watches text[], p_forgotten double precision)
returns jsonb language plpgsql as $$
declare
  v_now  constant timestamptz := clock_timestamp();
  v_told jsonb;
begin
  update unstuck.pauses p
  set ended_at = p.until,
      ended_by = 'its time was over'
  where p.id in (
    select l.id
    from unstuck.pauses l
    where l.watch = any (p_watches || '{""}')
      and l.ended_at is null
      and l.breaker is null
      and l.until <= v_now
    for update skip locked
  );
  perform unstuck.mark_resumed(p.watch)
  from unstuck.pauses p
  where p.watch = any (p_watches) and p.ended_at is not null and p.told < 3;
  with told as (
    select
      p.id,
      case
        when p.ended_at is not null then 3
        when p.told > 0 then 2
        else 1
      end as told
    from unstuck.pauses p
    where p.watch = any (p_watches)
      and (
        p.told = 0
        or p.told < 3 and p.ended_at is not null
        or p.told < 2
          and p.until is null
          and p.since <= v_now - make_interval(secs => p_forgotten)
      )
    for update skip locked
  ), written as (
    update unstuck.pauses p
    set told = t.told
    from told t
    where p.id = t.id
    returning p.*
  )
  select jsonb_agg(unstuck.shown(w::unstuck.pauses) || jsonb_build_object(
    'verdict', case w.told when 1 then 'paused' when 2 then 'forgotten' else 'resumed' end
  ) order by w.id)
  into v_told
  from written w;
  return coalesce(v_told, '[]');
end $$;

-- The answer of `turns` with the pauses of the watch, in "*": `paused`, the kinds that are paused
-- now; `pauses`, by kind, from when until when, those too that ended while a task may have waited.
create or replace function unstuck.with_pauses(
  p_watch text,
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns jsonb language plpgsql stable as $$
declare
  v_pauses jsonb;
begin
  select jsonb_build_object(
    'paused', coalesce(jsonb_agg(k.kind) filter (where k.is_open), '[]'),
    'pauses', jsonb_object_agg(k.kind, k.times)
  )
  into v_pauses
  from (
    select
      p.kind,
      bool_or(unstuck.is_open(p)) as is_open,
      jsonb_agg(jsonb_build_array(p.since, coalesce(
        p.ended_at, case when p.breaker is null then p.until end, 'infinity'
      ))) as times
    from unstuck.pauses p
    where p.watch = p_watch
      and (
        p.ended_at is null
        or p.ended_at > p_now
          - coalesce(2 * unstuck.rule_seconds(p_rules, '*', 'longest_pending_for'), '1 day')
      )
    group by p.kind
  ) k
  having count(*) > 0;
  if v_pauses is null then
    return p_turns;
  end if;
  return p_turns || jsonb_build_object('*', coalesce(p_turns -> '*', '{}') || v_pauses);
end $$;

-- The clock was set forward: what waited before looks older than it is. The claims of all watches
-- see it beside the pauses, since to ask for it apart would cost each claim a search; and by then
-- whatever waited has ended.
create or replace function unstuck.mark_clock() returns void language sql as $$
  insert into unstuck.pauses as p (watch, kind, until, who)
  values ('', 'clock', clock_timestamp() + interval '30 days', 'clock')
  on conflict (watch, kind) where ended_at is null do update set until = excluded.until
$$;

-- Takes the mark of `mark_resumed` away where no task can have waited through a pause any more;
-- returns whether one was there.
create or replace function unstuck.forget_resumed(p_watch text, p_rules jsonb) returns boolean
language plpgsql as $$
begin
  update unstuck.pauses m
  set ended_at = clock_timestamp(),
      told = 3
  where m.watch = '/' || p_watch
    and m.ended_at is null
    and not exists (
      select from unstuck.pauses p
      where p.watch = p_watch
        and (
          p.ended_at is null
          or p.ended_at > clock_timestamp()
            - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        )
    );
  return found;
end $$;

-- The pause that holds a kind now, or null.
create or replace function unstuck.pause_of(p_watch text, p_kind text) returns jsonb
language sql stable as $$
  select unstuck.shown(p)
  from unstuck.pauses p
  where p.watch = p_watch
    and p.kind in (p_kind, '*')
    and p.ended_at is null
    and unstuck.is_open(p)
  order by p.until desc nulls first
  limit 1
$$;

-- What a claim of a kind meets: null where nothing is paused; else whether it is closed now, and
-- the seconds after which to ask again. A breaker whose time is over lets one task through: then
-- `probe` is the pause to which the claim has to tell it.
create or replace function unstuck.closed(p_watch text, p_kind text, p_rules jsonb) returns jsonb
language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_pause   unstuck.pauses;
  v_attempt record;
  v_rule    jsonb;
begin
  for v_pause in
    select p.*
    from unstuck.pauses p
    where p.watch = p_watch
      and p.kind in (p_kind, '*')
      and p.ended_at is null
    order by p.breaker nulls first
  loop
    if v_pause.until is null or v_pause.until > v_now then
      return jsonb_build_object('closed', true, 'retry_after', least(3600, greatest(1,
        coalesce(extract(epoch from v_pause.until - v_now), 300)
      )));
    end if;
    continue when v_pause.breaker is null;
    perform from unstuck.pauses p where p.id = v_pause.id for update skip locked;
    if not found then
      return '{"closed": true, "retry_after": 1}';
    end if;
    select * into v_pause from unstuck.pauses p where p.id = v_pause.id;
    continue when v_pause.ended_at is not null;
    select a.ended_at, a.cause, a.reason, a.outcome
    into v_attempt
    from unstuck.attempts a
    where a.watch = p_watch
      and a.task_id = v_pause.probe
      and a.number = v_pause.probe_number;
    if v_pause.until <= v_now and (
      not found
      -- its worker died or stopped, or a person ended it: that tells nothing
      or coalesce(v_attempt.cause, v_attempt.reason) in (
        'lease_lost', 'deadline', 'out_of_memory', 'crashed', 'shutdown', 'cancelled'
      )
      or v_attempt.outcome in ('released', 'overtaken')
    ) then
      return jsonb_build_object('closed', false, 'probe', v_pause.id);
    elsif v_attempt.ended_at is null then
      return '{"closed": true, "retry_after": 5}';
    elsif coalesce(v_attempt.cause, v_attempt.reason) is distinct from 'transient' then
      update unstuck.pauses p
      set ended_at = v_now,
          ended_by = 'a task that it let through'
      where p.id = v_pause.id;
      perform unstuck.mark_resumed(p_watch);
    else
      v_rule := unstuck.rule(p_rules, p_kind);
      update unstuck.pauses p
      set breaker = p.breaker + 1,
          probe = null,
          until = v_attempt.ended_at + make_interval(secs => least(
            (v_rule ->> 'breaker_most')::float8,
            (v_rule ->> 'breaker_pause')::float8 * power(2, least(p.breaker, 30))
          ))
      where p.id = v_pause.id
      returning p.* into v_pause;
      if v_pause.until > v_now then
        return jsonb_build_object('closed', true, 'retry_after', least(3600, greatest(1,
          extract(epoch from v_pause.until - v_now)
        )));
      end if;
      return jsonb_build_object('closed', false, 'probe', v_pause.id);
    end if;
  end loop;
  return null;
end $$;

-- After a transient failure: pauses the kind where the last `failures` ends of it were all such,
-- since it was paused last.
create or replace function unstuck.trip(p_watch text, p_kind text, p_rule jsonb) returns void
language sql as $$
  insert into unstuck.pauses (watch, kind, until, who, why, breaker)
  select
    p_watch,
    p_kind,
    clock_timestamp() + make_interval(secs => (p_rule ->> 'breaker_pause')::float8),
    'breaker',
    format('%s transient failures in a row', p_rule ->> 'breaker_failures'),
    1
  from (
    select coalesce(l.cause, l.reason) as cause
    from unstuck.attempts l
    where l.watch = p_watch
      and l.kind = p_kind
      and l.ended_at > coalesce(
        (
          select max(p.ended_at)
          from unstuck.pauses p
          where p.watch = p_watch and p.kind = p_kind and p.ended_at is not null
        ),
        '-infinity'
      )
      and l.worker is not null
    order by l.ended_at desc
    limit (p_rule ->> 'breaker_failures')::integer
  ) e
  having count(*) filter (where e.cause = 'transient') = (p_rule ->> 'breaker_failures')::integer
  on conflict (watch, kind) where ended_at is null do nothing
$$;
