-- evidence: why workers died, as the platform's log tells it, for attempts that this very sweep
-- ended as lease_lost. It adds to the record of the past: no task changes, and no state, outcome or
-- reason of an attempt. `p_found`: [{watch, task_id, number, cause, evidence}]. Returns how many
-- attempts know more now; a repetition returns 0.
create or replace function unstuck.evidence(p_sweep bigint, p_found jsonb) returns integer
language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_count integer;
begin
  update unstuck.attempts a
  set cause = x.cause,
      evidence = x.evidence
  from jsonb_to_recordset(p_found) as x (
    watch text, task_id text, number integer, cause text, evidence text
  )
  where a.watch = x.watch
    and a.task_id = x.task_id
    and a.number = x.number
    and a.sweep_id = p_sweep
    and a.ended_at is not null
    and a.cause = 'lease_lost'
    and a.evidence is null;
  get diagnostics v_count = row_count;
  return v_count;
end $$;
