-- batch: one batch of a sweep's run, named by the caller. A batch whose answer was lost is not
-- swept again: what it did is read from the ledger, so that each task is reported once. While the
-- first call still runs, the second waits. What workers did last (`turns`) is read once in a second
-- for all batches of the run; where nobody needs it, it is not kept.
create or replace function unstuck.@watch@_batch(
  p_rules jsonb,
  p_limit integer,
  p_sweep bigint,
  p_batch uuid,
  p_skip text[] default '{}'
) returns json language plpgsql as $$
declare
  v_now    timestamptz;
  v_last   record;
  v_turns  jsonb;
  v_answer json;
begin
  select s.batch, s.batch_at, s.turns, s.turns_at
  into v_last
  from unstuck.sweeps s
  where s.id = p_sweep
  for update;
  if v_last.batch = p_batch then
    return (
      select json_build_object(
        'unsweepable', '{}'::json[],
        'more', true,
        'rescued', coalesce(json_agg(json_build_object(
          'task_id', a.task_id,
          'kind', a.kind,
          'number', a.number,
          'tries', a.tries,
          'worker', a.worker,
          'reason', a.reason,
          'state', case a.outcome when 'retried' then 'pending' else a.outcome end,
          'cause', a.cause,
          'error', a.error,
          'retry_after', extract(epoch from a.retry_at - a.ended_at),
          'late', 0
        )), '[]')
      )
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.sweep_id = p_sweep
        and a.ended_at >= v_last.batch_at
    );
  end if;
  v_now := clock_timestamp();
  if v_last.turns_at > v_now - interval '1 second' then
    v_turns := v_last.turns -> '@watch@';
  end if;
  if v_turns is null then
    v_last.turns_at := v_now;
    v_turns := nullif(unstuck.@watch@_turns(v_now, p_rules, 'pending_for'), '{}');
  end if;
  perform set_config('unstuck.turns', coalesce(v_turns::text, '{}'), true);
  v_answer := unstuck.@watch@_sweep(p_rules, p_limit, p_sweep, null, p_skip);
  perform set_config('unstuck.turns', '', true);
  update unstuck.sweeps s
  set batch = p_batch,
      batch_at = v_now,
      turns = case when v_turns is not null then jsonb_build_object('@watch@', v_turns) end,
      turns_at = v_last.turns_at
  where s.id = p_sweep;
  return v_answer;
end $$;
