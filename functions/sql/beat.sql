-- beat: says that the attempt lives, and brings its progress along. A lease that was taken is not revived.
create or replace function unstuck.beat(p_watch text, p_task text, p_token uuid, p_progress jsonb default null)
returns jsonb language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  update unstuck.attempts a
  set lease_until = v_now + a.lease, beat_at = v_now, beats = a.beats + 1, extended = false,
      progress = coalesce(p_progress, a.progress)
  where a.watch = p_watch and a.task_id = p_task and a.token = p_token and a.ended_at is null;
  if found then
    return '{"verdict": "held"}';
  end if;
  return unstuck.lost(p_watch, p_task, p_token);
end $$;

-- What became of an attempt that is no longer live.
create or replace function unstuck.lost(p_watch text, p_task text, p_token uuid) returns jsonb
language sql stable as $$
  select coalesce(
    (select jsonb_build_object('verdict', 'lost', 'outcome', a.outcome, 'reason', a.reason)
     from unstuck.attempts a where a.watch = p_watch and a.task_id = p_task and a.token = p_token),
    '{"verdict": "lost", "outcome": null, "reason": "unknown token"}')
$$;
