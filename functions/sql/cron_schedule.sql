-- cron_schedule: two jobs of pg_cron: the sweep, and what deletes the rows of old runs, since
-- pg_cron keeps one for each run for ever. `select cron.unschedule('@job@')` ends one.
create extension if not exists pg_cron;
insert into unstuck.watchdog as w (installation, every)
values ('@installation@', '@seconds@ seconds')
on conflict (installation) do update
set every = excluded.every,
    since = clock_timestamp();
select unstuck.keep_trigger('unstuck.attempts', 'unstuck_heed', $trigger$
after insert on unstuck.attempts
for each statement execute function unstuck.heeded()
$trigger$);
@heeded@
select cron.schedule('@job@', '@every@', 'call unstuck.@procedure@()');
select cron.schedule('unstuck-history', '17 3 * * *', $job$
delete from cron.job_run_details d
using cron.job j
where j.jobid = d.jobid
  and (j.jobname = 'unstuck-history' or j.jobname like 'unstuck-sweep%')
  and coalesce(d.end_time, d.start_time) < now() - interval '@history@'
$job$);
