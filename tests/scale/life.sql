-- The lives of many tasks: each step of all of them is one statement and one commit. They leave the
-- rows, and the versions of rows, that the verbs leave of each task (test_scale.py compares them).
create schema simulation;

-- Completed tasks of one attempt, but the first `p_failed`, whose handler fails, and the last
-- `p_lost`: their first worker dies, a sweep puts them back, and another one completes them.
create procedure simulation.lives(p_tasks integer, p_failed integer, p_lost integer)
language plpgsql as $$
declare
  v_ids  text[];
  v_lost text[];
begin
  with made as (
    insert into public.tasks (
      id, kind, input, owner, priority, scheduled_at, metadata, one_active, turn
    )
    select
      gen_random_uuid(),
      'image',
      jsonb_build_object('prompt', repeat('a cat ', 8)),
      'user-' || (random() * 1000)::integer,
      0,
      clock_timestamp(),
      '{"plan": "free"}',
      false,
      clock_timestamp()  -- as its trigger says where no other task of the owner waits
    from generate_series(1, p_tasks) n
    returning id::text
  )
  select array_agg(m.id)
  into v_ids
  from made m;
  commit;
  call simulation.work(v_ids, 1);
  if p_lost > 0 then
    v_lost := v_ids[p_tasks - p_lost + 1:];
    call simulation.put_back(v_lost);
    call simulation.work(v_lost, 2);
  end if;
  call simulation.finish(v_ids[p_failed + 1:], null);
  if p_failed > 0 then
    call simulation.finish(v_ids[:p_failed], 'handler_error');
  end if;
end $$;

-- The claim, and one heartbeat.
create procedure simulation.work(p_ids text[], p_number integer) language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  insert into unstuck.attempts (
    watch, task_id, number, tries, kind, token, worker,
    started_at, beat_at, lease, lease_until, deadline_at, checkpoint
  )
  select
    'tasks', i.id, p_number, p_number, 'image', gen_random_uuid(), 'worker-1',
    v_now, v_now, '30 s', v_now + interval '30 s', v_now + interval '5.5 min', '{}'
  from unnest(p_ids) as i (id);
  update public.tasks t
  set status = 'processing', started_at = v_now, updated_at = v_now
  where t.id = any (p_ids::uuid[]);
  commit;
  v_now := clock_timestamp();
  update unstuck.attempts a
  set lease_until = v_now + a.lease, beat_at = v_now, beats = a.beats + 1, extended = false
  where a.watch = 'tasks' and a.task_id = any (p_ids) and a.ended_at is null;
  commit;
end $$;

-- What a sweep does with attempts whose lease has run out.
create procedure simulation.put_back(p_ids text[]) language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  update unstuck.attempts a
  set ended_at = v_now,
      outcome = 'retried',
      reason = 'lease_lost',
      cause = 'lease_lost',
      error = 'The worker stopped without a word.',
      retry_at = v_now,
      sweep_id = 1
  where a.watch = 'tasks' and a.task_id = any (p_ids) and a.ended_at is null;
  call simulation.pass_the_fence();
  update public.tasks t
  set status = 'pending', scheduled_at = v_now, updated_at = v_now
  where t.id = any (p_ids::uuid[]);
  commit;
end $$;

-- The settle: completed, or failed with `p_reason`.
create procedure simulation.finish(p_ids text[], p_reason text) language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_state constant text := case when p_reason is null then 'completed' else 'failed' end;
  v_error constant text := case when p_reason is not null then 'The picture is too large.' end;
begin
  update unstuck.attempts a
  set ended_at = v_now,
      outcome = v_state,
      reason = p_reason,
      cause = p_reason,
      error = v_error,
      detail = case when p_reason is not null then 'ValueError: 9000 x 9000' end
  where a.watch = 'tasks' and a.task_id = any (p_ids) and a.ended_at is null;
  call simulation.pass_the_fence();
  update public.tasks t
  set status = v_state,
      error_message = v_error,
      reason = p_reason,
      result = case when p_reason is null then '{"url": "https://example.org/cat.png"}'::jsonb end,
      finished_at = v_now,
      updated_at = v_now
  where t.id = any (p_ids::uuid[]);
  commit;
end $$;

-- As settle and sweep do it, in this transaction.
create procedure simulation.pass_the_fence() language plpgsql as $$
declare
  v_pass constant text := set_config('unstuck.override', 'tasks/0', true);
begin
end $$;

-- The same lives by the verbs, one after the other: of ten tasks one fails, one is tried again, and
-- the others are completed. The worker of the first one dies where `p_dies`.
create procedure simulation.verbs(p_tasks integer, p_rules jsonb, p_dies boolean)
language plpgsql as $$
declare
  v_answer jsonb;
  v_asked  text;
begin
  for v_number in 1..p_tasks loop
    perform unstuck.tasks_create(
      'image',
      jsonb_build_object('prompt', repeat('a cat ', 8)),
      'user-' || (random() * 1000)::integer,
      p_metadata => '{"plan": "free"}',
      p_rules => p_rules
    );
    commit;
    v_answer := unstuck.tasks_claim(null, 'worker-1', p_rules);
    commit;
    continue when v_answer ->> 'verdict' <> 'claimed' or v_number = 1 and p_dies;
    perform unstuck.beat('tasks', v_answer ->> 'task_id', (v_answer ->> 'token')::uuid);
    commit;
    v_asked := case v_number % 10 when 2 then 'fail' when 3 then 'retry' else 'complete' end;
    perform unstuck.tasks_settle(
      v_answer ->> 'task_id',
      (v_answer ->> 'token')::uuid,
      v_asked,
      p_rules,
      case v_asked when 'complete' then '{"url": "https://example.org/cat.png"}'::jsonb end,
      case when v_asked <> 'complete' then 'handler_error' end,
      case when v_asked <> 'complete' then 'The picture is too large.' end,
      case when v_asked <> 'complete' then 'ValueError: 9000 x 9000' end,
      0
    );
    commit;
  end loop;
end $$;

-- The rows of the last hour's runs of the sweep that had nothing to do, one a minute: begun, its
-- batch, its end.
create procedure simulation.idle_runs(p_count integer) language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_ids bigint[];
begin
  with made as (
    insert into unstuck.sweeps (key, by, started_at, until, run)
    select r.at::text, 'scheduler', r.at, r.at + interval '45 s', gen_random_uuid()
    from (
      select v_now - n * interval '1 min' as at
      from generate_series(p_count, 1, -1) n
    ) r
    returning id
  )
  select array_agg(m.id)
  into v_ids
  from made m;
  commit;
  update unstuck.sweeps s
  set batch = gen_random_uuid(), batch_at = s.started_at, turns_at = s.started_at
  where s.id = any (v_ids);
  commit;
  update unstuck.sweeps s
  set ended_at = s.started_at + interval '10 ms',
      ok = true,
      counts = jsonb_build_object(
        'failed', 0, 'pruned', 231, 'complete', true, 'orphaned', 0, 'requeued', 0,
        'suspended', 0, 'unsweepable', 0, 'redispatched', 0,
        'oldest_overdue_seconds', 0.0, 'oldest_pending_seconds', 0.0
      )
  where s.id = any (v_ids);
  commit;
end $$;
