-- beat: the heartbeat. It says that the attempt lives, and brings its progress along. A lease that
-- was taken away is not revived.
create or replace function unstuck.beat(
  p_watch text,
  p_task text,
  p_token uuid,
  p_progress jsonb default null
) returns jsonb language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  update unstuck.attempts a
  set lease_until = v_now + a.lease,
      beat_at = v_now,
      beats = a.beats + 1,
      extended = false,
      progress = coalesce(a.progress || p_progress, p_progress, a.progress)
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null;
  if found then
    return '{"verdict": "held"}';
  end if;
  return unstuck.lost(p_watch, p_task, p_token, 'beat');
end $$;

-- Records a write that was refused. Of one task at most 50: who repeats a refused write fills no
-- table.
create or replace function unstuck.refused(
  p_watch text,
  p_task text,
  p_source text,
  p_wanted text,
  p_because text,
  p_token uuid,
  p_writer text
) returns void language sql as $$
  insert into unstuck.refusals (watch, task_id, source, wanted, because, token, writer)
  select p_watch, p_task, p_source, p_wanted, p_because, p_token, p_writer
  where not exists (
    select from unstuck.refusals r
    where r.watch = p_watch and r.task_id = p_task
    offset 49
  )
$$;

-- The answer to a write of an attempt that has ended: what became of it. The refused write is
-- recorded in unstuck.refusals.
create or replace function unstuck.lost(p_watch text, p_task text, p_token uuid, p_wanted text)
returns jsonb language plpgsql as $$
declare
  v_attempt record;
begin
  select a.outcome, a.reason, a.kind, a.number
  into v_attempt
  from unstuck.attempts a
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token;
  perform unstuck.refused(
    p_watch,
    p_task,
    'verb',
    p_wanted,
    coalesce(v_attempt.outcome, 'unknown token'),
    p_token,
    current_setting('application_name', true)
  );
  return jsonb_build_object(
    'verdict', 'lost',
    'outcome', v_attempt.outcome,
    'reason', v_attempt.reason,
    'kind', v_attempt.kind,
    'number', v_attempt.number
  );
end $$;
