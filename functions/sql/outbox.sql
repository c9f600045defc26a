-- outbox: what people are to be told about failures by a sweep. A sweep puts a row for each failed
-- task, in its own transaction, so none is lost. A later step takes them under a lease, sends them
-- and marks them. Where it dies between the two, the message is sent again under the same id.

-- Puts a row for each task of the batch that has failed.
create or replace function unstuck.outbox_put(p_watch text, p_found unstuck.overdue[]) returns void
language sql as $$
  insert into unstuck.outbox (watch, task_id, number, kind, reason, cause)
  select p_watch, x.task_id, x.number, x.kind, x.reason, x.cause
  from unnest(p_found) x
  where x.state = 'failed'
$$;

-- Takes one message for `p_lease` seconds: one whose time has come again, else a new one of all
-- rows that belong to none. Null when there is nothing to send. At most 500 tasks in one message.
drop function if exists unstuck.outbox_take(double precision, integer);
create or replace function unstuck.outbox_take(
  p_lease double precision,
  p_limit integer default 500,
  p_watches text[] default null
) returns jsonb language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_message uuid;
begin
  -- two sweeps at once take different messages
  perform unstuck.hold('outbox');
  select o.message
  into v_message
  from unstuck.outbox o
  where o.ended_at is null
    and o.message is not null
    and o.due_at <= v_now
    and (p_watches is null or o.watch = any (p_watches))
  order by o.due_at
  limit 1;
  if not found then
    v_message := gen_random_uuid();
    update unstuck.outbox o
    set message = v_message
    where o.id in (
      select n.id
      from unstuck.outbox n
      where n.ended_at is null
        and n.message is null
        and (p_watches is null or n.watch = any (p_watches))
      order by n.due_at
      limit least(p_limit, 500)
    );
    if not found then
      return null;
    end if;
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
      'tasks', jsonb_agg(jsonb_build_object(
        'watch', o.watch,
        'task_id', o.task_id,
        'number', o.number,
        'kind', o.kind,
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
      due_at = coalesce(v_now + make_interval(secs => p_retry_after), o.due_at),
      ended_at = case when p_error is null or p_retry_after is null then v_now end,
      outcome = case
        when p_error is null then 'sent'
        when p_retry_after is null then 'given up'
      end
  where o.message = p_message
    and o.ended_at is null;
  get diagnostics v_count = row_count;
  return v_count;
end $$;
