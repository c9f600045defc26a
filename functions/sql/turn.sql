-- turn: gives a task of an owner its turn, whoever creates it: after the owner's others, a second
-- apart; where none of them waits, beside what is next now. So each owner who waits is next once
-- before another is next twice. The claim itself reads an index in that order and nothing more.
create or replace function unstuck.@watch@_turn() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_turn  timestamptz;
begin
  select coalesce(t.turn, t.scheduled_at) + interval '1 second'
  into v_turn
  from @table@ t
  where @is_pending(t)@
    and t.kind = new.kind
    and coalesce(t.owner, '') = new.owner
    and t.priority = new.priority
  order by
    t.kind desc,
    coalesce(t.owner, '') desc,
    t.priority,
    coalesce(t.turn, t.scheduled_at) desc
  limit 1;
  if not found then
    select coalesce(t.turn, t.scheduled_at)
    into v_turn
    from @table@ t
    where @is_pending(t)@
      and t.kind = new.kind
      and t.priority = new.priority
    order by t.kind, t.priority desc, coalesce(t.turn, t.scheduled_at)
    limit 1;
    v_turn := least(v_turn, v_now);
  end if;
  -- one for later is in the queue from then
  new.turn := greatest(v_turn, case when new.scheduled_at > v_now then new.scheduled_at end);
  return new;
end $$;

select unstuck.keep_trigger(@table_literal@, 'unstuck_turn', $trigger$
before insert on @table@
for each row when (new.owner is not null and new.turn is null and (@is_pending(new)@))
execute function unstuck.@watch@_turn()
$trigger$);
