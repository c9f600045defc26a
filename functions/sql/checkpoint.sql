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
  v_now constant timestamptz := clock_timestamp();
begin
  update unstuck.attempts a
  set checkpoint = a.checkpoint || jsonb_build_object(p_name, p_data),
      checkpoint_at = a.checkpoint_at || jsonb_build_object(p_name, extract(epoch from v_now)),
      lease_until = v_now + a.lease,
      beat_at = v_now,
      beats = a.beats + 1,
      extended = false
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null;
  if found then
    return '{"verdict": "held"}';
  end if;
  return unstuck.lost(p_watch, p_task, p_token, 'checkpoint');
end $$;
