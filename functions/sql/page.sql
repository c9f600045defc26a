-- page: the list of the operators' page: stuck tasks first, then running, pending, and ended ones,
-- the newest first. Keyset paging: each section is read in the order of an index, from where the
-- last page ended. However many rows there are, at most `p_limit` are shown and 3,000 looked at;
-- the answer says where to go on.

drop function if exists unstuck.@watch@_section(
  integer, timestamptz, jsonb, integer, timestamptz, text, jsonb
);

-- One section, in its order, after (`p_after`, `p_after_id`). Locks nothing. What is stuck is what
-- the next sweep moves. The sections, by number:
--   0 stuck, 1 running, 2 pending: from the table, the oldest first
--   3 ended: from the ledger, the newest first
--   4 the table by key; 5 a range of it, from a key to a key: for tasks that the ledger lacks
-- `fits` says whether kind and owner (of ended ones: kind, reason and message) are as asked for;
-- what does not fit counts as looked at. `since` and `until` are about the time of the order; of
-- running tasks about their start. With `order` = `reverse` sections 2 and 3 run the other way, 3
-- only with a state. `p_turns` is the answer of `turns`; ended tasks need none. No sequential
-- scans, for the reason that sweep.sql gives.
create or replace function unstuck.@watch@_section(
  p_section integer,
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer,
  p_after timestamptz default null,
  p_after_id text default null,
  p_filter jsonb default '{}',
  p_turns jsonb default '{}'
) returns table (at timestamptz, id text, fits boolean)
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_back constant boolean := p_section in (@section_pending@, @section_ended@)
    and coalesce(p_filter ->> 'order', '') = 'reverse';
  v_at constant timestamptz := coalesce(
    p_after,
    case when (p_section = @section_ended@) <> v_back
      then 'infinity'::timestamptz else '-infinity' end
  );
  v_id     constant text := coalesce(p_after_id, '');
  v_since  constant timestamptz := coalesce((p_filter ->> 'since')::timestamptz, '-infinity');
  v_until  constant timestamptz := coalesce((p_filter ->> 'until')::timestamptz, 'infinity');
  v_dated  constant boolean := p_filter ?| array['since', 'until'];
  v_shape  constant text := p_filter ->> 'message';
  v_kind   constant text := p_filter ->> 'kind';
  v_owner  constant text := p_filter ->> 'owner';
  v_state  constant text := p_filter ->> 'state';
  v_reason constant text := p_filter ->> 'reason';
begin
  case p_section
  when @section_stuck@ then return query
    select
      l.at,
      l.id,
      unstuck.fits(l.kind, v_kind)
        and unstuck.fits(l.owner, v_owner)
        and l.at between v_since and v_until
    from unstuck.@watch@_stuck_tasks(
      p_now,
      p_rules,
      p_limit,
      v_at,
      v_id,
      p_turns,
      case when v_state in ('running', 'pending') then v_state end
    ) l
    order by 1, 2;
  when @section_running@ then return query
    select
      @alive_bound(t)@,
      t.@key@::text,
      unstuck.fits(@kind(t)@, v_kind)
        and unstuck.fits(@owner(t)@::text, v_owner)
        and (
          not v_dated
          or coalesce(a.started_at, @started(t)@, @alive(t)@) between v_since and v_until
        )
    from @table@ t
    left join unstuck.attempts a
      on a.watch = '@watch@' and a.task_id = t.@key@::text and a.ended_at is null
    where @is_running(t)@
      and @alive_bound(t)@ >= v_at
      and (@alive_bound(t)@, t.@key@::text) > (v_at, v_id)
      and coalesce(
        case
          when a.task_id is null then
            @alive(t)@ > p_now - unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for')
          else
            least(a.lease_until, a.deadline_at) > p_now
            or unstuck.lives_until(a, (select unstuck.ready_after())) > p_now
        end,
        true
      )
    order by @alive_bound(t)@, t.@key@::text
    limit p_limit;
  when @section_pending@ then
    if v_back then return query
    select
      @queued_bound(t)@,
      t.@key@::text,
      unstuck.fits(@kind(t)@, v_kind) and unstuck.fits(@owner(t)@::text, v_owner)
    from @table@ t
    where @is_claimable(t)@
      and @queued_bound(t)@ >= v_since
      and @queued_bound(t)@ <= least(v_at, v_until)
      and (@queued_bound(t)@, t.@key@::text) < (v_at, v_id)
      and @queued(t)@ > p_now - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
      and unstuck.pending_until(@queued(t)@, @kind(t)@, p_rules, p_turns) > p_now
      and not exists (
        select from unstuck.attempts a
        where a.watch = '@watch@'
          and a.task_id = t.@key@::text
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
      )
    order by @queued_bound(t)@ desc, t.@key@::text desc
    limit p_limit;
    else return query
    select
      @queued_bound(t)@,
      t.@key@::text,
      unstuck.fits(@kind(t)@, v_kind) and unstuck.fits(@owner(t)@::text, v_owner)
    from @table@ t
    where @is_claimable(t)@
      and @queued_bound(t)@ >= greatest(v_at, v_since)
      and @queued_bound(t)@ <= v_until
      and (@queued_bound(t)@, t.@key@::text) > (v_at, v_id)
      and @queued(t)@ > p_now - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
      and unstuck.pending_until(@queued(t)@, @kind(t)@, p_rules, p_turns) > p_now
      and not exists (
        select from unstuck.attempts a
        where a.watch = '@watch@'
          and a.task_id = t.@key@::text
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
      )
    order by @queued_bound(t)@, t.@key@::text
    limit p_limit;
    end if;
  when @section_ended@ then
    if v_back then return query execute format(  -- planned for the state: each has its index
      $query$
        select
          a.ended_at,
          a.task_id,
          unstuck.fits(a.kind, $1)
            and unstuck.fits(a.reason, $2)
            and ($3 is null or unstuck.message_shape(a.error) = $3)
        from unstuck.attempts a
        where a.watch = '@watch@'
          and a.outcome = %L
          and a.ended_at >= $4
          and a.ended_at <= $5
          and (a.ended_at > $6 or a.task_id > $7)
          and not exists (
            select from unstuck.attempts n
            where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
          )
        order by a.ended_at, a.task_id
        limit %s
      $query$,
      v_state,
      p_limit
    ) using v_kind, v_reason, v_shape, greatest(v_at, v_since), v_until, v_at, v_id;
    elsif v_state in ('failed', 'cancelled') then return query
      select
        a.ended_at,
        a.task_id,
        unstuck.fits(a.kind, v_kind)
          and unstuck.fits(a.reason, v_reason)
          and (v_shape is null or unstuck.message_shape(a.error) = v_shape)
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.outcome in ('failed', 'cancelled')
        and a.outcome = v_state
        and a.ended_at <= least(v_at, v_until)
        and a.ended_at >= v_since
        and (a.ended_at < v_at or a.task_id < v_id)
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc, a.task_id desc
      limit p_limit;
    else return query
      select
        a.ended_at,
        a.task_id,
        unstuck.fits(a.kind, v_kind)
          and unstuck.fits(a.reason, v_reason)
          and (v_shape is null or unstuck.message_shape(a.error) = v_shape)
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.outcome in ('completed', 'failed', 'cancelled')
        and (v_state is null or a.outcome = v_state)
        and a.ended_at <= least(v_at, v_until)
        and a.ended_at >= v_since
        and (a.ended_at < v_at or a.task_id < v_id)
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc, a.task_id desc
      limit p_limit;
    end if;
  when @section_by_key@ then return query
    select
      null::timestamptz,
      t.@key@::text,
      unstuck.fits(@kind(t)@, v_kind) and unstuck.fits(@owner(t)@::text, v_owner)
    from @table@ t
    where p_after_id is null or t.@key@ > p_after_id::@key_type@
    order by t.@key@
    limit p_limit;
  else return query  -- @section_range@: a range of keys
    select
      null::timestamptz,
      t.@key@::text,
      unstuck.fits(@kind(t)@, v_kind) and unstuck.fits(@owner(t)@::text, v_owner)
    from @table@ t
    where t.@key@ >= p_after_id::@key_type@
      and t.@key@ <= (p_filter ->> 'last')::@key_type@
    order by t.@key@
    limit p_limit;
  end case;
end $$;

-- One page of the list. `p_filter`: {state (one of six, or stuck, open, elsewhere), word (of the
-- table's status), kind, owner, reason, first and last (keys), since and until (times), message
-- (the shape of a sentence), text (in the sentence or the input; the answer has them then), order
-- (`reverse`, with a state)}, each optional. In a table that is not our own, what ended behind the
-- guard comes last, where a filter asks for it. `p_after`: the `next` of the page before.
-- Answers {tasks, next}; a `next` with `searched` goes on behind the rows that were looked at.
-- No hash and no merge joins: with a small table they would read all of it, and such a plan is kept
-- while it grows.
create or replace function unstuck.@watch@_page(
  p_filter jsonb,
  p_rules jsonb,
  p_limit integer default 50,
  p_after jsonb default null
) returns jsonb
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_now      constant timestamptz := clock_timestamp();
  v_state    constant text := p_filter ->> 'state';
  v_ended    constant boolean := coalesce(v_state in ('completed', 'failed', 'cancelled'), false);
  v_filtered constant boolean :=
    p_filter ?| array[
      'kind', 'owner', 'reason', 'first', 'word', 'text', 'message', 'since', 'until'
    ]
    or v_state in ('resting', 'elsewhere');
  v_sections constant integer[] := case
    when p_filter ? 'first' then array[@section_range@]
    when v_state = 'stuck' then array[@section_stuck@]
    when v_state = 'running' then array[@section_stuck@, @section_running@]
    when v_state = 'pending' then array[@section_stuck@, @section_pending@]
    when v_state = 'open' then array[@section_stuck@, @section_running@, @section_pending@]
    when v_state in ('resting', 'elsewhere') then array[@section_by_key@]
    when v_ended then array[@section_ended@]
    else array[@section_stuck@, @section_running@, @section_pending@, @section_ended@]
  end || case
    when not @is_own@
      and (v_ended or v_filtered and v_state is null)
      and not p_filter ?| array['first', 'reason', 'message']
    then array[@section_by_key@]
    else '{}'
  end;
  v_turns   constant jsonb := case
    when not v_ended then unstuck.@watch@_turns(v_now, p_rules, 'pending_for')
  end;
  v_limit   constant integer := least(p_limit, 500) + 1;
  v_text    constant text := lower(p_filter ->> 'text');
  v_budget  integer := case
    when v_text is not null then 1000
    when p_filter ? 'reason' then 2000
    else 3000
  end;
  v_section integer;
  v_at      timestamptz;
  v_id      text;
  v_seen    record;
  v_ids     text[] := '{}';
  v_ats     timestamptz[] := '{}';
  v_from    integer[] := '{}';
  v_more    record;
  v_next    jsonb;
  v_take    integer;
  v_shown   integer;
begin
  foreach v_section in array v_sections loop
    continue when v_section < (p_after ->> 'section')::integer;
    if v_section = (p_after ->> 'section')::integer then
      v_at := (p_after ->> 'at')::timestamptz;
      v_id := p_after ->> 'id';
    else
      v_at := null;
      v_id := p_filter ->> 'first';
    end if;
    v_take := case
      when v_section = @section_by_key@ and (v_ended or v_state is null) then least(v_budget, 1000)
      when v_filtered then v_budget
      else v_limit - cardinality(v_ids)
    end;
    select array_agg(s.at) as ats, array_agg(s.id) as ids, array_agg(s.fits) as fits
    into v_seen
    from unstuck.@watch@_section(
      v_section, v_now, p_rules, v_take, v_at, v_id, p_filter, v_turns
    ) s;
    if not v_filtered and v_section < @section_ended@ then  -- all that was read is shown
      v_more := v_seen;
    else
      select array_agg(f.at order by f.n) as ats, array_agg(f.id order by f.n) as ids
      into v_more
      from (
        select s.at, s.id, s.n
        from (
          select u.*
          from unnest(v_seen.ats, v_seen.ids, v_seen.fits) with ordinality as u (at, id, fits, n)
          where u.fits
        ) s
        join @table@ t on t.@key@ = s.id::@key_type@
        left join lateral (
          select a.reason, a.outcome::text, a.error, a.ended_at
          from unstuck.attempts a
          where a.watch = '@watch@' and a.task_id = s.id
          order by a.number desc
          limit 1
        ) l on true
        where (not p_filter ? 'owner' or @owner(t)@::text = p_filter ->> 'owner')
          -- started again by a person: it is shown where it waits
          and (v_section <> @section_ended@ or not (@is_running(t)@ or @is_pending(t)@) is true)
          and (not p_filter ? 'reason' or l.reason = p_filter ->> 'reason')
          and (
            v_section <= @section_ended@
            or not p_filter ?| array['since', 'until']
            or coalesce(l.ended_at, @finished(t)@, @alive(t)@, @queued(t)@) between
              coalesce((p_filter ->> 'since')::timestamptz, '-infinity')
              and coalesce((p_filter ->> 'until')::timestamptz, 'infinity')
          )
          and (
            v_text is null
            or position(v_text in lower(coalesce(@error(t)@, l.error, ''))) > 0
            or position(v_text in lower(coalesce(@searched(t)@, ''))) > 0
          )
          and (not p_filter ? 'word' or t.@status@::text = p_filter ->> 'word')
          and case
            when v_section = @section_by_key@ and v_state is distinct from 'resting' then
              case when p_filter ? 'state' then l.outcome is distinct from @state(t)@
                -- the ledger's have been shown, whatever they are now
                else (l.outcome in ('completed', 'failed', 'cancelled')) is not true
              end
              and (@is_failed(t)@ or @is_cancelled(t)@ or @state(t)@ = 'completed')
              and (not v_ended or @state(t)@ = v_state)
            when v_state is null or v_state in ('stuck', 'open') then true
            else @state(t)@ = v_state
          end
        order by s.n
        limit v_limit - cardinality(v_ids)
      ) f;
    end if;
    v_ids := v_ids || v_more.ids;
    v_ats := v_ats || v_more.ats;
    v_from := v_from || array_fill(v_section, array[coalesce(cardinality(v_more.ids), 0)]);
    exit when cardinality(v_ids) >= v_limit;
    v_budget := v_budget - coalesce(cardinality(v_seen.ids), 0);
    if coalesce(cardinality(v_seen.ids), 0) >= v_take then  -- looked at enough: go on from here
      v_next := jsonb_build_object(
        'section', v_section,
        'at', v_seen.ats[v_take],
        'id', v_seen.ids[v_take],
        'searched', true
      );
      exit;
    end if;
  end loop;
  v_shown := least(cardinality(v_ids), v_limit - 1);
  if cardinality(v_ids) >= v_limit then
    v_next := jsonb_build_object(
      'section', v_from[v_shown], 'at', v_ats[v_shown], 'id', v_ids[v_shown]
    );
  end if;
  return jsonb_build_object('next', v_next, 'tasks', coalesce((
    select jsonb_agg(jsonb_build_object(
      'task_id', d.id,
      'state', d.state,
      'word', d.word,
      'kind', d.kind,
      'owner', d.owner,
      'error', d.error,
      'label', d.label,
      'searched', d.searched,
      'number', d.number,
      'worker', d.worker,
      'reason', d.reason,
      'progress', d.progress,
      'since', extract(epoch from unstuck.finite(d.since)),
      'age', extract(epoch from v_now - unstuck.finite(d.since)),
      'waited', extract(epoch from d.waited),
      'took', extract(epoch from d.took),
      'late', case when d.until <= v_now then
        coalesce(extract(epoch from v_now - unstuck.finite(d.until)), 0)
      end
    ) order by d.n)
    from (
      select
        s.n,
        s.id,
        @state(t)@ as state,
        t.@status@::text as word,
        @kind(t)@ as kind,
        @owner(t)@::text as owner,
        @label(t)@ as label,
        case when v_text is not null then @searched(t)@ end as searched,
        l.number,
        l.worker,
        case when @is_failed(t)@ then coalesce(@error(t)@, l.error) end as error,
        case when @is_running(t)@ then null else coalesce(@reason(t)@, l.reason) end as reason,
        case when @is_running(t)@ then l.progress end as progress,
        case
          when @is_running(t)@ then coalesce(
            case when l.ended_at is null then l.started_at end, @started(t)@, @alive(t)@
          )
          when @is_pending(t)@ then @queued(t)@
          else coalesce(l.ended_at, @finished(t)@, @alive(t)@)
        end as since,
        case when l.number = 1 and not @is_pending(t)@ and isfinite(@queued_bound(t)@) then
          greatest(l.began_at - @queued_bound(t)@, '0')
        end as waited,
        case
          when @is_running(t)@ or @is_pending(t)@ then null
          when l.number is not null then l.ended_at - l.began_at
          when @finished(t)@ >= @started(t)@ then
            unstuck.finite(@finished(t)@) - unstuck.finite(@started(t)@)
        end as took,
        case
          when l.number is not null
            and l.ended_at is null
            and (@is_running(t)@ or @is_pending(t)@)
          then l.lives_until
          when @is_withdrawn(t)@ then v_now
          when @is_pending(t)@ then
            unstuck.pending_until(@queued(t)@, @kind(t)@, p_rules, v_turns)
          when @is_running(t)@ then
            least(@alive(t)@, '9999-12-31')
              + unstuck.rule_seconds(p_rules, @kind(t)@, 'silent_for')
        end as until
      from unnest(v_ids[:v_shown]) with ordinality as s (id, n)
      join @table@ t on t.@key@ = s.id::@key_type@
      left join lateral (
        select a.*, case
          when a.ended_at is null then unstuck.lives_until(a, (select unstuck.ready_after()))
        end as lives_until,
        case  -- a run without the guard began when its row says so, not when a sweep ended it
          when a.lease = '0' and a.number = 1 then least(unstuck.finite(@started(t)@), a.started_at)
          else a.started_at
        end as began_at
        from unstuck.attempts a
        where a.watch = '@watch@' and a.task_id = s.id
        order by a.number desc
        limit 1
      ) l on true
    ) d
  ), '[]'));
end $$;

-- The failures since a time, by the shape of their sentence, the most frequent first: of the 2,000
-- latest. Answers {seen, most, groups: [{message, example, kinds, reasons, count, ago}]}.
create or replace function unstuck.@watch@_failures(p_since float8 default 86400) returns jsonb
language plpgsql stable
set enable_seqscan = off set jit = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now  constant timestamptz := clock_timestamp();
  v_most constant integer := 2000;
begin
  return (
    with failed as materialized (
      select a.error, a.kind, a.reason, a.ended_at
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.outcome in ('failed', 'cancelled')
        and a.outcome = 'failed'
        and a.ended_at >= v_now - make_interval(secs => p_since)
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc
      limit v_most
    )
    select jsonb_build_object(
      'seen', (select count(*) from failed),
      'most', v_most,
      'groups', coalesce((
        select jsonb_agg(to_jsonb(g) order by g.count desc, g.ago)
        from (
          select
            unstuck.message_shape(f.error) as message,
            left((array_agg(f.error order by f.ended_at desc))[1], 300) as example,
            array_agg(distinct f.kind) as kinds,
            array_agg(distinct f.reason) as reasons,
            count(*) as count,
            extract(epoch from v_now - max(f.ended_at)) as ago
          from failed f
          where f.error is not null
          group by 1
          order by 5 desc, 6
          limit 20
        ) g
      ), '[]')
    )
  );
end $$;

-- How many tasks are in a state, counted up to 1,000 (the answer is 1,001 where there are more).
-- Planned for the state: those that were cancelled have an index of their own.
create or replace function unstuck.@watch@_count(p_state text) returns integer
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_custom_plan as $$
declare
  v_most  constant integer := 1001;
  v_count integer;
begin
  case p_state
  when 'pending' then
    select count(*) into v_count
    from (select from @table@ t where @is_pending(t)@ limit v_most) s;
  when 'running' then
    select count(*) into v_count
    from (select from @table@ t where @is_running(t)@ limit v_most) s;
  when 'failed', 'cancelled' then
    select count(*) into v_count
    from (
      select
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.outcome in ('failed', 'cancelled')
        and a.outcome = p_state
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc
      limit v_most
    ) s;
  else
    v_count := null;
  end case;
  return v_count;
end $$;
