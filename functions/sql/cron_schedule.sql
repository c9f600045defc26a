-- cron_schedule: two jobs of pg_cron: the sweep, and what deletes the rows of old runs, since
-- pg_cron keeps one for each run for ever. `select cron.unschedule('unstuck-sweep')` ends one.
create extension if not exists pg_cron;
select cron.schedule('unstuck-sweep', '@every@', 'call unstuck.cron_sweep()');
select cron.schedule('unstuck-history', '17 3 * * *', $job$
delete from cron.job_run_details d
using cron.job j
where j.jobid = d.jobid
  and j.jobname in ('unstuck-sweep', 'unstuck-history')
  and coalesce(d.end_time, d.start_time) < now() - interval '@history@'
$job$);
