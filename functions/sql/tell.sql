-- tell: puts into the outbox what people are to be told of attempts that have ended, in the
-- transaction that ended them, whoever did: a row for each address that the policy names for the
-- kind and the end, and one for the task's own callback. Where the policy does not say `notify`,
-- nothing is put there before somebody asks for it.
create or replace function unstuck.@watch@_tell(p_ids text[], p_numbers integer[]) returns void
language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_routes constant jsonb := '@routes@';
begin
  insert into unstuck.outbox (watch, task_id, number, kind, reason, cause, state, address, url)
  select
    '@watch@', a.task_id, a.number, a.kind, coalesce(a.reason, a.outcome), a.cause, a.outcome,
    r.address, r.url
  from unnest(p_ids, p_numbers) as e (task_id, number)
  join unstuck.attempts a
    on a.watch = '@watch@' and a.task_id = e.task_id and a.number = e.number
  left join @table@ t on t.@key@ = a.task_id::@key_type@
  cross join lateral (
    select n.name, null
    from jsonb_array_elements_text(coalesce(v_routes -> a.kind, v_routes -> '*') -> a.outcome)
      as n (name)
    where @tells_always@
      or exists (select from unstuck.addresses d where d.name = n.name and unstuck.hears(d))
    union all
    select 'callback', @callback(t)@
    where a.outcome in ('completed', 'failed', 'cancelled')
      and @callback(t)@ is not null
  ) as r (address, url);
end $$;
