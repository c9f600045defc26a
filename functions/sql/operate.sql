-- operate: what a person does to tasks by hand. `p_action`: cancel or fail (open tasks), requeue
-- (running ones, without burning a try), retry (failed and cancelled ones start again). Returns the
-- tasks that moved; the others were not in such a state. The caller names the call (`p_key`), so
-- that one whose answer was lost can be repeated: it would requeue a task twice otherwise.
create or replace function unstuck.@watch@_operate(
  p_action text,
  p_ids text[],
  p_error text default null,
  p_key uuid default gen_random_uuid()
) returns json language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_state   constant text := case p_action
    when 'cancel' then 'cancelled'
    when 'fail' then 'failed'
    else 'pending'
  end;
  v_outcome constant text := case v_state when 'pending' then 'released' else v_state end;
  v_reason  constant text := case p_action when 'cancel' then 'cancelled' else 'by_hand' end;
  v_error   constant text := coalesce(p_error, unstuck.sentence(v_reason, null, 0));
  v_moved   text[];
begin
  @as_role@
  if @born_running@ and v_state = 'pending' then
    raise exception 'the watch % has no word for pending: none of its tasks can be put back',
      '@watch@' using errcode = 'wrong_object_type', hint = 'Cancel it or fail it.';
  end if;
  insert into unstuck.operations (key, watch, action)
  values (p_key, '@watch@', p_action)
  on conflict do nothing;
  if not found then
    return (select to_json(o.moved) from unstuck.operations o where o.key = p_key);
  end if;
  perform unstuck.@watch@_hold(p_ids);
  perform set_config('unstuck.override', '@watch@', true);  -- the fence lets a person pass
  select array_agg(d.id)
  into v_moved
  from (
    select t.@key@::text as id
    from @table@ t
    where t.@key@ = any (p_ids::@key_type@[])
      and case p_action
        when 'cancel' then @is_pending(t)@ or @is_running(t)@ or @is_resting(t)@
        when 'fail' then @is_pending(t)@ or @is_running(t)@
        when 'requeue' then @is_running(t)@
        when 'retry' then (@is_failed(t)@ or @is_cancelled(t)@) and @is_free(t, p_ids)@
      end
    order by t.@key@
  ) d;

  update unstuck.attempts a
  set ended_at = v_now,
      outcome = v_outcome,
      reason = v_reason,
      error = v_error,
      retry_at = case v_state when 'pending' then v_now end
  where a.watch = '@watch@'
    and a.task_id = any (v_moved)
    and a.ended_at is null;
  if v_state <> 'pending' then  -- a task that nobody held has its reason in the ledger too
    insert into unstuck.attempts (
      watch, task_id, number, tries, kind, token,
      started_at, lease, lease_until, deadline_at, beat_at, ended_at,
      outcome, reason, error
    )
    select
      '@watch@', m.id, coalesce(l.number, 0) + 1, coalesce(l.tries, 0), @kind(t)@,
      gen_random_uuid(),
      v_now, '0', v_now, v_now, v_now, v_now,
      v_outcome, v_reason, v_error
    from unnest(v_moved) as m (id)
    join @table@ t on t.@key@ = m.id::@key_type@
    left join lateral (
      select a.number, a.tries, a.ended_at
      from unstuck.attempts a
      where a.watch = '@watch@' and a.task_id = m.id
      order by a.number desc
      limit 1
    ) l on true
    where l.ended_at is distinct from v_now;
  end if;

  update @table@ t
  set @move(t, x)@
  from (
    select
      v_state as state,
      null::jsonb as result,
      v_reason as reason,
      v_error as error,
      v_now as retry_at
  ) x
  where t.@key@ = any (v_moved::@key_type@[]);
  if v_state = 'pending' and @sees_put_back@ then
    perform unstuck.put_back('@watch@', v_moved);
  end if;
  if p_action = 'fail' then
    @each_on_failed_by_hand(v_moved, v_now)@
  elsif p_action = 'cancel' then
    @each_on_cancelled_by_hand(v_moved, v_now)@
  elsif p_action = 'retry' then
    @each_on_reopened(v_moved)@
  end if;
  if v_moved is not null and (@has_callback@ or v_outcome in (@told_outcomes@)) then
    perform unstuck.@watch@_tell(array_agg(a.task_id), array_agg(a.number))
    from unstuck.attempts a
    where a.watch = '@watch@'
      and a.task_id = any (v_moved)
      and a.ended_at = v_now;
  end if;
  perform set_config('unstuck.override', '', true);
  update unstuck.operations o
  set moved = v_moved
  where o.key = p_key
    and v_moved is not null;
  return coalesce(to_json(v_moved), '[]');
end $$;

-- Locks tasks and their live attempts, to the end of the transaction. A settle locks the attempt
-- first and then the task; a claim has locked the task when it adds the attempt. So this waits for
-- an attempt only while it holds no task: else it and a settle could wait for each other.
create or replace function unstuck.@watch@_hold(p_ids text[]) returns void
language plpgsql as $$
declare
  v_tasks_held boolean;
begin
  loop
    begin
      v_tasks_held := false;
      perform
      from @table@ t
      where t.@key@ = any (p_ids::@key_type@[])
      order by t.@key@
      for update;
      v_tasks_held := true;
      perform
      from unstuck.attempts a
      where a.watch = '@watch@'
        and a.task_id = any (p_ids)
        and a.ended_at is null
      order by a.task_id
      for update nowait;
      return;
    exception when lock_not_available then  -- the tasks are free again
      if not v_tasks_held then  -- it was the caller's lock_timeout
        raise;
      end if;
    end;
    perform
    from unstuck.attempts a
    where a.watch = '@watch@'
      and a.task_id = any (p_ids)
      and a.ended_at is null
    order by a.task_id
    for update;
  end loop;
end $$;
