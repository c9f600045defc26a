-- The run of a sweep: its begin, its end, and what is done once in each run, however many batches
-- there are.

-- The time now, in seconds since 1970.
create or replace function unstuck.epoch() returns double precision language sql volatile as $$
  select extract(epoch from clock_timestamp())::float8
$$;

-- Waits until nobody else holds the lock of this name, and holds it to the end of the transaction.
-- A row, and no advisory lock: that could be held by any role that may connect.
create or replace function unstuck.hold(p_name text) returns void language plpgsql as $$
begin
  insert into unstuck.locks (name) values (p_name) on conflict do nothing;
  perform from unstuck.locks l where l.name = p_name for update;
end $$;

drop function if exists unstuck.sweep_begin(text, text, double precision, uuid);

-- Begins a run of one installation. Verdict begun, with the time now (`at`), which the caller
-- compares with its own; duplicate: this key was swept; or running: another run has not ended. The
-- caller names the run (`p_run`), so that a begin whose answer was lost can be repeated.
create or replace function unstuck.sweep_begin(
  p_key text,
  p_by text,
  p_budget double precision,
  p_run uuid default gen_random_uuid(),
  p_installation text default ''
) returns jsonb language plpgsql as $$
declare
  v_key constant text := concat(nullif(p_installation, '') || ' ', p_key);
  v_id  bigint;
  v_run uuid;
begin
  perform unstuck.hold('sweep');
  if exists (select from unstuck.sweeps s where s.key = v_key and s.ok) then
    return '{"verdict": "duplicate"}';
  end if;
  select s.id, s.run
  into v_id, v_run
  from unstuck.sweeps s
  where s.ended_at is null
    and s.until > clock_timestamp()
    and s.started_at <= clock_timestamp()  -- the clock may have been set back since
    and s.installation = p_installation
  limit 1;
  if v_run = p_run then
    return jsonb_build_object('verdict', 'begun', 'sweep_id', v_id, 'at', unstuck.epoch());
  elsif v_id is not null then
    return '{"verdict": "running"}';
  end if;
  insert into unstuck.sweeps as s (key, by, until, run, installation)
  values (
    case when p_key is not null then v_key end,
    p_by,
    clock_timestamp() + make_interval(secs => p_budget),
    p_run,
    p_installation
  )
  on conflict (key) do update
  set by = p_by,
      started_at = clock_timestamp(),
      until = excluded.until,
      run = p_run,
      ended_at = null,
      ok = null,
      error = null
  returning id into v_id;
  return jsonb_build_object('verdict', 'begun', 'sweep_id', v_id, 'at', unstuck.epoch());
end $$;

-- Ends a run, with what it did.
create or replace function unstuck.sweep_end(
  p_id bigint,
  p_ok boolean,
  p_counts jsonb,
  p_error text default null
) returns void language sql as $$
  update unstuck.sweeps
  set ended_at = clock_timestamp(),
      ok = p_ok,
      counts = p_counts,
      error = p_error
  where id = p_id
$$;

-- Writes down that an overdue task cannot be settled, and why. Answers it, with since when.
create or replace function unstuck.pass_over(
  p_watch text,
  p_task text,
  p_kind text,
  p_sweep bigint,
  p_code text,
  p_error text
) returns json language sql as $$
  insert into unstuck.unsweepable as u (watch, task_id, kind, sweep_id, code, error)
  values (p_watch, p_task, coalesce(p_kind, ''), p_sweep, p_code, p_error)
  on conflict (watch, task_id) do update
  set kind = coalesce(p_kind, u.kind),
      sweep_id = p_sweep,
      tried_at = clock_timestamp(),
      code = p_code,
      error = p_error
  returning json_build_object(
    'task_id', u.task_id, 'kind', u.kind, 'since', u.since, 'code', u.code, 'error', u.error
  )
$$;

-- Whether an error would meet each row of a batch: the connection, the server or its resources.
-- Anything else, such as a wrong value, a deadlock or a lock that somebody holds, may be that of
-- one row; so may an internal error.
create or replace function unstuck.stops_batch(p_sqlstate text) returns boolean
language sql immutable parallel safe as $$
  select unstuck.is_passing(p_sqlstate) and left(p_sqlstate, 2) not in ('40', '55', 'XX')
$$;

-- For how long a statement may go row by row: half of its limit, at most 10 seconds.
create or replace function unstuck.half_of_limit() returns interval language sql stable as $$
  select least(10000, nullif(s.setting::integer, 0) / 2) * interval '1 ms'
  from pg_settings s
  where s.name = 'statement_timeout'
$$;

-- The silences: from when until when nobody reached the database, no sweep and no heartbeat or end
-- of any attempt, for 1.5 times as long as the runs of the sweep are usually apart, and as long as
-- one may take. Reads the last 60 runs, and the heartbeats only where no run came for so long.
-- Where the clock was set back meanwhile, what had ended before is in a time that comes again, and
-- tells nothing.
create or replace function unstuck.silences(p_now timestamptz)
returns table (begins timestamptz, ends timestamptz) language plpgsql stable
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
  v_longest interval;
  v_back    bigint;  -- the last run before the clock was set back
begin
  select
    1.5 * greatest(percentile_disc(0.5) within group (order by r.apart), max(r.budget)),
    max(r.id) filter (where r.started_at > r.later + interval '10 s')
  into v_longest, v_back
  from (
    select
      s.id,
      s.started_at,
      s.started_at - lag(s.started_at) over (order by s.id) as apart,
      s.until - s.started_at as budget,
      min(s.started_at) over (
        order by s.id rows between 1 following and unbounded following
      ) as later
    from (select * from unstuck.sweeps order by id desc limit 60) s
  ) r;
  return query
    with runs as materialized (
      select r.at
      from (
        select unnest(array[s.started_at, s.ended_at]) as at
        from (select * from unstuck.sweeps order by id desc limit 60) s
        where s.id > coalesce(v_back, 0)
        union all
        select p_now
      ) r
      where r.at <= p_now
    ), gaps as materialized (
      select g.begins, g.at
      from (
        select r.at, lag(r.at) over (order by r.at) as begins
        from runs r
      ) g
      where g.at - g.begins > v_longest
    )
    select f.begins, f.at
    from (
      select h.at, lag(h.at) over (order by h.at) as begins
      from (
        select r.at from runs r where exists (select from gaps)
        union all
        select a.beat_at  -- of all gaps at once: what lives may be thousands
        from unstuck.attempts a
        where exists (select from gaps)
          and a.ended_at is null
          and a.beat_at between (select min(g.begins) from gaps g) and p_now
        union all
        select e.at
        from gaps g
        cross join lateral (
          select max(a.ended_at) as at
          from unstuck.attempts a
          where a.ended_at between g.begins and g.at and v_back is null
          union all
          select max(j.at) from unstuck.clock_jumps j where j.at between g.begins and g.at
        ) e
        where e.at is not null
      ) h
    ) f
    where f.at - f.begins > v_longest;
end $$;

-- The last of them; null where there was none.
create or replace function unstuck.last_silence(
  p_now timestamptz,
  out begins timestamptz,
  out ends timestamptz
) language sql stable as $$
  select s.begins, s.ends from unstuck.silences(p_now) s order by s.ends desc limit 1
$$;

-- While nobody reached the database no heartbeat could arrive: an attempt whose lease ran out in a
-- silence has a lease from its end, once, however few attempts there are. Where sweeps run as they
-- usually do, there is no silence, and a worker that is dead alone is rescued when its lease is
-- over. `p_task`: only that one; null: all. Returns how many attempts got a lease.
-- No sequential scan: those that live are few, and are the last in the ledger, where the planner
-- takes them to be everywhere.
create or replace function unstuck.bridge(p_watch text, p_task text) returns integer
language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_count integer;
begin
  -- Any that ran out, extended or not: of many the first is found at once. Mostly there was no
  -- silence, and then they are not read.
  if not exists (
    select from unstuck.attempts a
    where a.watch = p_watch
      and a.ended_at is null
      and a.lease_until <= v_now
      and (p_task is null or a.task_id = p_task)
  ) or not exists (select from unstuck.silences(v_now)) then
    return 0;
  end if;
  with silences as materialized (
    select * from unstuck.silences(v_now)
  ), silent as materialized (
    select a.watch, a.task_id, a.number, l.ends
    from unstuck.attempts a
    join lateral (
      select max(s.ends) as ends
      from silences s
      where a.beat_at <= s.begins
        and a.lease_until > s.begins
        and s.ends - s.begins > a.lease / 2
    ) l on l.ends + a.lease > v_now
    where a.watch = p_watch
      and a.ended_at is null
      and a.lease_until <= v_now
      and a.deadline_at > v_now
      and not a.extended
      and (p_task is null or a.task_id = p_task)
    for update of a skip locked
  )
  update unstuck.attempts a
  set lease_until = s.ends + a.lease,
      extended = true
  from silent s
  where a.watch = s.watch
    and a.task_id = s.task_id
    and a.number = s.number;
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- Attempts whose lease ran out and of which nobody can say whether their worker died or the
-- database was away: since their heartbeat was due no worker was heard. An outage that lies between
-- two runs leaves no other trace. Answers the ids of their tasks, 500 at most; the run settles them
-- last, when the workers that live have had the time to say so.
create or replace function unstuck.unsure(p_watch text) returns jsonb
language sql stable set enable_seqscan = off set jit = off as $$
  with heard as materialized (
    select greatest(
      (select max(a.beat_at) from unstuck.attempts a where a.ended_at is null),
      (
        select max(a.ended_at)
        from unstuck.attempts a
        where a.ended_at > clock_timestamp() - interval '1 hour' and a.sweep_id is null
      )
    ) as at
  )
  select coalesce(jsonb_agg(u.task_id), '[]')
  from (
    select a.task_id
    from unstuck.attempts a
    where a.watch = p_watch
      and a.ended_at is null
      and a.lease_until <= clock_timestamp()
      and a.deadline_at > clock_timestamp()
      and unstuck.lives_until(a, (select unstuck.ready_after())) <= clock_timestamp()
      and a.beat_at + a.lease / 2 > (select h.at from heard h)
    limit 500
  ) u
$$;

-- Gives live attempts a lease from now, and their deadlines `p_by` more: those that were heard
-- first until `p_heard`; null: those whose lease ends later than one that began now. It waits for
-- nobody, since its caller may hold a task whose attempt somebody else has locked. What is locked
-- it tries again for a moment: a heartbeat is over soon, and what ends the attempt needs no more
-- time. Returns how many attempts it moved.
create or replace function unstuck.give_time(p_by interval, p_heard timestamptz) returns integer
language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_count integer;
  v_moved integer := 0;
begin
  for v_try in 1 .. 5 loop
    update unstuck.attempts a
    set lease_until = v_now + a.lease,
        deadline_at = a.deadline_at + p_by,
        extended = true
    where a.ended_at is null
      and a.ctid = any (array(
        select l.ctid
        from unstuck.attempts l
        where unstuck.lacks_time(l, v_now, p_heard)
        for update skip locked
      ));
    get diagnostics v_count = row_count;
    v_moved := v_moved + v_count;
    exit when not exists (
      select from unstuck.attempts l where unstuck.lacks_time(l, v_now, p_heard)
    );
    perform pg_sleep(0.02);
  end loop;
  return v_moved;
end $$;

-- Whether `give_time` has to move an attempt, and has not yet. The heartbeat of one that began
-- before the clock was set back comes before its begin.
create or replace function unstuck.lacks_time(
  p_attempt unstuck.attempts,
  p_now timestamptz,
  p_heard timestamptz
) returns boolean language sql immutable parallel safe as $$
  select p_attempt.ended_at is null
    and p_attempt.lease_until <> p_now + p_attempt.lease
    and (
      least(p_attempt.started_at, p_attempt.beat_at) <= p_heard
      or p_heard is null and p_attempt.lease_until > p_now + p_attempt.lease
    )
$$;

-- The clock of the database was set by `p_seconds`, as the caller of the sweep knows by its own,
-- which is never set. Each attempt that was claimed by the old clock has a lease from now, and its
-- deadline moves along; so its worker has as much time as before, and a dead one is rescued a lease
-- later. Waiting tasks are judged by `last_jump`. Returns how many attempts were moved.
create or replace function unstuck.clock_jumped(p_sweep bigint, p_seconds double precision)
returns integer language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_by  constant interval := make_interval(secs => p_seconds);
begin
  insert into unstuck.clock_jumps (sweep_id, seconds)
  values (p_sweep, p_seconds)
  on conflict (sweep_id) do nothing;
  if not found then  -- the repetition of a call whose answer was lost
    return 0;
  end if;
  perform unstuck.mark_clock();
  return unstuck.give_time(
    case
      when exists (  -- a poll that came between has given it already
        select from unstuck.clock_jumps j
        where j.sweep_id <> p_sweep and j.at between v_now - v_by and v_now
      ) then '0'
      else v_by
    end,
    case when p_seconds > 0 then v_now - v_by end
  );
end $$;

-- A poll, or a message that is delivered again, comes after a silence: the database was away, or
-- its clock was set forward, and no run of the sweep has told which. Who asks for one task knows
-- less than a run, and judges by no clock that stood still or jumped: live attempts and waiting
-- tasks get the time of the silence on top, once. So where no sweep runs at all a poll still
-- rescues, a lease later.
drop function if exists unstuck.forgive_silence();
create or replace function unstuck.forgive_silence() returns integer language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_silence record;
begin
  select * into v_silence from unstuck.last_silence(v_now);
  if v_silence.begins is null
    or exists (select from unstuck.clock_jumps j where j.at >= v_silence.begins)
  then
    return 0;
  end if;
  insert into unstuck.clock_jumps (sweep_id, at, seconds)
  select max(s.id), v_silence.ends, extract(epoch from v_silence.ends - v_silence.begins)
  from unstuck.sweeps s
  on conflict (sweep_id) do nothing;
  if not found then
    return 0;
  end if;
  perform unstuck.mark_clock();
  return unstuck.give_time(v_silence.ends - v_silence.begins, v_silence.begins);
end $$;

-- What a run does before it ends anything that has no clock of its own, as in SQL alone: it
-- compares the database's clock with that of the last run. It was set back where that run began
-- later than this one. Where it was set forward, nobody reached the database for as long: nothing
-- tells that from an outage, and it is forgiven as one. Returns how many attempts were moved.
create or replace function unstuck.keep_time(p_sweep bigint) returns integer
language plpgsql as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_latest constant timestamptz := (
    select s.started_at
    from unstuck.sweeps s
    where s.id < p_sweep and s.ok
    order by s.id desc
    limit 1
  );
begin
  if v_latest > v_now + interval '10 s' then
    return unstuck.clock_jumped(p_sweep, extract(epoch from v_now - v_latest));
  end if;
  return unstuck.forgive_silence();
end $$;

drop function if exists unstuck.last_jump();
-- The last time that the clock was set forward, and by how much: what was written before `at` looks
-- that much older than it is. No row where it was never set, or was set back since.
-- A table, because only such a function is read into the plan of who asks.
create or replace function unstuck.last_jump() returns table (at timestamptz, ahead interval)
language sql stable rows 1 as $$
  select j.at, make_interval(secs => j.seconds)
  from (select * from unstuck.clock_jumps order by sweep_id desc limit 1) j
  where j.seconds > 0
$$;

-- For how long nothing of a kind (null: of any) grew older while it may have waited: while it was
-- paused, and by how much the clock was set forward. Null where neither was.
create or replace function unstuck.stood_still(p_watch text, p_kind text, p_rules jsonb)
returns interval language sql stable as $$
  select sum(s.length)
  from (
    select upper(u.span) - lower(u.span) as length
    from (
      select unnest(range_agg(tstzrange(p.since, greatest(p.since, coalesce(
        p.ended_at, case when p.breaker is null then p.until end, clock_timestamp()
      ))))) as span
      from unstuck.pauses p
      where p.watch = p_watch
        and (p_kind is null or p.kind in (p_kind, '*'))
        and (
          p.ended_at is null
          or p.ended_at > clock_timestamp()
            - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        )
    ) u
    where not isempty(u.span)
    union all
    select coalesce((select j.ahead from unstuck.last_jump() j), '0')
    from unstuck.pauses p
    where p.watch = '' and p.ended_at is null
  ) s
$$;

-- Where many leases run out at once, the platform failed, not the workers: each attempt gets one
-- more lease, once; half of one where heartbeats of others have arrived since, because then the
-- platform works. Not a task whose last try got one and was dead all the same: what kills its
-- worker at each try is not the platform. So does each whose lease ran out in a silence. Returns
-- how many got one.
create or replace function unstuck.suspend(
  p_watch text,
  p_at_least integer,
  p_share double precision
) returns integer language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_live    integer;
  v_beat_at timestamptz;
  v_ids     text[];
  v_bridged integer := unstuck.bridge(p_watch, null);
begin
  select
    count(*),
    max(a.beat_at) filter (where a.beats > 0 and a.lease_until > v_now),
    coalesce(array_agg(a.task_id) filter (
      where not a.extended
        and a.deadline_at > v_now
        and a.lease_until <= v_now
        and unstuck.lives_until(a, (select unstuck.ready_after())) <= v_now
        and not exists (
          select from unstuck.attempts p
          where p.watch = a.watch
            and p.task_id = a.task_id
            and p.number = a.number - 1
            and p.extended
        )
    ), '{}')
  into v_live, v_beat_at, v_ids
  from unstuck.attempts a
  where a.watch = p_watch
    and a.ended_at is null;
  if cardinality(v_ids) < p_at_least or cardinality(v_ids) <= p_share * v_live then
    return v_bridged;
  end if;
  update unstuck.attempts a
  set lease_until = v_now + case when v_beat_at > a.lease_until then a.lease / 2 else a.lease end,
      extended = true
  where a.watch = p_watch
    and a.ended_at is null
    and a.lease_until <= v_now
    and a.task_id in (
      select l.task_id
      from unstuck.attempts l
      where l.watch = p_watch
        and l.ended_at is null
        and l.task_id = any (v_ids)
      for update skip locked
    );
  get diagnostics v_live = row_count;
  return v_bridged + v_live;
end $$;

-- The watches of this database that belong to other installations than this one.
create or replace function unstuck.watches_of_others(p_installation text) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('unstuck.migrations') is null then
    return '{}';
  end if;
  return array(
    select substring(m.name from '^verbs[.](.+)$')
    from unstuck.migrations m
    where m.name like 'verbs.%' and m.installation <> p_installation
  );
end $$;

drop function if exists unstuck.prune(double precision, integer);

-- For how many seconds attempts that got one more lease keep it, while nobody was heard of them; 0
-- where there are none. A run that has so much time left settles them itself: else they would wait
-- for the next.
create or replace function unstuck.suspended_for(p_watch text) returns float8
language sql stable as $$
  select coalesce(unstuck.due_in(max(a.lease_until)), 0)
  from unstuck.attempts a
  where a.watch = p_watch
    and a.ended_at is null
    and a.extended
    and a.deadline_at > clock_timestamp()
$$;

-- What a run asks of a watch before it settles, in one call: how many attempts got one more lease
-- (suspend), for how long they keep it, and of which nobody can say whether they live (unsure).
create or replace function unstuck.lapsed(
  p_watch text,
  p_at_least integer,
  p_share double precision
) returns jsonb language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_suspended integer;
begin
  -- Mostly no lease ran out: then the live attempts are read once, and not by each part.
  if not exists (
    select from unstuck.attempts a
    where a.watch = p_watch and a.ended_at is null and a.lease_until <= clock_timestamp()
  ) then
    return '{"suspended": 0, "left": 0, "unsure": []}';
  end if;
  v_suspended := unstuck.suspend(p_watch, p_at_least, p_share);
  return jsonb_build_object(
    'suspended', v_suspended,
    'left', case when v_suspended > 0 then unstuck.suspended_for(p_watch) else 0 end,
    'unsure', unstuck.unsure(p_watch)
  );
end $$;

-- Whether the database refused to delete an ended task less than a day ago.
create or replace function unstuck.is_kept(p_watch text, p_task text, p_now timestamptz)
returns boolean language sql stable as $$
  select exists (
    select from unstuck.kept k
    where k.watch = p_watch
      and k.task_id = p_task
      and k.tried_at > p_now - interval '1 day'
  )
$$;

-- Writes down why the database does not delete an ended task.
create or replace function unstuck.keep(p_watch text, p_task text, p_code text, p_error text)
returns void language sql as $$
  insert into unstuck.kept (watch, task_id, code, error)
  values (p_watch, p_task, p_code, p_error)
  on conflict (watch, task_id) do update
  set tried_at = excluded.tried_at,
      code = excluded.code,
      error = excluded.error
$$;

-- Retention: deletes what is older than `p_keep` seconds, a bounded number of rows of each kind in
-- each sweep, found in the order of an index: a run costs the same however much is kept, and does
-- not read again what it deleted since the last vacuum. Returns how many attempts went; their
-- checkpoints go with them. What another installation has here stays as long
-- as that one keeps it; what is left of a watch that is no more goes.
create or replace function unstuck.prune(
  p_keep double precision,
  p_limit integer default 5000,
  p_installation text default ''
) returns integer language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off set enable_hashjoin = off set enable_mergejoin = off
set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_before constant timestamptz := clock_timestamp() - make_interval(secs => p_keep);
  v_others constant text[] := unstuck.watches_of_others(p_installation);
  v_count  integer;
begin
  with old as materialized (  -- a sub-select with a limit may run again and again: then no limit
    select o.watch, o.task_id, o.number
    from unstuck.attempts o
    where o.ended_at < v_before and o.watch <> all (v_others)
    order by o.ended_at
    limit p_limit
    for update skip locked
  ), saved as (
    delete from unstuck.checkpoints c
    using old
    where c.watch = old.watch
      and c.task_id = old.task_id
      and c.number = old.number
  )
  delete from unstuck.attempts a
  using old
  where a.watch = old.watch
    and a.task_id = old.task_id
    and a.number = old.number;
  get diagnostics v_count = row_count;
  delete from unstuck.sweeps
  where ctid = any (array(
    select o.ctid
    from unstuck.sweeps o
    where o.started_at < v_before and o.installation = p_installation
    order by o.started_at
    limit p_limit
  ));
  delete from unstuck.refusals
  where ctid = any (array(
    select o.ctid
    from unstuck.refusals o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.dispatches
  where ctid = any (array(
    select o.ctid
    from unstuck.dispatches o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.operations
  where ctid = any (array(
    select o.ctid
    from unstuck.operations o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.outbox
  where ctid = any (array(
    select o.ctid
    from unstuck.outbox o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.kept  -- they are tried each day, so these are gone
  where ctid = any (array(
    select o.ctid
    from unstuck.kept o
    where o.tried_at < least(v_before, clock_timestamp() - interval '7 days')
      and o.watch <> all (v_others)
    limit p_limit
    for update skip locked
  ));
  delete from unstuck.rotations  -- priorities that are times come once
  where ctid = any (array(
    select o.ctid
    from unstuck.rotations o
    where o.at < v_before and o.watch <> all (v_others)
    limit p_limit
    for update skip locked
  ));
  return v_count;
end $$;

-- The runs, the newest first, those before `p_before`. Without `p_all` only those that did
-- something, among the last 5,000.
create or replace function unstuck.sweeps(
  p_limit integer default 50,
  p_before bigint default null,
  p_all boolean default false
) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(to_jsonb(f) order by f.id desc), '[]')
  from (
    select
      s.id,
      s.by,
      s.ok,
      s.counts,
      s.error,
      extract(epoch from s.started_at) as started,
      extract(epoch from clock_timestamp() - s.started_at) as ago,
      extract(epoch from s.ended_at - s.started_at) as took
    from (
      select *
      from unstuck.sweeps s
      where p_before is null or s.id < p_before
      order by s.id desc
      limit 5000
    ) s
    where p_all
      or not coalesce(s.ok, false)
      or exists (
        select from jsonb_each(s.counts) c
        where c.value <> '0'
          and c.key in (
            'failed', 'requeued', 'redispatched', 'suspended', 'unsweepable', 'orphaned'
          )
      )
    order by s.id desc
    limit least(p_limit, 500)
  ) f
$$;

-- How many rows the planner expects of a query. It reads no table.
create or replace function unstuck.estimated_rows(p_query text) returns float8
language plpgsql volatile as $$
declare
  v_plan json;
begin
  execute 'explain (format json) ' || p_query into v_plan;
  return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::float8;
end $$;
