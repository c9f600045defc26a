"""What pg_cron says of the sweep that it runs (`sql --cron`). That a run "succeeded" says only that
the call came back: what the sweep did is in unstuck.sweeps, which the check `sweep` reads."""

from functions.core.policy import Policy
from functions.install.pg_cron import job_name
from functions.ops.cli.out import span
from functions.ops.doctor.finding import MISSED_SWEEPS, NO_SWEEP, Finding, fine, warns
from functions.ops.inspect.session import Connection

_JOB = """
select
  j.active,
  extract(epoch from clock_timestamp() - d.start_time)::float8,
  d.status,
  d.return_message
from cron.job j
left join lateral (
  select d.start_time, d.status, d.return_message
  from cron.job_run_details d
  where d.jobid = j.jobid
  order by d.runid desc
  limit 1
) d on true
where j.jobname = %s
"""


def cron(connection: Connection, policy: Policy) -> list[Finding]:
    """Nothing where pg_cron does not run the sweep."""
    there = connection.execute("select to_regclass('cron.job_run_details') is not null").fetchone()
    job = job_name(policy)
    row = there and there[0] and connection.execute(_JOB, (job,)).fetchone()
    if not row:
        return []
    active, age, status, message = row
    look = f"select * from cron.job_run_details order by runid desc, and cron.job for {job}"
    if not active:
        do = f"select cron.alter_job(jobid, active => true) from cron.job where jobname = '{job}'"
        return [warns(None, "pg_cron", f"the job {job} is switched off", NO_SWEEP, do)]
    if age is None or age > MISSED_SWEEPS * policy.sweep_every:
        since = "has never run" if age is None else f"ran {span(age)} ago"
        do = f"See whether pg_cron's background worker is there, and {look}."
        return [warns(None, "pg_cron", f"the job {job} {since}", NO_SWEEP, do)]
    if status == "failed":
        fact = f"the last run of the job {job} failed: {message}"
        return [warns(None, "pg_cron", fact, NO_SWEEP, f"Correct what it names; {look}.")]
    return [fine(None, "pg_cron", f"the job {job} ran {span(age)} ago")]
