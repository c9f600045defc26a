-- turn: gives a task of an owner its turn, whoever creates it: after the owner's others, a second
-- apart; where none of them waits, beside what is next now. So each owner who waits is next once
-- before another is next twice. What is next is so of its kind. Where nothing of its kind waits, it
-- is so of all kinds, and no earlier than what runs, since a limit or a pause may hold up what is;
-- then it comes after the owner's last of this kind too, so that who asks again and again has not
-- each turn. The claim itself reads an index in that order and nothing more.
create or replace function unstuck.@watch@_turn() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_turn  timestamptz;
  v_front timestamptz;
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
    if not found then
      select max(coalesce(r.turn, r.scheduled_at))
      into v_front
      from (
        select t.turn, t.scheduled_at, t.priority
        from @table@ t
        where @is_running(t)@
        order by t.updated_at desc
        limit 4
      ) r
      where r.priority = new.priority;
      select coalesce(t.turn, t.scheduled_at)
      into v_turn
      from @table@ t
      where @is_pending(t)@
        and t.priority = new.priority
        and coalesce(t.turn, t.scheduled_at) >= coalesce(v_front, '-infinity')
      order by t.priority desc, coalesce(t.turn, t.scheduled_at)
      limit 1;
      select case
        when v_turn is not null then
          greatest(v_turn, max(coalesce(o.turn, o.scheduled_at)) + interval '1 second')
      end
      into v_turn
      from (
        select t.turn, t.scheduled_at, t.kind, t.priority
        from @table@ t
        where t.owner = new.owner
        order by t.created_at desc
        limit 4
      ) o
      where o.kind = new.kind and o.priority = new.priority;
    end if;
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
