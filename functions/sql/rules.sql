-- What the verbs share: the decisions, which read the rules and the clocks and write nothing.

-- The rule of a kind, complete. Rules come from policy.yaml and travel with each call:
-- {"*": {...}, "image": {...}}. "*" is complete; a kind states only what differs there.
-- `longest_pending_for`, in "*", bounds what a claim reads.
create or replace function unstuck.rule(p_rules jsonb, p_kind text) returns jsonb
language sql immutable parallel safe as $$
  select (p_rules -> '*') || coalesce(p_rules -> p_kind, '{}')
$$;

-- All rules, each complete: for a set of tasks, so that a rule is put together once for each kind
-- and not once for each row.
create or replace function unstuck.complete_rules(p_rules jsonb) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_object_agg(r.kind, unstuck.rule(p_rules, r.kind))
  from jsonb_object_keys(p_rules) as r (kind)
$$;

-- One value of a kind's rule, without putting the rule together.
create or replace function unstuck.rule_value(p_rules jsonb, p_kind text, p_name text) returns text
language sql immutable parallel safe as $$
  select coalesce(p_rules -> p_kind ->> p_name, p_rules -> '*' ->> p_name)
$$;

-- One value of a kind's rule that is a length of time; the policy has it in seconds.
create or replace function unstuck.rule_seconds(p_rules jsonb, p_kind text, p_name text)
returns interval language sql immutable parallel safe as $$
  select make_interval(secs => unstuck.rule_value(p_rules, p_kind, p_name)::float8)
$$;

-- How long a task may wait at most, whatever goes on around it: four times `pending_for`, unless
-- the policy says otherwise.
create or replace function unstuck.pending_at_most(p_rules jsonb, p_kind text) returns interval
language sql immutable parallel safe as $$
  select coalesce(
    unstuck.rule_seconds(p_rules, p_kind, 'pending_at_most'),
    4 * unstuck.rule_seconds(p_rules, p_kind, 'pending_for')
  )
$$;

-- How long a kind was paused between two times. `p_pauses`:
-- as `turns` carries them.
create or replace function unstuck.paused_time(
  p_kind text,
  p_from timestamptz,
  p_to timestamptz,
  p_pauses jsonb
) returns interval language sql immutable as $$
  select coalesce(sum(upper(u.span) - lower(u.span)), '0')
  from (
    select unnest(range_agg(
      tstzrange((t.time ->> 0)::timestamptz, (t.time ->> 1)::timestamptz)
      * tstzrange(p_from, greatest(p_from, p_to))
    )) as span
    from jsonb_array_elements(
      coalesce(p_pauses -> p_kind, '[]') || coalesce(p_pauses -> '*', '[]')
    ) as t (time)
    where (t.time ->> 0)::timestamptz <= (t.time ->> 1)::timestamptz
  ) u
  where not isempty(u.span)
$$;

-- Until when a task may wait. `pending_for` counts from when it was queued, and anew while workers
-- hold tasks of its kind (`p_held`: when one last did), or, as `p_any_held`, tasks that were queued
-- before it (`p_front`): then it waits for its turn. The time for which its kind was paused is no
-- waiting.
create or replace function unstuck.waits_until(
  p_queued timestamptz,
  p_paused interval,
  p_pending_for interval,
  p_at_most interval,
  p_held timestamptz,
  p_any_held timestamptz,
  p_front timestamptz
) returns timestamptz language sql stable as $$
  select p_paused + least(
    least(p_queued, '9999-12-31') + p_at_most,
    greatest(
      least(p_queued, '9999-12-31'),
      p_held,
      case when p_queued >= p_front then p_any_held end
    ) + p_pending_for
  )
$$;

-- The same of a kind, by its rule. `p_turns`: the answer of `turns`.
create or replace function unstuck.pending_until(
  p_queued timestamptz,
  p_kind text,
  p_rules jsonb,
  p_turns jsonb
) returns timestamptz language sql stable as $$
  select unstuck.waits_until(
    p_queued,
    case
      when p_turns -> '*' ? 'pauses' then unstuck.paused_time(
        p_kind,
        least(p_queued, '9999-12-31'),
        statement_timestamp(),
        p_turns -> '*' -> 'pauses'
      )
      else '0'
    end,
    unstuck.rule_seconds(p_rules, p_kind, 'pending_for'),
    unstuck.pending_at_most(p_rules, p_kind),
    (p_turns -> p_kind ->> 'held')::timestamptz,
    (p_turns -> '*' ->> 'held')::timestamptz,
    (p_turns -> '*' ->> 'front')::timestamptz
  )
$$;

-- Up to when a task may have been queued, if it is overdue now: of each kind that has a rule or was
-- worked on, and of all others together (''). `p_turns`: the answer of `turns`.
create or replace function unstuck.overdue_bounds(
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns table (kind text, bound timestamptz) language sql stable as $$
  select k.kind, case
    when k.held > p_now - k.pending_for then k.latest
    when (p_turns -> '*' ->> 'held')::timestamptz > p_now - k.pending_for then
      greatest(k.latest, least(p_now - k.pending_for, (p_turns -> '*' ->> 'front')::timestamptz))
    else p_now - k.pending_for
  end
  from (
    select
      n.kind,
      (p_turns -> n.kind ->> 'held')::timestamptz as held,
      unstuck.rule_seconds(p_rules, n.kind, 'pending_for') as pending_for,
      p_now - unstuck.pending_at_most(p_rules, n.kind) as latest
    from (
      select jsonb_object_keys(p_rules || p_turns) as kind
      union
      select ''
    ) n
    where n.kind <> '*'
  ) k
$$;

-- The same of whatever kind: a bound that an index can use, so that a long queue that moves is not
-- read.
create or replace function unstuck.overdue_before(
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns timestamptz language sql stable as $$
  select max(b.bound) from unstuck.overdue_bounds(p_now, p_rules, p_turns) b
$$;

-- Whether a task only waits for its turn: tasks of its kind are claimed, and those were not queued
-- after it. Or it waits for the end of a pause.
create or replace function unstuck.in_turn(
  p_queued timestamptz,
  p_kind text,
  p_since timestamptz,
  p_turns jsonb
) returns boolean language sql stable as $$
  select coalesce(
    (p_turns -> p_kind ->> 'claimed')::timestamptz > p_since
      and p_queued >= (p_turns -> p_kind ->> 'front')::timestamptz,
    false
  ) or coalesce(p_turns -> '*' -> 'paused' ?| array[p_kind, '*'], false)
$$;

-- By kind, when its last pause ended that lasted for so long that a queue may have given up what
-- was pushed before. '*': that of all kinds.
create or replace function unstuck.resumed(p_now timestamptz, p_rules jsonb, p_turns jsonb)
returns jsonb language sql stable as $$
  select coalesce(jsonb_object_agg(r.kind, r.at), '{}')
  from (
    select k.kind, max((t.time ->> 1)::timestamptz) as at
    from jsonb_each(p_turns -> '*' -> 'pauses') as k (kind, times)
    cross join jsonb_array_elements(k.times) as t (time)
    where (t.time ->> 1)::timestamptz between
      (t.time ->> 0)::timestamptz + unstuck.rule_seconds(p_rules, k.kind, 'redispatch_after')
      and p_now
    group by k.kind
  ) r
$$;

-- When the tasks of a kind could be taken again after such a pause; null where none was, and where
-- it is paused now.
create or replace function unstuck.resumed_at(p_kind text, p_resumed jsonb, p_turns jsonb)
returns timestamptz language sql stable as $$
  select case
    when p_resumed = '{}' or p_turns -> '*' -> 'paused' ?| array[p_kind, '*'] then null
    else greatest((p_resumed ->> p_kind)::timestamptz, (p_resumed ->> '*')::timestamptz)
  end
$$;

-- After how many times `redispatch_after` a task that was pushed `p_times` times again is pushed
-- once more. While workers take tasks the queue is slow, and its pushes are not all lost: to push
-- each waiting task once in every period would make it slower still, for ever.
create or replace function unstuck.push_factor(
  p_times integer,
  p_kind text,
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns double precision language sql stable as $$
  select case
    when (p_turns -> '*' ->> 'claimed')::timestamptz
      > p_now - unstuck.rule_seconds(p_rules, p_kind, 'redispatch_after')
    then power(2, least(p_times, 5) - 1)
    else 1
  end
$$;

-- The shortest time that any kind has: a bound that an index can use.
create or replace function unstuck.shortest(p_rules jsonb, p_name text) returns interval
language sql immutable parallel safe as $$
  select make_interval(secs => min((value ->> p_name)::float8))
  from jsonb_each(p_rules)
$$;

-- A number from 0 up to 1 that is always the same for a key: for a sample.
create or replace function unstuck.draw(p_key text) returns float8
language sql immutable parallel safe as $$
  select (hashtext(p_key) & 1048575) / 1048576::float8
$$;

-- The time, or null where it is infinite: people write 'infinity' for "on hold" and '-infinity' for
-- "at once". PostgreSQL 15 and 16 cannot subtract such a time, and the later ones make a length of
-- it that no JSON number can hold.
create or replace function unstuck.finite(p_time timestamptz) returns timestamptz
language sql immutable parallel safe as $$
  select nullif(nullif(p_time, 'infinity'), '-infinity')
$$;

-- Whether a value is the one that was asked for. Where nothing is asked for, each value fits.
create or replace function unstuck.fits(p_value text, p_asked text) returns boolean
language sql immutable parallel safe as $$
  select p_asked is null or p_value = p_asked
$$;

-- A sentence without what differs from task to task: ids and numbers. Sentences with the same shape
-- tell the same.
create or replace function unstuck.message_shape(p_text text) returns text
language sql immutable parallel safe as $$
  select regexp_replace(
    left(p_text, 300),
    '\m[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\M|\m(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}\M|\d+',
    '#',
    'g'
  )
$$;

-- How long after its start the server became ready. A recovery takes time, also the one after the
-- crash of a single backend, which the postmaster survives; a standby waits until it takes over.
-- The walwriter starts when it is over. 0 where our owner may not see it (pg_read_all_stats).
-- Costs 0.1 ms: it is asked in a sub-select, so only when a lease has run out.
create or replace function unstuck.ready_after() returns interval
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(max(a.backend_start) - pg_postmaster_start_time(), '0')
  from pg_stat_get_activity(null) a
  where a.backend_type = 'walwriter'
$$;

-- Until when an attempt is believed alive. After a restart or a recovery of the database its lease
-- counts from then: no worker could send a heartbeat while the database was away. A start in the
-- future, of a clock that was set back since, says nothing.
create or replace function unstuck.alive_until(
  p_lease_until timestamptz,
  p_lease interval,
  p_deadline timestamptz,
  p_ready_after interval
) returns timestamptz language sql stable as $$
  select least(
    p_deadline,
    greatest(p_lease_until, case
      when pg_postmaster_start_time() <= statement_timestamp() then
        pg_postmaster_start_time() + p_ready_after + p_lease
    end)
  )
$$;

-- The same for a row of the ledger. `p_ready_after` is always `(select unstuck.ready_after())`: it
-- stays outside, because PostgreSQL does not inline a function that has a sub-select.
create or replace function unstuck.lives_until(p_attempt unstuck.attempts, p_ready_after interval)
returns timestamptz language sql stable as $$
  select unstuck.alive_until(
    p_attempt.lease_until, p_attempt.lease, p_attempt.deadline_at, p_ready_after
  )
$$;

-- The last attempt of a task, if any.
create or replace function unstuck.last_attempt(p_watch text, p_task text)
returns table (number integer, tries integer, outcome text) language sql stable as $$
  select a.number, a.tries, a.outcome
  from unstuck.attempts a
  where a.watch = p_watch and a.task_id = p_task
  order by a.number desc
  limit 1
$$;

-- Whether the attempt ended in a way that hides how far its work had come. `on_lost` of the rule
-- says what happens then.
create or replace function unstuck.is_loss(p_cause text) returns boolean
language sql immutable parallel safe as $$
  select p_cause in ('lease_lost', 'deadline', 'out_of_memory', 'crashed', 'shutdown', 'stale')
$$;

-- The seconds until a time; 0 where it has passed.
create or replace function unstuck.due_in(p_due timestamptz) returns double precision
language sql volatile as $$
  select coalesce(
    greatest(0, extract(epoch from unstuck.finite(p_due) - clock_timestamp())), 0
  )::float8
$$;

-- The next state of a task whose try ended by `p_cause`. Sweep and settle both decide by it.
create or replace function unstuck.next_state(p_rule jsonb, p_cause text, p_tries integer)
returns text language sql immutable parallel safe as $$
  select case
    when p_cause = 'never_claimed' then 'failed'
    when p_cause = 'cancelled' then 'cancelled'
    when unstuck.is_loss(p_cause) and p_rule ->> 'on_lost' <> 'retry' then 'failed'
    when p_tries < (p_rule ->> 'attempts')::integer then 'pending'
    else 'failed'
  end
$$;

-- The reason that goes with that state.
create or replace function unstuck.next_reason(p_rule jsonb, p_cause text, p_tries integer)
returns text language sql immutable parallel safe as $$
  select case
    when p_cause in ('never_claimed', 'cancelled') then p_cause
    when unstuck.is_loss(p_cause) and p_rule ->> 'on_lost' = 'uncertain' then 'uncertain'
    when unstuck.is_loss(p_cause) and p_rule ->> 'on_lost' = 'fail' then p_cause
    when p_tries < (p_rule ->> 'attempts')::integer then p_cause
    when p_cause = 'transient' then 'transient_exhausted'
    else 'attempts_exhausted'
  end
$$;

-- How long to wait before the next try: first x factor^(tries - 1), at most max. Up to half of it
-- is taken away at random, so that tasks that failed together do not come back together.
create or replace function unstuck.backoff(p_rule jsonb, p_tries integer) returns interval
language sql volatile as $$
  select make_interval(secs => (0.5 + random() / 2) * least(
    (p_rule ->> 'backoff_max')::float8,
    (p_rule ->> 'backoff_first')::float8
      * power((p_rule ->> 'backoff_factor')::float8, least(p_tries, 64) - 1)
  ))
$$;

-- The same for a try that was lost: seconds, or null when there is no next one.
create or replace function unstuck.retry_after(p_rule jsonb, p_cause text, p_tries integer)
returns double precision language sql volatile as $$
  select case unstuck.next_state(p_rule, p_cause, p_tries)
    when 'pending' then extract(epoch from unstuck.backoff(p_rule, p_tries))
  end
$$;

-- The decision about a task whose try was lost. In plpgsql: inlined for each field, the cases took
-- longer to plan than to run.
create or replace function unstuck.decided(
  p_task text,
  p_kind text,
  p_live boolean,
  p_number integer,
  p_tries integer,
  p_worker text,
  p_rule jsonb,
  p_cause text,
  p_held boolean,
  p_late interval
) returns unstuck.overdue language plpgsql volatile as $$
declare
  v_reason constant text := unstuck.next_reason(p_rule, p_cause, p_tries);
begin
  return row(
    p_task,
    p_kind,
    'running',
    p_live,
    p_number,
    p_tries,
    p_worker,
    case when p_held then unstuck.next_state(p_rule, p_cause, p_tries) else 'overtaken' end,
    v_reason,
    p_cause,
    unstuck.sentence(v_reason, p_cause, p_tries),
    case when p_held then unstuck.retry_after(p_rule, p_cause, p_tries) end,
    coalesce(extract(epoch from p_late), 0)
  )::unstuck.overdue;
end $$;

-- The rule of a task that ran outside the guard and was last alive at `p_alive`: after more than
-- `restart_within` it is not started again, since nobody may wait for it any more.
create or replace function unstuck.rule_at_age(
  p_rule jsonb,
  p_alive timestamptz,
  p_now timestamptz
) returns jsonb language sql immutable as $$
  select case
    when p_rule ->> 'on_lost' = 'retry'
      and p_alive < p_now
        - make_interval(secs => coalesce((p_rule ->> 'restart_within')::float8, 86400))
    then p_rule || '{"on_lost": "fail"}'
    else p_rule
  end
$$;

-- The rule of a task whose row says how many attempts it has; 0 and null say nothing. Stable, as
-- what it calls: else it is not inlined.
create or replace function unstuck.rule_of_row(p_rule jsonb, p_attempts integer) returns jsonb
language sql stable parallel safe as $$
  select case
    when p_attempts > 0 then
      p_rule || jsonb_build_object('attempts', least(p_attempts, 100))
    else p_rule
  end
$$;

-- Which try it was that a task outside the guard has lost: by the ledger, and by what its table
-- counts where nobody has started it again since it ended.
create or replace function unstuck.lost_try(p_outcome text, p_tries integer, p_counted integer)
returns integer language sql immutable parallel safe as $$
  select case
    when p_outcome in ('completed', 'failed', 'cancelled') then 1
    else greatest(coalesce(p_tries, 0) + 1, p_counted)
  end
$$;

-- The sentence for a person. In plpgsql: SQL that calls itself is not inlined, and costs five times
-- as much.
create or replace function unstuck.sentence(p_reason text, p_cause text, p_tries integer)
returns text language plpgsql immutable parallel safe as $$
begin
  return case p_reason
    when 'never_claimed' then 'No worker picked the task up in time.'
    when 'attempts_exhausted' then format(
      'Gave up after %s %s. The last one: %s',
      p_tries,
      case p_tries when 1 then 'attempt' else 'attempts' end,
      unstuck.sentence(p_cause, null, p_tries)
    )
    when 'transient_exhausted' then format(
      'Gave up after %s attempts that each failed for a passing reason.', p_tries
    )
    when 'uncertain' then
      'The worker stopped before it could say whether the work was done. '
      'It is not repeated, since a second run could do it twice.'
    when 'lease_lost' then 'The worker stopped without a word.'
    when 'deadline' then 'The work took longer than it may.'
    when 'out_of_memory' then 'The work needed more memory than it may use.'
    when 'crashed' then 'The process that did the work crashed.'
    when 'no_handler' then 'No worker that took the task knew how to do it.'
    when 'shutdown' then 'The worker was shut down.'
    when 'stale' then 'Nothing was heard of the task for too long.'
    when 'cancelled' then 'The task was cancelled.'
    when 'by_hand' then 'It was ended by a person.'
    else 'The work failed.'
  end;
end $$;

-- The decision about a task that no worker took in time. `p_had_turns`: it waited for its turn, as
-- long as it may.
create or replace function unstuck.unclaimed(
  p_task text,
  p_kind text,
  p_number integer,
  p_tries integer,
  p_had_turns boolean,
  p_late interval
) returns unstuck.overdue language sql immutable as $$
  select row(
    p_task,
    p_kind,
    'pending',
    false,
    coalesce(p_number, 0) + 1,
    coalesce(p_tries, 0),
    null,
    'failed',
    'never_claimed',
    'never_claimed',
    case
      when p_had_turns then 'Its turn did not come in time: more tasks came than were done.'
      else unstuck.sentence('never_claimed', null, 0)
    end,
    null,
    coalesce(extract(epoch from p_late), 0)
  )::unstuck.overdue
$$;

-- The decision about a task that waits, or waited, and whose user asked to stop it.
drop function if exists unstuck.withdrawn(text, text, integer, integer);
create or replace function unstuck.withdrawn(
  p_task text,
  p_kind text,
  p_number integer,
  p_tries integer,
  p_was text default 'pending'
) returns unstuck.overdue language sql immutable as $$
  select row(
    p_task,
    p_kind,
    p_was,
    false,
    coalesce(p_number, 0) + 1,
    coalesce(p_tries, 0),
    null,
    'cancelled',
    'cancelled',
    'cancelled',
    unstuck.sentence('cancelled', null, 0),
    null,
    0
  )::unstuck.overdue
$$;

-- Whether the same statement may succeed later: after a deadlock, a timeout, a shutdown, a failover
-- or a lack of resources. functions/core/sqlstates.py has the list of classes and codes.
create or replace function unstuck.is_passing(p_sqlstate text) returns boolean
language sql immutable parallel safe as $$
  select array[left(p_sqlstate, 2), p_sqlstate] && array[@passing_sqlstates@]
$$;
