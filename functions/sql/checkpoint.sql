-- checkpoint: keeps the data of one finished step; the next attempt starts with it. Also a
-- heartbeat.
create or replace function unstuck.checkpoint(
  p_watch text,
  p_task text,
  p_token uuid,
  p_name text,
  p_data jsonb
) returns jsonb language plpgsql as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_number integer;
begin
  update unstuck.attempts a
  set lease_until = v_now + a.lease,
      beat_at = v_now,
      beats = a.beats + 1,
      extended = false
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null
  returning a.number into v_number;
  if not found then
    return unstuck.lost(p_watch, p_task, p_token, 'checkpoint');
  end if;
  insert into unstuck.checkpoints (watch, task_id, number, name, data, at)
  values (p_watch, p_task, v_number, p_name, p_data, v_now)
  on conflict (watch, task_id, number, name) do update
  set data = excluded.data,
      at = excluded.at;
  return '{"verdict": "held"}';
end $$;

-- The checkpoints with which the attempt after `p_number` starts: those of that attempt, and of the
-- attempts before it since the task last ended; of each name the latest.
create or replace function unstuck.checkpoints_of(p_watch text, p_task text, p_number integer)
returns setof unstuck.checkpoints language sql stable as $$
  select distinct on (c.name) c.*
  from unstuck.checkpoints c
  where c.watch = p_watch
    and c.task_id = p_task
    and c.number <= p_number
    and c.number > coalesce((
      select max(a.number)
      from unstuck.attempts a
      where a.watch = p_watch
        and a.task_id = p_task
        and a.number < p_number
        and a.outcome in ('completed', 'failed', 'cancelled')
    ), 0)
  order by c.name, c.number desc
$$;

-- The same as one object: the data by name.
create or replace function unstuck.saved(p_watch text, p_task text, p_number integer)
returns jsonb language sql stable as $$
  select coalesce(jsonb_object_agg(c.name, c.data), '{}')
  from unstuck.checkpoints_of(p_watch, p_task, p_number) c
$$;
