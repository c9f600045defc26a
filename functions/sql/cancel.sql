-- cancel: what a user does to a task of their own (`p_owner`; null: of anybody). The worker that
-- runs it finds its lease lost. Safe to repeat. Verdict cancelled; ended (too late); or missing,
-- which is also what another user's task is.
create or replace function unstuck.@watch@_cancel(p_task text, p_owner text default null)
returns jsonb language plpgsql as $$
declare
  v_key  constant @key_type@ := p_task::@key_type@;
  v_task record;
  v_last record;
begin
  perform unstuck.@watch@_hold(array[p_task]);
  select @state(t)@ as state, @kind(t)@ as kind, @owner(t)@ as owner
  into v_task
  from @table@ t
  where t.@key@ = v_key;
  if not found or p_owner is not null and v_task.owner is distinct from p_owner then
    return '{"verdict": "missing"}';
  end if;
  if v_task.state is null or v_task.state in ('completed', 'failed', 'cancelled') then
    return jsonb_build_object('verdict', 'ended', 'task_id', p_task, 'state', v_task.state);
  end if;
  perform unstuck.@watch@_operate('cancel', array[p_task]);
  select @state(t)@
  into v_task.state
  from @table@ t
  where t.@key@ = v_key;
  select a.number, a.tries, a.reason
  into v_last
  from unstuck.attempts a
  where a.watch = '@watch@'
    and a.task_id = p_task
  order by a.number desc
  limit 1;
  return jsonb_build_object(
    'verdict', 'cancelled',
    'task_id', p_task,
    'kind', v_task.kind,
    'state', v_task.state,
    'number', v_last.number,
    'tries', v_last.tries,
    'reason', v_last.reason
  );
end $$;
