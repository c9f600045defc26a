-- create: writes a pending task. The same idempotency key of the same owner finds the task that is there; the caller may
-- make the id, so that a create whose answer was lost can be repeated.
create or replace function unstuck.@watch@_create(
  p_kind text, p_input jsonb default '{}', p_owner text default null, p_key text default null,
  p_priority integer default 0, p_delay double precision default 0, p_metadata jsonb default '{}', p_id uuid default gen_random_uuid()
) returns jsonb language plpgsql as $$
declare
  v_task record;
begin
  insert into @table@ as t (id, kind, input, owner, idempotency_key, priority, scheduled_at, metadata)
  values (p_id, p_kind, p_input, p_owner, p_key, p_priority, clock_timestamp() + make_interval(secs => p_delay), p_metadata)
  on conflict do nothing
  returning t.id into v_task;
  if found then
    @on_created@
    return jsonb_build_object('verdict', 'created', 'task_id', v_task.id, 'state', 'pending');
  end if;
  select t.id, @state@ as state, t.kind = p_kind and t.input = p_input as same into v_task
  from @table@ t
  where t.id = p_id or coalesce(t.owner, '') = coalesce(p_owner, '') and t.idempotency_key = p_key;
  return jsonb_build_object('verdict', case when v_task.same then 'exists' else 'conflict' end,
                            'task_id', v_task.id, 'state', v_task.state);
end $$;
