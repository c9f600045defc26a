-- held_by: the attempts that a worker holds of which the platform's log says, in a line of the time
-- `p_at`, that it is gone. Not those that began later, or had run for less than `p_age` seconds
-- then; and none whose heartbeat came later: then it is not gone. Two seconds later is no later,
-- since the line has another clock. Writes nothing: whoever asks ends them by their tokens.
create or replace function unstuck.held_by(
  p_worker text,
  p_at timestamptz,
  p_age double precision default 0
) returns json language sql stable as $$
  select coalesce(
    json_agg(json_build_object('watch', a.watch, 'task_id', a.task_id, 'token', a.token)), '[]'
  )
  from unstuck.attempts a
  where a.ended_at is null
    and a.worker = p_worker
    and a.started_at <= p_at - make_interval(secs => p_age)
    and a.beat_at <= p_at + interval '2 seconds'
$$;
