-- heed: looks whether the sweep by pg_cron is older than three of its intervals, and has it told. A
-- poll calls it, and triggers that the schedule makes: on a claim, and on a new row. Where no
-- pg_cron was asked to sweep, it reads one empty table.
create or replace function unstuck.heed() returns void language plpgsql as $$
declare
  v_silent record;
begin
  for v_silent in
    select w.installation, coalesce(s.started_at, w.since) as at
    from unstuck.watchdog w
    left join lateral (
      select s.started_at
      from unstuck.sweeps s
      where s.installation = w.installation
      order by s.id desc
      limit 1
    ) s on true
    where coalesce(s.started_at, w.since) < clock_timestamp() - 3 * w.every
  loop
    if not current_setting('transaction_read_only')::boolean then
      perform unstuck.tell_silence(v_silent.installation, v_silent.at);
    end if;
  end loop;
end $$;

create or replace function unstuck.heeded() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform unstuck.heed();
  return null;
end $$;
