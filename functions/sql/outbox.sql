-- outbox: what people are to be told. Each verb that ends an attempt puts a row into it for each
-- address, in its own transaction, so none is lost (tell.sql). A later step takes them under a
-- lease, sends them and marks them. Where it dies between the two, the message is sent again under
-- the same id.

-- Whether somebody sends what an address is to be told: this database, or a sweep that asked for
-- it in the last day.
create or replace function unstuck.hears(p_address unstuck.addresses) returns boolean
language sql stable as $$
  select p_address.url is not null or p_address.seen_at > clock_timestamp() - interval '1 day'
$$;

-- As the SQL of earlier releases calls it, which another installation may still have.
create or replace function unstuck.outbox_put(p_watch text, p_found unstuck.overdue[]) returns void
language sql as $$
  insert into unstuck.outbox (watch, task_id, number, kind, reason, cause)
  select p_watch, x.task_id, x.number, x.kind, x.reason, x.cause
  from unnest(p_found) x
  where x.state = 'failed'
$$;

-- The wait before a message that was tried `p_times` times is tried again, in seconds: doubled
-- each time, up to an hour. Null when it is given up, after about a day.
create or replace function unstuck.outbox_pause(p_times integer) returns double precision
language sql immutable as $$
  select case when p_times < 31 then least(3600, 30 * power(2, p_times - 1)) end
$$;

-- Rows that belong to no message and may be sent now: not before an earlier message about the same
-- task has come to its end, so that nobody hears of a retry after the end.
create or replace function unstuck.outbox_free(p_watches text[], p_addresses text[])
returns setof unstuck.outbox language sql stable as $$
  select n.*
  from unstuck.outbox n
  where n.ended_at is null
    and n.message is null
    and n.due_at <= clock_timestamp()
    and n.address = any (p_addresses)
    and (p_watches is null or n.watch = any (p_watches) or n.watch = '')
    and not exists (
      select from unstuck.outbox e
      where e.ended_at is null
        and e.message is not null
        and e.watch = n.watch
        and e.task_id = n.task_id
        and e.address = n.address
        and n.state <> 'notice'
    )
$$;

-- Takes one message for `p_lease` seconds: one whose time has come again, else a new one of rows
-- that belong to none, all for the same address and URL. Null when there is nothing to send. At
-- most 500 tasks in one message. `p_addresses`: those that the caller can send to.
drop function if exists unstuck.outbox_take(double precision, integer);
drop function if exists unstuck.outbox_take(double precision, integer, text[]);
create or replace function unstuck.outbox_take(
  p_lease double precision,
  p_limit integer default 500,
  p_watches text[] default null,
  p_addresses text[] default array['default']
) returns jsonb language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_message uuid;
  v_first   record;
begin
  insert into unstuck.addresses as d (name, seen_at)
  select n, v_now from unnest(p_addresses) as n
  on conflict (name) do update
  set seen_at = v_now
  where (d.seen_at > v_now - interval '10 minutes') is not true;
  -- two sweeps at once take different messages
  perform unstuck.hold('outbox');
  select o.message
  into v_message
  from unstuck.outbox o
  where o.ended_at is null
    and o.message is not null
    and o.due_at <= v_now
    and o.address = any (p_addresses)
    and (p_watches is null or o.watch = any (p_watches) or o.watch = '')
  order by o.due_at
  limit 1;
  if not found then
    select f.address, f.url
    into v_first
    from unstuck.outbox_free(p_watches, p_addresses) f
    order by f.due_at, f.id
    limit 1;
    if not found then
      return null;
    end if;
    v_message := gen_random_uuid();
    update unstuck.outbox o
    set message = v_message
    where o.id in (
      select f.id
      from unstuck.outbox_free(p_watches, array[v_first.address]) f
      where f.url is not distinct from v_first.url
      order by f.due_at, f.id
      limit least(p_limit, 500)
    );
  end if;
  update unstuck.outbox o
  set times = o.times + 1,
      due_at = v_now + make_interval(secs => p_lease)
  where o.message = v_message
    and o.ended_at is null;
  return (
    select jsonb_build_object(
      'message', v_message,
      'times', max(o.times),
      'address', max(o.address),
      'url', max(o.url),
      'retry_after', unstuck.outbox_pause(max(o.times)),
      'tasks', jsonb_agg(jsonb_build_object(
        'watch', o.watch,
        'task_id', o.task_id,
        'number', o.number,
        'kind', o.kind,
        'state', o.state,
        'reason', o.reason,
        'cause', o.cause,
        'at', o.at
      ) order by o.id)
    )
    from unstuck.outbox o
    where o.message = v_message
      and o.ended_at is null
  );
end $$;

-- Says what became of a message that was taken: it was sent; or, with an error, it is to be tried
-- again after `p_retry_after` seconds (null: given up). Safe to repeat.
create or replace function unstuck.outbox_end(
  p_message uuid,
  p_error text default null,
  p_retry_after double precision default null
) returns integer language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_count integer;
begin
  update unstuck.outbox o
  set error = p_error,
      request = null,
      due_at = coalesce(v_now + make_interval(secs => p_retry_after), o.due_at),
      ended_at = case when p_error is null or p_retry_after is null then v_now end,
      outcome = case
        when p_error is null then 'sent'
        when p_retry_after is null then 'given up'
      end
  where o.message = p_message
    and o.ended_at is null;
  get diagnostics v_count = row_count;
  if v_count > 0 and p_error is not null and p_retry_after is null then
    perform unstuck.notice(
      'undelivered',
      format('%s ends could not be told to %s: %s', count(*), max(o.address), p_error),
      max(o.address)
    )
    from unstuck.outbox o
    where o.message = p_message
      and o.state <> 'notice'
    having count(*) > 0;
  end if;
  return v_count;
end $$;

-- Tells each address that hears, but `p_except`, what is of no task: `p_code`, and a sentence.
create or replace function unstuck.notice(p_code text, p_text text, p_except text default null)
returns void language sql as $$
  insert into unstuck.outbox (
    watch, task_id, number, kind, reason, cause, state, address
  )
  select '', '', 0, '', p_code, p_text, 'notice', d.name
  from unstuck.addresses d
  where d.name not in ('callback', 'ping', 'worker', coalesce(p_except, ''))
    and unstuck.hears(d)
$$;
